"""Every outcome of DESIGN section 3, from a POST to its codes."""

import threading
import time

import sqlalchemy.exc

from external_events_router import context
from external_events_router import events
from external_events_router.resolver import rpcapi
from tests import base
from tests.functional import fixtures

PLACED, MIGRATING, ON_NO_HOST, UNKNOWN, ON_B = (
    f'{number:08x}-0000-4000-8000-000000000000' for number in range(1, 6)
)
HOSTS_OF = {PLACED: ['host-a'], MIGRATING: ['host-a', 'host-b'], ON_NO_HOST: [], ON_B: ['host-b']}

REQUEST_ID = 'req-6b0f1f4e-9d53-4f5c-8a55-0d6f0d5f4a11'


class OutcomesTest(base.TestCase):
    def start(self, **overrides):
        self.router = self.useFixture(fixtures.Router(HOSTS_OF, **overrides))
        return self.router

    def test_acknowledged_event_is_200(self):
        answer = self.start().post(fixtures.event(PLACED, 'network-vif-plugged', tag='port'))
        self.assertEqual(200, answer.status)
        self.assertEqual(
            {
                'events': [
                    {
                        'name': 'network-vif-plugged',
                        'server_uuid': PLACED,
                        'tag': 'port',
                        'status': 'completed',
                        'code': 200,
                    }
                ]
            },
            answer.body,
        )
        (event,) = self.router.handled.events
        self.assertEqual(('network-vif-plugged', PLACED, 'port'), (event.name, event.server_uuid, event.tag))

    def test_batch_of_every_kind_keeps_its_order(self):
        router = self.start()
        router.handled.actions[ON_B] = fixtures.refused
        answer = router.post(
            fixtures.event(UNKNOWN),
            fixtures.event(PLACED),
            fixtures.event(ON_NO_HOST),
            fixtures.event(PLACED, 'volume-extended'),
            fixtures.event(ON_B),
            fixtures.event(MIGRATING),
        )
        self.assertEqual(207, answer.status)
        self.assertEqual([404, 200, 422, 400, 500, 200], answer.codes)
        self.assertEqual(
            ['failed', 'completed', 'failed', 'failed', 'failed', 'completed'],
            [event['status'] for event in answer.body['events']],
        )

    def test_event_of_a_migrating_server_reaches_both_hosts(self):
        router = self.start()
        self.assertEqual([200], router.post(fixtures.event(MIGRATING)).codes)
        self.assertEqual([MIGRATING] * 2, [event.server_uuid for event in router.handled.events])
        self.assertEqual(1, len({event.id for event in router.handled.events}))

    def test_batch_without_a_known_server_is_404_as_a_whole(self):
        answer = self.start().post(fixtures.event(UNKNOWN), fixtures.event(UNKNOWN))
        self.assertEqual(404, answer.status)
        self.assertEqual(404, answer.body['itemNotFound']['code'])

    def test_batch_without_a_known_server_is_207_where_configured(self):
        answer = self.start(api__none_found_status=207).post(fixtures.event(UNKNOWN))
        self.assertEqual((207, [404]), (answer.status, answer.codes))

    def test_all_422_is_207(self):
        answer = self.start().post(fixtures.event(ON_NO_HOST))
        self.assertEqual((207, [422]), (answer.status, answer.codes))

    def test_server_that_left_all_hosts_is_422(self):
        router = self.start()
        router.handled.actions[PLACED] = fixtures.not_here
        self.assertEqual([422], router.post(fixtures.event(PLACED)).codes)

    def test_host_that_answers_not_here_does_not_fail_the_other_host(self):
        router = self.start()
        delivered = []
        here = threading.Lock()

        def here_once(event):
            with here:
                delivered.append(event)
                return events.Verdict.NOT_HERE if len(delivered) == 1 else events.Verdict.HANDLED

        router.handled.actions[MIGRATING] = here_once
        self.assertEqual([200], router.post(fixtures.event(MIGRATING)).codes)
        self.assertEqual(2, len(delivered))

    def test_server_that_moved_is_followed_to_its_new_host(self):
        router = self.start()

        def move(event):
            router.place(PLACED, 'host-b')
            router.handled.actions.clear()
            return events.Verdict.NOT_HERE

        router.handled.actions[PLACED] = move
        self.assertEqual([200], router.post(fixtures.event(PLACED)).codes)
        self.assertEqual(2, len(router.handled.events))

    def test_failed_event_reaches_the_host_as_such(self):
        router = self.start()
        answer = router.post(fixtures.event(PLACED, 'network-vif-plugged', tag='port', status='failed'))
        self.assertEqual([200], answer.codes)
        self.assertEqual('failed', router.handled.events[0].status)

    def test_waiter_on_the_host_gets_the_event(self):
        router = self.start()
        keys = [('network-vif-plugged', 'port'), ('network-changed', None)]
        with router.agent('host-a').expect(PLACED, keys, timeout=fixtures.PATIENCE) as expected:
            router.post(fixtures.event(PLACED, 'network-vif-plugged', tag='port'), fixtures.event(PLACED))
            came = expected.wait()
        self.assertEqual({('network-vif-plugged', 'port'), ('network-changed', None)}, set(came))

    def test_malformed_request_delivers_nothing(self):
        router = self.start()
        answer = router.post(fixtures.event(PLACED), {'name': 'network-changed', 'server_uuid': 'nonsense'})
        self.assertEqual(400, answer.status)
        self.assertIn('events[1].server_uuid', answer.body['badRequest']['message'])
        self.assertEqual([], router.handled.events)

    def test_request_ids_reach_the_host(self):
        router = self.start()
        answer = router.post(fixtures.event(PLACED), request_id=REQUEST_ID)
        (ctxt,) = router.handled.contexts
        self.assertEqual(REQUEST_ID, ctxt.global_request_id)
        self.assertEqual(answer.headers['x-openstack-request-id'], ctxt.request_id)

    def test_large_batch_has_all_outcomes(self):
        router = self.start()
        batch = [fixtures.event((PLACED, ON_B)[n % 2], tag=f'tag-{n}') for n in range(1000)]
        answer = router.post(*batch)
        self.assertEqual([200] * 1000, answer.codes)
        self.assertEqual([event['tag'] for event in batch], [event['tag'] for event in answer.body['events']])
        for server in (PLACED, ON_B):
            self.assertEqual(
                [event['tag'] for event in batch if event['server_uuid'] == server],
                [event.tag for event in router.handled.events if event.server_uuid == server],
            )


