"""Fourteen stories of events, as operators report them, with the verdict and the next step of ``explain``.

Over ``fake://``; stories that need a broker are also in ``tests/integration/test_stories.py``.
"""

import threading

from oslo_config import cfg
from oslo_policy import opts as policy_opts

from external_events_router import events
from external_events_router import exceptions
from external_events_router.agent import rpcapi as agent_rpcapi
from external_events_router.operations import replay
from external_events_router.resolver import rpcapi
from tests.functional import fixtures
from tests.functional import stories
from tests.functional.stories import MOVING
from tests.functional.stories import NAME
from tests.functional.stories import ON_B
from tests.functional.stories import PLACED
from tests.functional.stories import PORT
from tests.functional.stories import SHELVED
from tests.functional.stories import plugged


class StoriesTest(stories.StoryTestCase):
    def start(self, **options):
        options = {'handling': False, 'delivery__ack_timeout': 5.0, **options}
        self.watch(self.useFixture(fixtures.Router(stories.HOSTS_OF, **options)))
        return self.router

    def wait_on(self, host, *, server=PLACED, timeout=fixtures.PATIENCE):
        """Begin to wait for the event of the port, as the software on the host does."""
        return self.router.agent(host).expect(server, [(NAME, PORT)], timeout=timeout)

    def test_01_never_posted(self):
        router = self.start()
        router.post(plugged(port='port-2'))
        router.post(plugged(ON_B))
        self.check(
            self.complete(port=PORT),
            'never_posted',
            4,
            sentence=f'Other events of the server did arrive: 1 x {NAME} (port-2)',
            step='/var/log/neutron/neutron-server.log',
        )

    def test_02_sender_may_not_post(self):
        router = self.start(oslo_policy__policy_file=self.policy())
        self.assertEqual(403, router.post(plugged()).status)
        self.check(
            self.complete(), 'refused', 3, sentence='refused with 403', step='openstack role assignment list'
        )

    def policy(self):
        """A policy file that refuses every user."""
        policy_opts.set_defaults(cfg.CONF)  # registers the options
        path = f'{self.useFixture(fixtures.fixtures.TempDir()).path}/policy.yaml'
        with open(path, 'w') as file:
            file.write('"os_compute_api:os-server-external-events:create": "role:nobody"\n')
        return path

    def test_03_one_server_of_the_batch_is_shelved(self):
        router = self.start()
        with self.wait_on('host-a'), self.wait_on('host-b', server=ON_B):
            answer = router.post(plugged(), plugged(SHELVED), plugged(ON_B))
        self.assertEqual([200, 422, 200], answer.codes)
        self.assert_explained(
            'no_host', 3, sentence='answered 422', step=f'host-map show {SHELVED}', server=SHELVED
        )
        for server in (PLACED, ON_B):
            self.assert_explained('delivered', 0, sentence='received by a waiter', server=server)

    def test_04_posted_before_the_wait_began(self):
        router = self.start()
        router.post(plugged())
        with self.wait_on('host-a', timeout=0.1) as waiting:
            self.assertRaises(exceptions.WaitTimeout, waiting.wait)
        self.assert_explained(
            'delivered_without_waiter',
            3,
            sentence='nothing waited for it and no handler ran',
            step='the time at which it began to wait',
        )

    def test_05_posted_before_and_within_the_wait(self):
        router = self.start()
        router.post(plugged())
        with self.wait_on('host-a') as waiting:
            router.post(plugged())
            waiting.wait()
        answer = self.assert_explained(
            'delivered', 0, sentence='received by a waiter', step='another event is missing'
        )
        self.assertEqual('start of the wait', answer['relative_to'])
        received = [entry['relative'] for entry in answer['timeline'] if entry['kind'] == 'received']
        self.assertEqual([True, False], [relative < 0 for relative in received])

    def test_06_posted_after_the_wait_ended(self):
        router = self.start()
        with self.wait_on('host-a', timeout=0.1) as waiting:
            self.assertRaises(exceptions.WaitTimeout, waiting.wait)
        router.post(plugged())
        self.assert_explained('delivered_late', 3, sentence='s after the wait had ended', step='Neutron')

    def test_07_delivered_without_a_waiter(self):
        router = self.start()
        with self.wait_on('host-a') as waiting:
            router.post(plugged(port='port-2'))
            self.assertEqual({(NAME, PORT)}, waiting.missing)
        self.assert_explained(
            'delivered_without_waiter',
            3,
            sentence='nothing waited for it',
            step='external-events-agent',
            port='port-2',
        )

    def test_08_held_and_delivered_in_time(self):
        router = self.start(hosts=(), delivery__ack_timeout=0.4)
        self.assertEqual([200], router.post(plugged()).codes)
        self.assert_explained('held_silent_host', 3, step='systemctl status external-events-agent')
        waits = []

        def begin_to_wait():
            waits.append(self.wait_on('host-a'))
            waits[0].__enter__()

        router.start_agents(('host-a',), prepare=begin_to_wait)
        waits[0].wait()
        self.assert_explained('delivered', 0, sentence='It was held for', step='another event is missing')

    def test_09_held_and_delivered_too_late(self):
        router = self.start(hosts=(), delivery__ack_timeout=0.4)
        router.post(plugged())
        router.start_agents(('host-a',))
        self.assert_explained(
            'delivered_late',
            3,
            sentence='when nothing was waiting for it. It was held for',
            step='systemctl status external-events-agent',
        )

    def test_10_host_unresponsive_until_the_event_expires(self):
        router = self.start(hosts=(), delivery__ack_timeout=0.4, delivery__event_ttl=1.0)
        router.post(plugged())
        answer = self.assert_explained('expired', 3, sentence='no host handled it')
        self.assertEqual(
            f'external-events-manage held retry {answer["event"]}', answer['next_step']['command']
        )

    def test_11_broker_unavailable_for_a_while(self):
        router = self.start(delivery__ack_timeout=0.4)
        away = threading.Event()
        away.set()
        cast = agent_rpcapi.AgentAPI.cast

        def cast_unless_away(api, casts, done, *, until):
            if not away.is_set():
                cast(api, casts, done, until=until)
                return
            for number, _cast in enumerate(casts):
                done(number, exceptions.BrokerUnavailable(reason='stopped by the test'))

        self.useFixture(
            fixtures.fixtures.MonkeyPatch(
                'external_events_router.agent.rpcapi.AgentAPI.cast', cast_unless_away
            )
        )
        with self.wait_on('host-a') as waiting:
            self.assertEqual([200], router.post(plugged()).codes)
            self.assert_explained('held_broker_unavailable', 3, step='rabbitmqctl cluster_status')
            away.clear()
            waiting.wait()
        self.assert_explained('delivered', 0, sentence='It was held for')

    def test_12_handler_failed(self):
        router = self.start(handling=True)

        def fail(event):
            raise KeyError('no such port')

        router.handled.actions[PLACED] = fail
        self.assertEqual([500], router.post(plugged()).codes)
        self.assert_explained(
            'handler_failed',
            3,
            sentence='a handler failed or refused it: host-a: KeyError',
            step=f'The handler for {NAME} of server {PLACED}',
        )

    def test_13_server_moved_between_look_up_and_delivery(self):
        router = self.start(handling=True)

        def move(event):
            # The handler for host-a is the first that is asked, and host-b the second.
            del router.handled.actions[MOVING]
            router.place(MOVING, 'host-b')
            return events.Verdict.NOT_HERE

        router.handled.actions[MOVING] = move
        self.assertEqual([200], router.post(plugged(MOVING)).codes)
        self.assert_explained('delivered', 0, sentence='host-a and host-b', server=MOVING)

    def test_14_another_worker_delivers_the_event_of_a_worker_that_ended(self):
        router = self.start(hosts=(), delivery__ack_timeout=0.4)
        router.post(plugged())
        self.assert_explained('held_silent_host', 3)
        router.resolver.stop()
        router.start_resolver()
        router.start_agents(('host-a',))
        self.assert_explained('delivered_late', 3, sentence='It was held for')
        self.assertEqual(2, len(self.workers()))
        delivered = self.reader.steps(
            stories.reads.Selection(server_uuid=PLACED), stories.reads.Period(self.began, self.reader.now())
        )
        self.assertEqual(['delivered'], [step.kind for step in delivered if step.kind != 'attempt'])


