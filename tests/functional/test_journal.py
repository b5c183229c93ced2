"""The contents of the journal after batches were delivered, held or refused, over ``fake://``."""

import threading

from external_events_router.journal import completeness
from external_events_router.journal import reads
from external_events_router.journal import reasons
from external_events_router.journal import records
from tests import base
from tests.functional import fixtures

PLACED, MIGRATING, ON_NO_HOST, ON_B, UNKNOWN = (
    f'{number:08x}-0000-4000-8000-000000000000' for number in range(1, 6)
)
REQUEST = 'req-00000000-0000-4000-8000-00000000abcd'
HOSTS_OF = {PLACED: ['host-a'], MIGRATING: ['host-a', 'host-b'], ON_NO_HOST: [], ON_B: ['host-b']}


class JournalTest(base.TestCase):
    def start(self, **overrides):
        overrides = {'delivery__ack_timeout': 0.4, **overrides}
        self.router = self.useFixture(fixtures.Router(HOSTS_OF, **overrides))
        self.reader = reads.Reader(self.router.database)
        self.began = self.reader.now()
        return self.router

    def period(self):
        return reads.Period(self.began - records.HOUR, self.reader.now() + records.HOUR)

    def events(self, number, **chosen):
        """The events in the journal, when there are so many."""

        def found():
            return self.reader.events(reads.Selection(**chosen), self.period())

        self.router.wait_until(lambda: len(found()) >= number)
        return found()

    def steps(self, number, **chosen):
        def found():
            return self.reader.steps(reads.Selection(**chosen), self.period())

        self.router.wait_until(lambda: len(found()) >= number)
        return found()

    def test_a_batch_with_different_results(self):
        router = self.start()
        router.handled.actions[ON_B] = fixtures.refused
        answer = router.post(
            fixtures.event(PLACED, tag='port-1'),
            fixtures.event(MIGRATING),
            fixtures.event(ON_NO_HOST),
            fixtures.event(UNKNOWN),
            fixtures.event(ON_B),
            fixtures.event(PLACED, 'volume-extended'),
            request_id=REQUEST,
        )
        found = self.events(6)
        self.assertEqual(answer.codes, [event.code for event in found])
        self.assertEqual(
            ['acknowledged', 'acknowledged', 'no_host', 'unknown_server', 'handler_failed', 'bad_tag'],
            [str(event.reason) for event in found],
        )
        self.assertEqual(
            [('host-a',), ('host-a', 'host-b'), (), (), ('host-b',), ()],
            [event.hosts for event in found],
        )
        self.assertEqual([True, True, False], [event.ack_ms is not None for event in found[:3]])
        (request,) = {event.request for event in found}
        self.assertEqual(REQUEST, request.global_request_id)
        self.assertEqual(6, request.events)
        self.assertEqual([found[0]], self.events(1, tag='port-1'))

    def test_reports_of_the_agent(self):
        router = self.start()
        expected = router.agent('host-a').expect(PLACED, [('network-vif-plugged', 'port-1')])
        router.post(fixtures.event(PLACED, 'network-vif-plugged', tag='port-1'))
        with expected:
            router.post(fixtures.event(PLACED, 'network-vif-plugged', tag='port-1'))
        before, within = self.events(2)
        self.assertEqual([False, True], [event.handling.waiter for event in (before, within)])
        self.assertEqual({'Handled'}, {event.handling.handler for event in (before, within)})
        self.assertGreaterEqual(within.received_at - within.handling.wait_ms * 1000, before.received_at)

    def test_an_event_that_is_held_and_delivered(self):
        router = self.start(hosts=())
        router.post(fixtures.event(PLACED))
        router.post(fixtures.event(PLACED))
        first, second = self.events(2)
        self.assertEqual([200, 200], [first.code, second.code])
        self.assertIs(reasons.Reason.HELD_BEHIND, second.reason)
        self.assertIn(first.reason, reasons.HELD - {reasons.Reason.HELD_OTHER})
        router.place(PLACED, 'host-b')
        router._hosts = ('host-b',)
        router.start_agents()
        delivered = self.steps(2, kinds=frozenset({reasons.Step.DELIVERED}))
        self.assertEqual([first.event_id, second.event_id], [step.event_id for step in delivered])
        self.assertEqual({'host-b'}, {step.host for step in delivered})
        tried = self.reader.steps(reads.Selection(kinds=frozenset({reasons.Step.ATTEMPT})), self.period())
        self.assertEqual(PLACED, (tried or delivered)[0].server_uuid)

    def test_a_late_acknowledgement(self):
        router = self.start()
        release = threading.Event()
        self.addCleanup(release.set)
        router.handled.actions[PLACED] = lambda _event: release.wait(fixtures.PATIENCE) and None
        router.post(fixtures.event(PLACED))
        (event,) = self.events(1)
        self.assertIs(reasons.Reason.HELD_SILENT_HOST, event.reason)
        release.set()
        late = self.steps(1, kinds=frozenset({reasons.Step.LATE_ACK}))[0]
        self.assertEqual((event.event_id, PLACED, 'host-a'), (late.event_id, late.server_uuid, late.host))
        self.assertEqual('Handled', late.handling.handler)
        (delivered,) = self.steps(1, kinds=frozenset({reasons.Step.DELIVERED}))
        self.assertGreaterEqual(delivered.handling.handler_ms, 100)

    def test_an_event_that_expires(self):
        router = self.start(hosts=(), delivery__event_ttl=1.0)
        router.post(fixtures.event(PLACED))
        (expired,) = self.steps(1, kinds=frozenset({reasons.Step.EXPIRED}))
        self.assertEqual('not acknowledged before its deadline', expired.detail)
        self.assertEqual(PLACED, expired.server_uuid)

    def refusals(self, number):
        def found():
            return self.reader.refusals(self.period())

        self.router.wait_until(lambda: len(found()) >= number)
        return found()

    def test_refused_requests(self):
        router = self.start(api__max_events=2)
        router.post({'name': 'network-changed', 'server_uuid': PLACED, 'tag': 7}, request_id=REQUEST)
        router.post(*[fixtures.event(PLACED)] * 3)
        router.post(fixtures.event(PLACED), path='/os-server-external-events')
        router.post(fixtures.event(PLACED))
        elsewhere, invalid, too_large = sorted(self.refusals(3), key=lambda refusal: refusal.status)
        self.assertEqual((400, 'bad_request', (PLACED,)), (invalid.status, invalid.reason, invalid.servers))
        self.assertEqual((REQUEST, ('network-changed',)), (invalid.global_request_id, invalid.names))
        self.assertEqual('noauth', invalid.user_name)
        self.assertIn('tag', invalid.detail)
        self.assertEqual((413, 'too_large'), (too_large.status, too_large.reason))
        self.assertEqual((300, 'not_found', None), (elsewhere.status, elsewhere.reason, elsewhere.user_name))

    def test_a_batch_that_reaches_no_resolver(self):
        router = self.start(delivery__ack_timeout=0.1)
        router.resolver.stop()
        self.assertEqual([503], router.post(fixtures.event(PLACED)).codes)
        router.start_resolver()
        (found,) = self.refusals(1)
        self.assertEqual(('not_routed', (PLACED,)), (found.reason, found.servers))

    def test_the_record_is_complete(self):
        router = self.start()
        router.post(fixtures.event(PLACED))
        self.events(1)
        (worker,) = completeness.workers(router.database, 0, self.reader.now())
        self.assertTrue(worker.name.endswith(':0') or ':' in worker.name)
        router.resolver.stop()
        (worker,) = completeness.workers(router.database, 0, self.reader.now())
        self.assertEqual([], completeness.gaps(router.database, worker.started_at, worker.stopped_at))
        self.assertEqual((1, False), (worker.written, worker.killed))

    def test_nothing_is_recorded(self):
        router = self.start(journal__record='none')
        router.post(fixtures.event(PLACED))
        router.resolver.stop()
        self.assertEqual([], self.reader.events(reads.Selection(), self.period()))
        (worker,) = completeness.workers(router.database, 0, self.reader.now())
        found = completeness.gaps(router.database, worker.started_at, worker.stopped_at)
        self.assertEqual((['not_recorded'], 0), ([gap.reason for gap in found], worker.written))

    def test_problems_are_recorded(self):
        router = self.start(journal__record='problems')
        router.post(fixtures.event(PLACED))
        router.post(fixtures.event(PLACED), fixtures.event(UNKNOWN))
        router.resolver.stop()
        found = self.reader.events(reads.Selection(), self.period())
        self.assertEqual([UNKNOWN], [event.server_uuid for event in found])