class DuplicatesTest(base.TestCase):
    def setUp(self):
        super().setUp()
        self.router = self.useFixture(fixtures.Router(HOSTS_OF))

    def test_batch_sent_again_is_handled_once_and_answered_alike(self):
        batch = [fixtures.event(PLACED), fixtures.event(PLACED), fixtures.event(MIGRATING)]
        first = self.router.post(*batch, request_id=REQUEST_ID)
        handled = len(self.router.handled.events)
        again = self.router.post(*batch, request_id=REQUEST_ID)
        self.assertEqual([200] * 3, first.codes)
        self.assertEqual(first.body, again.body)
        # Twice for the single host, once for each of the two hosts of the other server.
        self.assertEqual((4, 4), (handled, len(self.router.handled.events)))

    def test_refusal_is_repeated_without_asking_the_handler(self):
        self.router.handled.actions[PLACED] = fixtures.refused
        codes = [self.router.post(fixtures.event(PLACED), request_id=REQUEST_ID).codes for _ in range(2)]
        self.assertEqual([[500], [500]], codes)
        self.assertEqual(1, len(self.router.handled.events))

    def test_same_event_of_another_request_is_another_event(self):
        for _ in range(2):
            self.router.post(fixtures.event(PLACED))
        self.assertEqual(2, len(self.router.handled.events))


