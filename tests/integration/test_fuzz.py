"""Arbitrary messages in every queue of a running deployment, beside a valid load that must not notice.

Every client with credentials of the broker can send them. The strategies and the environment
variables for more examples and another seed are in ``tests/fuzzing.py``.
"""

import collections
import pathlib
import threading
import time
import urllib.error

import amqp
import hypothesis
from hypothesis import strategies as st
import sqlalchemy as sa

from tests import base
from tests import fuzzing
from tests.integration import abuse
from tests.integration import deployment
from tests.integration import services

#: Examples, and messages of each, to one queue after the other.
EXAMPLES, MESSAGES = 10, 30

HOSTS = ('host-a', 'host-b')
LOAD = {f'10ad0000-0000-4000-8000-00000000000{number}': [HOSTS[number % 2]] for number in range(6)}

#: Seconds between two batches of the load.
PAUSE = 0.05

#: Bytes that all logs together may have, and one line of them.
MOST_LOGGED, LONGEST_LINE = 1_000_000, 4_000

#: MiB that a process may grow by: a body of 20 MB is several times as large once it is parsed.
GROWTH = 300

RESOLVER_TOPIC = 'external-events-resolver'
TOPICS = ('compute.', RESOLVER_TOPIC, 'external-events-reports', 'external-events-acks')


class Load(threading.Thread):
    """Posts batches of valid events until it is stopped.

    :ivar tags: of the events that were sent, in their order, by server
    :ivar problems: descriptions of the answers other than 200
    """

    def __init__(self, router):
        super().__init__(name='load', daemon=True)
        self.router = router
        self.tags = collections.defaultdict(list)
        self.problems = []
        self.over = threading.Event()

    def run(self):
        number = 0
        while not self.over.is_set():
            self.post(number)
            number += 1
            self.over.wait(PAUSE)

    def post(self, number):
        """Post one event for each server."""
        batch = []
        for server in LOAD:
            tag = f'load-{number}'
            self.tags[server].append(tag)
            batch.append({'name': 'network-changed', 'server_uuid': server, 'tag': tag})
        try:
            status, codes = self.router.post(*batch)
        except urllib.error.HTTPError as exc:
            status, codes = exc.code, []
        except OSError as exc:
            status, codes = repr(exc), []
        if status != 200:
            self.problems.append(f'batch {number}: {status} {codes}')

    def stop(self):
        """Post no more."""
        self.over.set()
        self.join()


class Publisher:
    """Publishes any body with any properties, as any client of the broker can."""

    def __init__(self, url):
        url = sa.make_url(url)
        self.connection = amqp.Connection(
            f'{url.host}:{url.port or 5672}', url.username, url.password, virtual_host=url.database
        )
        self.connection.connect()
        self.channel = self.connection.channel()
        self.sent = 0

    def publish(self, exchange, key, sent):
        """Publish one message; one for a queue that is not there is dropped by the broker."""
        message = amqp.Message(sent.body, **sent.properties)
        self.channel.basic_publish(message, exchange, routing_key=key)
        self.sent += 1

    def waiting(self, queue):
        """The number of messages that wait in a queue."""
        return self.channel.queue_declare(queue, passive=True).message_count


class FuzzTest(base.TestCase):
    """Over AMQP directly, and over oslo.messaging alone."""

    TIMEOUT_SCALING_FACTOR = 5

    def deploy(self, **options):
        broker = self.useFixture(services.RabbitMQ())
        database = self.useFixture(services.MySQL())
        router = self.useFixture(
            deployment.Deployment(
                transport_url=broker.url,
                connection=database.url,
                hosts=HOSTS,
                hosts_of={**LOAD, fuzzing.SERVERS[0]: [fuzzing.HOSTS[0]], fuzzing.SERVERS[1]: []},
                **options,
            )
        )
        publisher = Publisher(broker.url)
        self.addCleanup(publisher.connection.close)
        return router, publisher

    def targets(self, queues):
        """Exchange and routing key of each queue, and of all workers of a topic."""
        # NOTE: the exchange without a name puts a message into the queue of that name.
        return [('', queue) for queue in queues] + [(f'{RESOLVER_TOPIC}_fanout', '')]

    def queues_of(self, router):
        """The queues of hosts, of resolver workers and of their acknowledgements."""
        url = sa.make_url(router.transport_url)
        listed = services.list_queues(url.database)
        return [name for name in listed if name.startswith(TOPICS) and 'fanout' not in name]

    def attack(self, router, publisher):
        """Publish everything while the load runs.

        :returns: the load, which is over
        """
        queues = self.queues_of(router)
        for part in ('compute.host-a', 'compute.host-b', *TOPICS):
            self.assertTrue(any(name.startswith(part) for name in queues), (part, queues))
        targets = self.targets(queues)
        load = Load(router)
        load.start()
        self.addCleanup(load.stop)

        @fuzzing.examples(EXAMPLES)
        @hypothesis.given(st.lists(fuzzing.SENT, min_size=MESSAGES, max_size=MESSAGES))
        def publish(batch):
            for number, sent in enumerate(batch):
                publisher.publish(*targets[(publisher.sent + number) % len(targets)], sent)

        publish()
        for body in fuzzing.unusual():
            large = len(body) > 1_000_000
            for target in targets[:1] + targets[-2:-1] if large else targets:
                publisher.publish(*target, fuzzing.Sent(body, fuzzing.JSON))
        for queue in queues:
            deployment.wait_until(lambda queue=queue: not publisher.waiting(queue), f'an empty {queue}')
        # Events that are sent to a host after all these messages are handled, too.
        for number in range(3):
            time.sleep(PAUSE)
            load.post(f'last-{number}')
        load.stop()
        return load

    def check(self, *, router, load, pids, memory):
        """Nobody has noticed."""
        self.assertEqual([], load.problems)
        # Events that were held meanwhile are delivered a little later.
        sent = sum(map(len, load.tags.values()))
        deployment.wait_until(lambda: len(self.handled(router)) >= sent, 'the events of the load')
        handled = collections.defaultdict(list)
        for line in self.handled(router):
            self.assertIn(line['host'], LOAD[line['server_uuid']])
            handled[line['server_uuid']].append(line['tag'])
        for server, tags in load.tags.items():
            self.assertEqual(sorted(tags), sorted(handled[server]))
        self.assertEqual(pids, self.processes(router))
        for pid, before in memory.items():
            self.assertLess(abuse.resident(pid) - before, GROWTH, pid)
        total = 0
        for process in router.processes:
            text = pathlib.Path(process.log).read_text(errors='replace')
            total += len(text)
            self.assertNotIn('Traceback', text, text[max(0, text.find('Traceback') - 2000) :][:5000])
            self.assertLess(max(map(len, text.splitlines()), default=0), LONGEST_LINE, process.name)
        self.assertLess(total, MOST_LOGGED)

    def handled(self, router):
        """The records of the agents about the events of the load."""
        return [
            line
            for line in router.handled()
            if (line['tag'] or '').startswith('load-') and line['server_uuid'] in LOAD
        ]

    def processes(self, router):
        """All processes of a deployment."""
        pids = []
        for process in router.processes:
            pids += [process.pid, *services.children(process.pid)]
        return pids

    def judge(self, **options):
        router, publisher = self.deploy(**options)
        pids = self.processes(router)
        memory = {pid: abuse.resident(pid) for pid in pids}
        load = self.attack(router, publisher)
        self.check(router=router, load=load, pids=pids, memory=memory)

    def test_over_amqp(self):
        self.judge()

    def test_over_oslo_messaging(self):
        self.judge(compute__direct_amqp='false')