class ReplayTest(stories.StoryTestCase):
    def replay(self, *rows):
        api = rpcapi.OperatorAPI.from_conf(self.router.conf, self.router.transport)
        timeout = self.router.conf.delivery.ack_timeout
        return list(replay.send(api, rows, ack_timeout=timeout, actor='operator'))

    def test_agent_that_lost_its_memory_handles_an_event_again(self):
        router = self.useFixture(fixtures.Router(stories.HOSTS_OF))
        self.watch(router)
        router.post(plugged())
        self.assert_explained('delivered', 0)
        (posted,) = self.rows()
        # A running agent remembers it.
        self.assertEqual([200], [outcome.code for outcome in self.replay(posted)])
        self.assertEqual(1, len(router.handled.events))
        router.fleet.stop(fixtures.PATIENCE)
        router.start_agents()
        self.assertEqual([200], [outcome.code for outcome in self.replay(posted)])
        self.assertEqual([posted.event_id] * 2, [event.id for event in router.handled.events])
        router.wait_until(lambda: len(self.rows()) == 3)
        self.assertEqual([False, True, True], [row.replayed for row in self.rows()])
        answer = self.explained()
        self.assertEqual(2, len([entry for entry in answer['timeline'] if 'replayed by' in entry['text']]))

    def rows(self):
        period = stories.reads.Period(self.began, self.reader.now())
        return self.reader.events(stories.reads.Selection(server_uuid=PLACED), period)
