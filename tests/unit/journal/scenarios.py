"""What the journal does on every database; mixed into a test case with ``self.url``, of an empty database."""

from external_events_router.db import migration
from external_events_router.db import models
from external_events_router.journal import reads
from external_events_router.journal import reasons
from external_events_router.journal import records
from tests.unit.db import databases
from tests.unit.journal import rows

HOUR = records.HOUR
MINUTE = 60 * records.SECOND


class JournalScenarios:
    def setUp(self):
        super().setUp()
        self.database = databases.database(self.url)
        self.addCleanup(self.database.close)
        migration.upgrade(self.database)
        self.reader = reads.Reader(self.database)

    def insert(self, table, *new):
        rows.insert(self.database, table, list(new))


class ReadScenarios(JournalScenarios):
    def setUp(self):
        super().setUp()
        self.insert(
            models.JournalRequest,
            rows.request(seq=1, events=2),
            rows.request(rows.T0 + HOUR, seq=3, user_id='cinder'),
            rows.request(rows.T0 + 30 * HOUR, worker=2, seq=1),
        )
        self.insert(
            models.JournalEvent,
            rows.event(seq=1, hosts=('node-1', 'node-2')),
            rows.event(seq=2, server_uuid=rows.OTHER, tag=None, code=422, reason='no_host', hosts=()),
            rows.event(rows.T0 + HOUR, seq=3, reason='held_no_queue', waiter=0, name='volume-extended'),
            rows.event(rows.T0 + 30 * HOUR, worker=2, seq=1, waiter=1, wait_ms=50, hosts=('node-2',)),
        )
        self.insert(models.JournalEventHost, rows.event_host(seq=1, host='node-2'))

    def keys(self, since=rows.T0, until=rows.T0 + 48 * HOUR, limit=1000, after=None, newest=False, **chosen):
        period = reads.Period(since, until, after=after, newest_first=newest)
        found = self.reader.events(reads.Selection(**chosen), period, limit=limit)
        return [(event.worker, event.seq) for event in found]

    def test_events_of_a_server_over_many_hours(self):
        self.assertEqual([(1, 1), (1, 3), (2, 1)], self.keys(server_uuid=rows.SERVER))
        self.assertEqual([(2, 1), (1, 3), (1, 1)], self.keys(server_uuid=rows.SERVER, newest=True))
        self.assertEqual([(1, 1)], self.keys(server_uuid=rows.SERVER, until=rows.T0 + MINUTE))
        self.assertEqual([(1, 3), (2, 1)], self.keys(server_uuid=rows.SERVER, since=rows.T0 + 1))

    def test_each_selection(self):
        self.assertEqual([(1, 1), (1, 3), (2, 1)], self.keys(tag=rows.PORT))
        self.assertEqual([(1, 2)], self.keys(event_id='event-1-2'))
        self.assertEqual([(1, 1), (1, 2)], self.keys(request_id='req-1-1'))
        self.assertEqual([(1, 3)], self.keys(request_id='req-global-1-3'))
        self.assertEqual([(1, 3)], self.keys(user_id='cinder'))
        self.assertEqual([(1, 3)], self.keys(reasons=frozenset({reasons.Reason.HELD_NO_QUEUE})))
        self.assertEqual([(1, 2)], self.keys(codes=frozenset({422, 503})))
        self.assertEqual([(1, 3)], self.keys(names=frozenset({'volume-extended'})))
        self.assertEqual(
            [(1, 3), (2, 1)], self.keys(server_uuid=rows.SERVER, since=rows.T0 + 1, tag=rows.PORT)
        )
        self.assertEqual([(1, 1)], self.keys(server_uuid=rows.SERVER, request_id='req-1-1'))
        self.assertEqual([], self.keys(server_uuid=rows.OTHER, tag=rows.PORT))

    def test_an_event_is_found_by_each_of_its_hosts(self):
        self.assertEqual([(1, 1), (1, 3)], self.keys(host='node-1'))
        self.assertEqual([(1, 1), (2, 1)], self.keys(host='node-2'))
        self.assertEqual([(1, 1), (2, 1)], self.keys(host='node-2', server_uuid=rows.SERVER))

    def test_pages(self):
        for newest in (False, True):
            for chosen in ({'server_uuid': rows.SERVER}, {}, {'host': 'node-1'}, {'user_id': 'neutron'}):
                everything, paged, after = self.keys(newest=newest, **chosen), [], None
                period = (rows.T0, rows.T0 + 48 * HOUR)
                while page := self.reader.events(
                    reads.Selection(**chosen),
                    reads.Period(*period, after=after, newest_first=newest),
                    limit=1,
                ):
                    (event,) = page
                    after = (event.received_at, event.worker, event.seq)
                    paged.append((event.worker, event.seq))
                self.assertEqual(everything, paged)

    def test_an_event_as_it_was_recorded(self):
        period = reads.Period(rows.T0, rows.T0 + 48 * HOUR)
        first, second = self.reader.events(reads.Selection(), period)[::3]
        self.assertEqual(('node-1', 'node-2'), first.hosts)
        self.assertIsNone(first.handling)
        self.assertEqual(('req-1-1', 'neutron'), (first.request.request_id, first.request.user_id))
        self.assertEqual(records.Handling(True, wait_ms=50), second.handling)
        self.assertIs(reasons.Reason.ACKNOWLEDGED, first.reason)

    def test_steps(self):
        self.insert(
            models.JournalStep,
            rows.step(seq=5),
            rows.step(rows.T0 + 2 * HOUR, seq=6, kind='delivered', host=None, attempt=None),
            rows.step(rows.T0 + 2 * HOUR, seq=7, kind='expired', server_uuid=rows.OTHER, event_id='e'),
        )

        def seqs(**chosen):
            found = self.reader.steps(reads.Selection(**chosen), reads.Period(rows.T0, rows.T0 + 9 * HOUR))
            return [step.seq for step in found]

        self.assertEqual([5, 6], seqs(server_uuid=rows.SERVER))
        self.assertEqual([7], seqs(event_id='e'))
        self.assertEqual([5, 7], seqs(host='node-1'))
        self.assertEqual([6, 7], seqs(kinds=frozenset({reasons.Step.DELIVERED, reasons.Step.EXPIRED})))
        self.assertEqual([5, 6, 7], seqs())

    def test_refusals(self):
        self.insert(
            models.JournalRefusal,
            rows.refusal(seq=5),
            rows.refusal(rows.T0 + HOUR, seq=6, global_request_id='req-g', servers='["a"]', names='["b"]'),
        )
        period = reads.Period(rows.T0, rows.T0 + 9 * HOUR)
        self.assertEqual([5, 6], [refusal.seq for refusal in self.reader.refusals(period)])
        (found,) = self.reader.refusals(period, request_id='req-g')
        self.assertEqual((('a',), ('b',)), (found.servers, found.names))
        self.assertEqual([5], [row.seq for row in self.reader.refusals(period, request_id='req-1-5')])