class FailuresTest(base.TestCase):
    """DESIGN section 6, as far as it needs no broker."""

    #: Seconds; a silent host delays a test by this time.
    ACK_TIMEOUT = 0.6

    def start(self, **overrides):
        self.router = self.useFixture(
            fixtures.Router(HOSTS_OF, **{'delivery__ack_timeout': self.ACK_TIMEOUT, **overrides})
        )
        return self.router

    def hang(self, server):
        """Have the handler of a server's events wait until the test ends."""
        over = threading.Event()
        self.addCleanup(over.set)
        began = threading.Event()

        def wait(_event):
            began.set()
            over.wait(fixtures.PATIENCE)

        self.router.handled.actions[server] = wait
        return began, over

    def test_host_without_an_agent_costs_the_ack_timeout_and_its_own_events_are_held(self):
        router = self.start(hosts=('host-a',))
        began = time.monotonic()
        answer = router.post(fixtures.event(PLACED), fixtures.event(ON_B), fixtures.event(MIGRATING))
        self.assertEqual((200, [200] * 3), (answer.status, answer.codes))
        # NOTE: the last 0.1 s of the ack timeout are reserved for the hold.
        self.assertGreaterEqual(time.monotonic() - began, self.ACK_TIMEOUT - 0.1)
        self.assertEqual([ON_B, MIGRATING], [record.event.server_uuid for record in router.held()])
        self.assertEqual([('host-b',)] * 2, [record.hosts for record in router.held()])

    def test_slow_handler_costs_its_own_event_only(self):
        router = self.start()
        _, over = self.hang(PLACED)
        answer = router.post(fixtures.event(PLACED), fixtures.event(ON_B), fixtures.event(MIGRATING))
        self.assertEqual([200] * 3, answer.codes)
        self.assertEqual([PLACED], [record.event.server_uuid for record in router.held()])
        over.set()
        router.wait_until(lambda: not router.held())
        self.assertEqual(1, sum(event.server_uuid == PLACED for event in router.handled.events))

    def test_other_batches_do_not_wait_for_a_slow_one(self):
        router = self.start(delivery__ack_timeout=fixtures.PATIENCE)
        began, over = self.hang(PLACED)
        slow = router.post_in_background(fixtures.event(PLACED))
        self.assertTrue(began.wait(fixtures.PATIENCE))
        self.assertEqual([200, 200], router.post(fixtures.event(ON_B), fixtures.event(MIGRATING)).codes)
        over.set()
        self.assertEqual([200], slow().codes)

    def test_caller_cannot_exceed_the_configured_wait_of_the_resolver(self):
        router = self.start()
        self.hang(PLACED)
        api = rpcapi.ResolverAPI(router.transport)
        began = time.monotonic()
        (outcome,) = api.route(
            context.for_service(),
            [events.Event('network-changed', PLACED, id='1')],
            ack_timeout=1e6,
            timeout=fixtures.PATIENCE,
        )
        self.assertEqual(events.Code.DELIVERED, outcome.code)
        self.assertEqual([PLACED], [record.event.server_uuid for record in router.held()])
        self.assertLess(time.monotonic() - began, self.ACK_TIMEOUT + 5.0)

    def test_late_acknowledgement_ends_the_hold(self):
        router = self.start()
        _, over = self.hang(PLACED)
        self.assertEqual([200], router.post(fixtures.event(PLACED)).codes)
        self.assertEqual(1, len(router.held()))
        router.handled.actions.clear()
        over.set()
        router.wait_until(lambda: not router.held())
        self.assertEqual([200], router.post(fixtures.event(PLACED)).codes)
        self.assertEqual(2, len(router.handled.events))

    def test_event_sent_again_while_it_is_held_is_one_event(self):
        router = self.start()
        _, over = self.hang(PLACED)
        for _ in range(2):
            self.assertEqual([200], router.post(fixtures.event(PLACED), request_id=REQUEST_ID).codes)
        self.assertEqual(1, len(router.held()))
        over.set()
        router.wait_until(lambda: not router.held())
        self.assertEqual(1, len(router.handled.events))

    def test_database_away_known_servers_are_served_and_others_are_503(self):
        router = self.start()
        self.assertEqual([200], router.post(fixtures.event(PLACED)).codes)
        self.patch(router.database._engine, 'connect', _refuse)
        answer = router.post(
            fixtures.event(PLACED), fixtures.event(ON_B), fixtures.event(PLACED, 'power-update')
        )
        self.assertEqual([200, 503, 400], answer.codes)

    def test_no_resolver_is_503_within_the_bound(self):
        router = self.start()
        router.resolver.stop()
        began = time.monotonic()
        answer = router.post(fixtures.event(PLACED), fixtures.event(UNKNOWN))
        self.assertEqual([503, 503], answer.codes)
        self.assertLess(time.monotonic() - began, self.ACK_TIMEOUT + 1.5)

    def test_stop_during_a_wait_finishes_the_batch(self):
        router = self.start()
        began, _ = self.hang(PLACED)
        waiting = router.post_in_background(fixtures.event(PLACED), fixtures.event(ON_B))
        self.assertTrue(began.wait(fixtures.PATIENCE))
        router.resolver.stop()
        self.assertEqual([200, 200], waiting().codes)
        self.assertEqual([PLACED], [record.event.server_uuid for record in router.held()])

    def test_full_pool_of_the_resolver_is_bounded_and_recovers(self):
        router = self.start(resolver__threads=1)
        self.hang(PLACED)
        answers = [router.post_in_background(fixtures.event(PLACED)) for _ in range(4)]
        for answer in answers:
            self.assertLessEqual(set(answer().codes), {200, 503})
        router.wait_until(lambda: router.post(fixtures.event(ON_B)).codes == [200])

    def test_restarted_agent_gets_the_held_events(self):
        router = self.start()
        router.fleet.stop(fixtures.PATIENCE)
        self.assertEqual([200], router.post(fixtures.event(PLACED)).codes)
        self.assertEqual([], router.handled.events)
        router.start_agents()
        router.wait_until(lambda: not router.held())
        self.assertEqual(1, len(router.handled.events))
        self.assertEqual([200], router.post(fixtures.event(PLACED)).codes)
        self.assertEqual(2, len(router.handled.events))


def _refuse(*_args, **_kwargs):
    raise sqlalchemy.exc.OperationalError('SELECT', {}, ConnectionRefusedError('away'))
