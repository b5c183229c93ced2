"""The stories of ``tests/functional/test_stories.py`` that need a broker, on RabbitMQ, with SQLite."""

import os
import time

from oslo_config import cfg

from external_events_router import context
from external_events_router import events
from external_events_router.messaging import rpc
from external_events_router.operations import simulate as simulate_command
from external_events_router.resolver import rpcapi
from tests.faults import broker
from tests.functional import fixtures
from tests.functional import stories
from tests.functional.stories import NAME
from tests.functional.stories import ON_B
from tests.functional.stories import PLACED
from tests.functional.stories import PORT
from tests.functional.stories import plugged
from tests.integration import deployment
from tests.integration import services
from tests.unit.db import databases

#: Seconds for which the broker is stopped.
AWAY = float(os.environ.get('EER_TEST_BROKER_AWAY', 3.0))


class OnRabbitTest(stories.StoryTestCase):
    TIMEOUT_SCALING_FACTOR = 5

    def start(self, url=None, **options):
        options = {'handling': False, 'delivery__ack_timeout': 2.0, **options}
        url = url or self.useFixture(services.RabbitMQ()).url
        self.watch(self.useFixture(fixtures.Router(stories.HOSTS_OF, transport_url=url, **options)))
        return self.router

    def begin_to_wait(self):
        self.waiting = self.router.agent('host-a').expect(PLACED, [(NAME, PORT)], timeout=fixtures.PATIENCE)
        self.waiting.__enter__()

    def test_08_no_queue_and_delivered_in_time(self):
        router = self.start(hosts=())
        self.assertEqual([200], router.post(plugged()).codes)
        self.assert_explained('held_no_queue', 3, step='systemctl status external-events-agent')
        router.start_agents(('host-a',), prepare=self.begin_to_wait)
        self.waiting.wait()
        self.assert_explained(
            'delivered', 0, sentence='received by a waiter', step='another event is missing'
        )

    def test_09_no_queue_and_delivered_too_late(self):
        router = self.start(hosts=())
        router.post(plugged())
        self.assert_explained('held_no_queue', 3)
        router.start_agents(('host-a',))
        self.assert_explained(
            'delivered_late', 3, sentence='when nothing was waiting for it. It was held for'
        )

    def test_10_host_unresponsive_until_the_event_expires(self):
        url = self.useFixture(services.RabbitMQ()).url
        router = self.start(url, hosts=(), delivery__event_ttl=6.0)
        self.consume_and_do_nothing('compute.host-a')
        self.assertEqual([200], router.post(plugged()).codes)
        self.assert_explained('held_silent_host', 3, sentence='no acknowledgement in time')
        answer = self.assert_explained('expired', 3, sentence='no host handled it')
        self.assertEqual(
            f'external-events-manage held retry {answer["event"]}', answer['next_step']['command']
        )

    def consume_and_do_nothing(self, queue):
        """A consumer of the queue of a host that hangs."""
        connection = rpc.get_broker(cfg.CONF).connect()
        self.addCleanup(connection.collect)
        channel = connection.channel()
        channel.queue_declare(queue, durable=True, auto_delete=False)
        channel.queue_bind(queue, self.router.conf.control_exchange, queue)
        channel.basic_consume(queue, no_ack=True)

    def test_11_broker_unavailable_for_a_while(self):
        rabbit = self.useFixture(broker.Broker())
        router = self.start(rabbit.url())
        with router.agent('host-a').expect(PLACED, [(NAME, PORT)], timeout=fixtures.PATIENCE) as waiting:
            self.assertEqual([200], router.post(plugged(ON_B)).codes)
            rabbit.kill()
            began = time.monotonic()
            # As an API with a resolver of its own does: there is no call over the broker.
            (outcome,) = router.resolver.route(
                context.RequestContext(), [events.Event(NAME, PLACED, PORT)], ack_timeout=2.0, timeout=3.0
            )
            self.assertEqual(200, outcome.code)
            self.assert_explained('held_broker_unavailable', 3, step='rabbitmqctl cluster_status')
            time.sleep(max(0.0, AWAY - (time.monotonic() - began)))
            rabbit.start()
            waiting.wait()
        self.assert_explained('delivered', 0, sentence='It was held for')

    def test_simulate_reads_the_queues(self):
        router = self.start(hosts=('host-a',))
        api = rpcapi.OperatorAPI.from_conf(router.conf, router.transport)

        def collect(server):
            return simulate_command.collect(
                router.conf, router.database, server, breakers=lambda hosts: api.breakers(hosts, timeout=10.0)
            )

        (host,) = collect(PLACED).hosts
        self.assertEqual((True, 1, 'closed'), (host.queue, host.consumers, host.breaker))
        (host,) = collect(ON_B).hosts
        self.assertEqual((False, None, 'closed'), (host.queue, host.consumers, host.breaker))


class ProcessesTest(stories.StoryTestCase):
    TIMEOUT_SCALING_FACTOR = 5

    def test_14_another_worker_delivers_the_event_of_a_worker_that_was_killed(self):
        deployed = self.useFixture(
            deployment.Deployment(
                transport_url=self.useFixture(services.RabbitMQ()).url,
                connection=f'sqlite:///{self.useFixture(services.Folder()).path}/router.sqlite',
                hosts=(),
                hosts_of=stories.HOSTS_OF,
                api__workers=1,
                resolver__workers=1,
                delivery__ack_timeout=2.0,
            )
        )
        self.watch(Watched(self, deployed))
        self.assertEqual((200, [200]), deployed.post(plugged()))
        self.assert_explained('held_no_queue', 3)
        for pid in services.children(deployed.resolver.pid):
            services.kill(pid)
        services.kill(deployed.resolver.pid)
        deployed.resolver.process.wait(deployment.PATIENCE)
        deployed.start_agents('agents', 'host-a')
        deployed.start_resolver('resolver-again')
        # The recording agents have a handler, and so need no waiter.
        self.assert_explained('delivered', 0, sentence='It was held for')
        self.assertEqual([PLACED], [line['server_uuid'] for line in deployed.handled()])
        self.assertLess(1, len(self.workers()))


class Watched:
    """A deployment, as the stories see a router."""

    def __init__(self, case, deployed):
        self.database = databases.database(deployed.connection)
        case.addCleanup(self.database.close)

    def wait_until(self, condition):
        deployment.wait_until(condition, 'a condition')
