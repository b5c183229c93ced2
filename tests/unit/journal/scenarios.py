"""Tests of the journal for every database; mixed into a test case with ``self.url``, of an empty database."""

import contextlib
import dataclasses
import threading
import time

import fixtures
import sqlalchemy as sa

from external_events_router import context
from external_events_router import events
from external_events_router import exceptions
from external_events_router.db import models
from external_events_router.journal import completeness
from external_events_router.journal import entries
from external_events_router.journal import reads
from external_events_router.journal import reasons
from external_events_router.journal import records
from external_events_router.journal import retention
from external_events_router.journal import store
from external_events_router.journal import writer
from tests.unit.db import databases
from tests.unit.journal import rows

HOUR = records.HOUR
MINUTE = 60 * records.SECOND

WRITER = 'external_events_router.journal.writer'
RETENTION = 'external_events_router.journal.retention'

CONTEXT = context.RequestContext(request_id='req-1', user_id='neutron', overwrite=False)


def acknowledged(_outcome, _answered):
    return reasons.Reason.ACKNOWLEDGED


@dataclasses.dataclass
class HostAnswer:
    """The answer of a host, as in the resolver."""

    at: float | None
    handling: records.Handling | None


class JournalScenarios:
    def setUp(self):
        super().setUp()
        self.database = databases.database(self.url)
        self.addCleanup(self.database.close)
        databases.create_schema(self.database)
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

    def test_an_event_is_found_by_the_tag_and_the_ids_of_its_sender(self):
        tag, request_id, user_id = 'a\tb\ud800\u202e' + 'c' * 300, 'req\n' + 'x' * 100, 'user\x07'
        ctxt = context.RequestContext(global_request_id=request_id, user_id=user_id, overwrite=False)
        sent = events.Event('network-changed', rows.OTHER, tag, id='event')
        batch = entries.Batch(ctxt, 0.0, 0.0, [events.Outcome(sent, events.Code.DELIVERED)], {}, acknowledged)
        for table, values in batch.rows(lambda _instant: rows.T0, 7, 1):
            made = dict(zip(entries.COLUMNS[table], values, strict=True))
            self.insert({each.__tablename__: each for each in rows.TABLES.values()}[table], made)
        for chosen in ({'tag': tag}, {'request_id': request_id}, {'user_id': user_id}):
            self.assertEqual([(7, 1)], self.keys(**chosen))

    def test_an_event_is_found_by_each_of_its_hosts(self):
        self.assertEqual([(1, 1), (1, 3)], self.keys(host='node-1'))
        self.assertEqual([(1, 1), (2, 1)], self.keys(host='node-2'))
        self.assertEqual([(1, 1), (2, 1)], self.keys(host='node-2', server_uuid=rows.SERVER))

    def test_a_period_of_centuries_is_limited_to_the_rows(self):
        sent = []
        engine = self.database._reader

        def keep(connection, cursor, statement, *rest):
            sent.append(statement)

        sa.event.listen(engine, 'before_cursor_execute', keep)
        self.addCleanup(sa.event.remove, engine, 'before_cursor_execute', keep)
        century = 36525 * 24 * HOUR
        for newest in (False, True):
            found = self.keys(rows.T0 - century, rows.T0 + century, newest=newest, server_uuid=rows.SERVER)
            self.assertEqual([(1, 1), (1, 3), (2, 1)], sorted(found))
        self.assertLess(len(sent), 20)
        self.assertEqual([], self.keys(rows.T0 - century, rows.T0 - HOUR, server_uuid=rows.SERVER))

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


class WriterScenarios(JournalScenarios):
    """A worker writes all it records, or records the gap; whatever happens to the database."""

    def setUp(self):
        super().setUp()
        for name, value in (('INTERVAL', 0.01), ('PAUSE', 0.02), ('OVERRUN', 0.0)):
            self.useFixture(fixtures.MonkeyPatch(f'{WRITER}.{name}', value))

    def worker(self, name='controller:0', *, queue_size=1000, database=None, record='all'):
        own = database or databases.database(self.url)
        self.addCleanup(own.close)
        identity = store.Identity(name, 'external-events-resolver', 'controller', 1, record)
        return writer.Writer(store.Store(own), identity, queue_size=queue_size, longest=0.0)

    def started(self, *args, **kwargs):
        worker = self.worker(*args, **kwargs)
        worker.start()
        self.addCleanup(worker.stop, 5.0)
        return worker

    def batch(self, *names, server=rows.SERVER):
        now = time.monotonic()
        sent = [
            events.Event('network-changed', server, tag=name, id=name.encode().hex()[:60]) for name in names
        ]
        outcomes = [events.Outcome(event, events.Code.DELIVERED) for event in sent]
        return entries.Batch(CONTEXT, now, now, outcomes, {}, acknowledged)

    def written(self):
        found = self.reader.events(reads.Selection(), reads.Period(0, self.reader.now() + MINUTE))
        return [event.tag for event in found]

    def wait_for(self, condition, message='not in time'):
        deadline = time.monotonic() + 50
        while not condition():
            self.assertLess(time.monotonic(), deadline, message)
            time.sleep(0.02)

    def wait_for_rows(self, *names):
        self.wait_for(lambda: set(self.written()) >= set(names))

    def gaps(self, since, until=None):
        return completeness.gaps(self.database, since, until or self.reader.now())

    def reasons(self, since, until=None):
        return [str(gap.reason) for gap in self.gaps(since, until)]

    def complete_since(self, since):
        """Wait until the workers have written what arrived so far; the gaps."""
        until = self.reader.now()
        waits = reasons.GapReason.NOT_WRITTEN_YET
        self.wait_for(lambda: waits not in [gap.reason for gap in self.gaps(since, until)])
        return self.gaps(since, until)

    def test_a_batch_as_rows(self):
        before = self.reader.now()
        worker = self.started()
        answer = HostAnswer(at=time.monotonic() + 0.012, handling=records.Handling(True, 40, 'log', 3))
        batch = self.batch('one', 'two')
        first = batch.outcomes[0].event.id
        batch.answers = {('node-1', first): HostAnswer(at=None, handling=None), ('node-2', first): answer}
        batch.outcomes[1].code, batch.outcomes[1].reason = (
            events.Code.NO_HOST,
            'the server is on \x00 no host',
        )
        worker.add(batch)
        self.wait_for_rows('one', 'two')
        one, two = self.reader.events(reads.Selection(), reads.Period(before, self.reader.now() + MINUTE))
        self.assertEqual((1, 2, ('node-1', 'node-2'), ()), (one.seq, two.seq, one.hosts, two.hosts))
        self.assertEqual(records.Handling(True, 40, 'log', 3), one.handling)
        # One of the hosts has not acknowledged.
        self.assertIsNone(one.ack_ms)
        self.assertEqual((422, 'the server is on ? no host', None), (two.code, two.detail, two.ack_ms))
        self.assertEqual(('req-1', 'neutron', 2), (one.request.request_id, one.request.user_id, 2))
        self.assertAlmostEqual(before, one.received_at, delta=20 * records.SECOND)
        by_host = self.reader.events(reads.Selection(host='node-2'), reads.Period(before, before + MINUTE))
        self.assertEqual([one], by_host)

    def test_the_last_acknowledgement_of_all_hosts(self):
        worker = self.worker()
        worker.start()
        batch = self.batch('one')
        event = batch.outcomes[0].event.id
        batch.answers = {
            (f'node-{number}', event): HostAnswer(at=batch.since + number / 1000, handling=None)
            for number in (7, 20)
        }
        worker.add(batch)
        worker.stop(5.0)
        (one,) = self.reader.events(reads.Selection(), reads.Period(0, self.reader.now()))
        self.assertEqual(20, one.ack_ms)

    def test_batches_without_events_have_different_numbers(self):
        worker = self.worker()
        for _ in range(2):
            batch = self.batch()
            batch.since = batch.until = 0.0
            worker.add(batch)
        worker.start()
        worker.stop(5.0)
        with self.database.reading() as connection:
            found = connection.scalars(sa.select(models.JournalRequest.seq)).all()
        self.assertEqual([1, 2], sorted(found))

    def test_a_worker_from_start_to_stop(self):
        before = self.reader.now()
        worker = self.worker()
        self.assertEqual(['no_worker'], self.reasons(before))
        worker.start()
        worker.add(self.batch('one', 'two', 'three'))
        worker.stop(5.0)
        (row,) = completeness.workers(self.database, before, self.reader.now())
        self.assertEqual((3, 3, 0, False), (row.written_seq, row.written, row.dropped, row.killed))
        self.assertEqual(row.stopped_at, row.written_until)
        self.assertEqual([], self.gaps(row.started_at, row.stopped_at))
        self.assertEqual(['no_worker', 'no_worker'], self.reasons(before - 1))
        self.assertEqual(['one', 'two', 'three'], self.written())

    def test_texts_of_all_kinds(self):
        texts = [
            "it's",
            'back\\slash',
            '100 %s %(x)s %',
            '"; DROP TABLE x; --',
            "\\'",
            'Zürich',
            '日本',
            '\\N',
        ]
        worker = self.worker()
        worker.start()
        for text in texts:
            worker.add(self.batch(text))
        worker.add(self.batch('tab\tnew\nline\0'))
        worker.stop(5.0)
        self.assertEqual([*texts, 'tab?new?line?'], self.written())

    def test_steps_and_refusals(self):
        before = self.reader.now()
        worker = self.worker()
        worker.start()
        worker.add(entries.Step('id-1', rows.SERVER, reasons.Step.ATTEMPT, host='node-1', attempt=2))
        worker.add(entries.Refusal(401, reasons.Refusal.NOT_AUTHENTICATED, 'no token', servers=['a']))
        worker.stop(5.0)
        period = reads.Period(before, self.reader.now())
        (step,) = self.reader.steps(reads.Selection(server_uuid=rows.SERVER), period)
        self.assertEqual(('id-1', 'node-1', 2), (step.event_id, step.host, step.attempt))
        (refusal,) = self.reader.refusals(period)
        self.assertEqual((401, ('a',), 2), (refusal.status, refusal.servers, refusal.seq))

    def test_a_full_queue_is_a_gap(self):
        before = self.reader.now()
        worker = self.worker(queue_size=3)
        worker.add(self.batch('one', 'two'))
        worker.add(self.batch('three', 'four'))
        worker.add(self.batch('five'))
        worker.add(self.batch('six', 'seven'))
        worker.start()
        self.addCleanup(worker.stop, 5.0)
        self.wait_for_rows('one', 'two', 'five')
        (gap,) = [gap for gap in self.complete_since(before) if gap.worker]
        self.assertEqual(('queue_full', 3, 7, 4), (gap.reason, gap.from_seq, gap.to_seq, gap.missing))
        worker.add(self.batch('eight'))
        self.wait_for_rows('eight')
        after = self.reader.now()
        self.assertEqual([], self.complete_since(after))
        (row,) = completeness.workers(self.database, before, self.reader.now())
        self.assertEqual((4, 4), (row.dropped, row.written))

    def test_records_wait_for_the_database(self):
        database = Breakable(databases.database(self.url))
        before = self.reader.now()
        worker = self.started(database=database)
        worker.add(self.batch('one'))
        self.wait_for_rows('one')
        database.problem = 'before'
        worker.add(self.batch('two'))
        self.wait_for(lambda: database.failures > 3)
        self.assertEqual(['one'], self.written())
        self.assertIn('not_written_yet', self.reasons(before))
        database.problem = None
        self.wait_for_rows('two')
        self.assertEqual([], [gap for gap in self.complete_since(before) if gap.worker])

    def test_records_are_written_once_if_the_answer_to_the_commit_is_lost(self):
        database = Breakable(databases.database(self.url))
        worker = self.started(database=database)
        worker.add(self.batch('one'))
        self.wait_for_rows('one')
        database.problem = 'after'
        worker.add(self.batch('two'))
        self.wait_for_rows('two')
        database.problem = None
        worker.add(self.batch('three'))
        self.wait_for_rows('three')
        self.assertEqual(['one', 'two', 'three'], self.written())

    def test_a_full_queue_while_the_database_is_unavailable(self):
        database = Breakable(databases.database(self.url))
        before = self.reader.now()
        worker = self.started(database=database, queue_size=2)
        worker.add(self.batch('one'))
        self.wait_for_rows('one')
        database.problem = 'before'
        worker.add(self.batch('two'))
        self.wait_for(lambda: database.failures > 1)
        for name in ('three', 'four', 'five', 'six'):
            worker.add(self.batch(name))
        database.problem = None
        self.wait_for_rows('two', 'three', 'four')
        (gap,) = [gap for gap in self.complete_since(before) if gap.worker]
        self.assertEqual(('database', 5, 6, 2), (gap.reason, gap.from_seq, gap.to_seq, gap.missing))

    def test_a_record_that_cannot_be_written_is_a_gap(self):
        before = self.reader.now()
        worker = self.worker()
        duplicate = entries.Step('id-1', rows.SERVER, reasons.Step.ATTEMPT)
        broken = self.batch('broken')
        broken.outcomes = [None]
        for entry in (self.batch('one'), duplicate, broken, self.batch('two')):
            worker.add(entry)
        # NOTE: the key of an existing row.
        worker._queue[1] = (1, duplicate)
        worker._queue.insert(1, (1, duplicate))
        worker.start()
        self.addCleanup(worker.stop, 5.0)
        self.wait_for_rows('one', 'two')
        found = [gap for gap in self.complete_since(before) if gap.worker]
        self.assertEqual({('database', 1), ('database', 3)}, {(gap.reason, gap.from_seq) for gap in found})
        self.assertEqual(1, len(self.reader.steps(reads.Selection(), reads.Period(before, before + MINUTE))))

    def test_the_next_worker_records_that_one_was_killed(self):
        before = self.reader.now()
        killed = self.worker()
        killed._write_some()
        killed.add(self.batch('one'))
        self.wait_for(lambda: killed._write_some() and self.written())
        killed.add(self.batch('lost'))
        killed_at = self.reader.now()
        self.assertEqual(['not_written_yet'], self.reasons(killed_at - 1))
        self.started('controller:1')
        self.wait_for(lambda: len(completeness.workers(self.database, before, self.reader.now())) == 2)
        self.assertIn('not_written_yet', self.reasons(before, killed_at))
        # It has the name of the killed worker.
        self.started('controller:0')
        self.wait_for(lambda: 'killed' in self.reasons(before, killed_at))
        (gap,) = [gap for gap in self.gaps(before) if gap.reason == 'killed']
        self.assertEqual(('controller:0', 2, None), (gap.worker_name, gap.from_seq, gap.missing))
        self.assertLessEqual(gap.from_at, killed_at)
        self.assertEqual([], self.complete_since(gap.to_at + records.SECOND))

    def test_any_worker_records_that_another_one_is_silent(self):
        before = self.reader.now()
        self.worker()._write_some()
        silent_at = self.reader.now()
        other = store.Store(self.database)
        other.synchronize()
        self.assertEqual(0, other.end_silent(60.0))
        self.wait_for(lambda: other.end_silent(0.0))
        self.assertEqual(['killed'], self.reasons(before, silent_at)[-1:])

    def test_worker_that_was_recorded_as_ended_continues_with_a_new_number(self):
        before = self.reader.now()
        worker = self.started()
        worker.add(self.batch('one'))
        self.wait_for_rows('one')
        other = store.Store(self.database)
        other.synchronize()
        self.wait_for(lambda: other.end_silent(0.0))
        worker.add(self.batch('two'))
        self.wait_for_rows('two')
        self.assertEqual(
            [True, False],
            [row.killed for row in completeness.workers(self.database, before, self.reader.now())],
        )

    def test_a_worker_that_reaches_only_events_is_a_gap_until_it_writes_again(self):
        self.useFixture(fixtures.MonkeyPatch(f'{WRITER}.CHECK_INTERVAL', 0.02))
        database = Breakable(databases.database(self.url))
        before = self.reader.now()
        worker = self.started('controller:0', database=database)
        worker.add(self.batch('one'))
        self.wait_for_rows('one')
        database.problem = 'before'
        self.wait_for(lambda: database.failures > 1)
        long_ago = {'last_seen_at': self.reader.now() - HOUR}
        with self.database.writing() as connection:
            connection.execute(sa.update(models.JournalWorker).values(long_ago))
        other = self.started('controller:1')
        other.add(self.batch('two'))
        self.wait_for_rows('two')
        worker.add(self.batch('three'))
        after = self.reader.now()
        checks = []
        end_silent = other._store.end_silent
        self.useFixture(
            fixtures.MockPatchObject(
                other._store, 'end_silent', lambda silence: checks.append(end_silent(silence)) or 0
            )
        )
        self.wait_for(lambda: len(checks) > 3)
        self.wait_for(lambda: self.reasons(after, after + 1) == ['silent'])
        database.problem = None
        self.wait_for_rows('three')
        self.assertEqual([], [gap for gap in self.complete_since(before) if gap.worker])

    def presence(self, number, *, complete, stopped=False):
        now = time.monotonic()
        return entries.Presence(
            -number, 'controller:api-0', 'controller', 7, 'all', now - 100, now - complete, stopped
        )

    def of_apis(self):
        found = completeness.workers(self.database, 0, self.reader.now() + MINUTE)
        return [row for row in found if row.id < 0]

    def test_an_api_process_is_complete_until_its_last_message(self):
        worker = self.started()
        worker.present(self.presence(5, complete=60))
        self.wait_for(self.of_apis)
        until = self.reader.now()
        (gap,) = [gap for gap in self.gaps(until - 50 * records.SECOND, until) if gap.worker == -5]
        self.assertEqual('not_written_yet', gap.reason)
        self.assertEqual('external-events-api', self.of_apis()[0].service)
        worker.present(self.presence(5, complete=-1))
        self.wait_for(lambda: [gap for gap in self.gaps(until - 1, until) if gap.worker == -5] == [])
        # The next process at its place ends it, and has a message after its stop.
        worker.present(self.presence(6, complete=10))
        self.wait_for(lambda: len(self.of_apis()) == 2)
        self.assertEqual({-5: True, -6: False}, {row.id: row.killed for row in self.of_apis()})
        self.wait_for(lambda: 'killed' in self.reasons(until))
        worker.present(self.presence(6, complete=0, stopped=True))
        self.wait_for(lambda: all(row.stopped_at for row in self.of_apis()))
        stopped = max(row.stopped_at for row in self.of_apis())
        worker.present(self.presence(6, complete=3))
        worker.present(self.presence(7, complete=3))
        self.wait_for(lambda: len(self.of_apis()) == 3)
        self.assertIn(stopped, [row.stopped_at for row in self.of_apis()])

    def test_an_api_process_that_was_taken_for_dead_goes_on(self):
        worker = self.started()
        worker.present(self.presence(5, complete=60))
        self.wait_for(self.of_apis)
        other = store.Store(self.database)
        other.synchronize()
        other.end_silent(-60.0, worker=-5)
        self.assertTrue(self.of_apis()[0].killed)
        worker.present(self.presence(5, complete=1))
        self.wait_for(lambda: not self.of_apis()[0].killed and self.of_apis()[0].stopped_at is None)

    def test_gaps_of_others_are_counted_together_if_they_are_many(self):
        self.useFixture(fixtures.MonkeyPatch(f'{WRITER}.MOST_MISSED', 2))
        before = self.reader.now()
        worker = self.worker()
        for seconds in (1, 2, 30, 4):
            worker.miss(10, seconds=seconds)
        worker.start()
        worker.stop(5.0)
        found = [gap for gap in self.gaps(before - MINUTE) if gap.reason == 'not_routed']
        self.assertEqual(40, sum(gap.missing for gap in found))
        self.assertLess(min(gap.from_at for gap in found), before - 20 * records.SECOND)

    def test_two_workers_with_the_same_name(self):
        workers = [self.started('controller:0') for _ in range(2)]
        names = [f'{number}' for number in range(20)]
        for name in names:
            workers[int(name) % 2].add(self.batch(name))
            self.wait_for_rows(name)
        found = completeness.workers(self.database, 0, self.reader.now())
        self.assertEqual([False, False], [row.killed for row in found if row.stopped_at is None])
        self.assertLess(len(found), 4)

    def test_the_progress_of_a_transaction_that_is_being_committed(self):
        worker = self.started()
        worker.add(self.batch('one'))
        self.wait_for_rows('one')
        worker.stop(5.0)
        journal, found = store.Store(self.database), []
        thread = threading.Thread(target=lambda: found.append(journal.written_seq(1)))
        with databases.database(self.url).writing() as connection:
            connection.execute(sa.update(models.JournalWorker).values(written_seq=7))
            thread.start()
            thread.join(0.2)
            self.assertEqual([], found)
        thread.join(20)
        self.assertEqual([7], found)

    def test_a_worker_that_does_not_record_everything_is_a_gap(self):
        worker = self.started(record='problems')
        worker.add(self.batch('one'))
        self.wait_for_rows('one')
        self.assertEqual(['not_recorded'], self.reasons(self.reader.now() - 1))

    def test_only_problems(self):
        worker = self.worker()
        batch = self.batch('delivered', 'failed')
        batch.problems_only = True
        batch.classify = lambda outcome, _answered: (
            reasons.Reason.HANDLER_FAILED if outcome.event.tag == 'failed' else reasons.Reason.ACKNOWLEDGED
        )
        worker.start()
        worker.add(batch)
        worker.stop(5.0)
        self.assertEqual(['failed'], self.written())


class RetentionScenarios(JournalScenarios):
    def setUp(self):
        super().setUp()
        self.useFixture(fixtures.MonkeyPatch(f'{RETENTION}.ROWS', 10))
        self.now = self.reader.now()
        self.stopped = threading.Event()

    def retention(self, *, keep=3600.0, max_rows=1000, owner=1):
        return retention.Retention(self.database, keep=keep, max_rows=max_rows, owner=owner)

    def fill(self, number, *, at):
        at = [at + seq for seq in range(number)]
        self.insert(models.JournalEvent, *(rows.event(one, seq=seq) for seq, one in enumerate(at)))
        self.insert(models.JournalRequest, *(rows.request(one, seq=seq) for seq, one in enumerate(at)))

    def count(self, table):
        with self.database.reading() as connection:
            return connection.scalar(sa.select(sa.func.count()).select_from(table.__table__))

    def test_old_records_are_deleted(self):
        self.fill(35, at=self.now - 2 * HOUR)
        self.insert(models.JournalEventHost, rows.event_host(self.now - 2 * HOUR))
        self.insert(models.JournalStep, rows.step(self.now - 2 * HOUR))
        self.insert(models.JournalRefusal, rows.refusal(self.now - 2 * HOUR))
        self.fill(5, at=self.now - MINUTE)
        self.assertEqual(73, self.retention().run(self.stopped))
        self.assertEqual([5, 5], [self.count(models.JournalEvent), self.count(models.JournalRequest)])
        found = completeness.gaps(self.database, self.now - 2 * HOUR, self.now)
        self.assertIn('deleted', [gap.reason for gap in found])
        found = completeness.gaps(self.database, self.now - MINUTE, self.now)
        self.assertNotIn('deleted', [gap.reason for gap in found])
        self.assertEqual(0, self.retention().run(self.stopped))

    def test_no_more_rows_than_allowed(self):
        journal = store.Store(self.database)
        journal.synchronize()
        worker = journal.register(store.Identity('w', 's', 'h', 1, 'all'), time.monotonic())
        made = [tuple(rows.event(self.now - MINUTE + seq, seq=seq).values()) for seq in range(40)]
        journal.write(worker, {'journal_events': made}, store.Progress(self.now, 40))
        cleaner = self.retention(max_rows=25)
        self.assertEqual(15, cleaner.run(self.stopped))
        self.assertEqual(0, cleaner.run(self.stopped))
        with self.database.reading() as connection:
            oldest = connection.scalar(sa.select(sa.func.min(models.JournalEvent.received_at)))
        self.assertEqual(self.now - MINUTE + 15, oldest)

    def test_one_worker_at_a_time(self):
        self.fill(5, at=self.now - 2 * HOUR)
        self.assertTrue(self.retention(owner=1)._acquire())
        self.assertEqual(0, self.retention(owner=2).run(self.stopped))
        self.assertEqual(10, self.retention(owner=1).run(self.stopped))

    def test_workers_that_ended_are_forgotten_and_their_rows_still_counted(self):
        journal = store.Store(self.database)
        journal.synchronize()
        for name in ('old', 'running'):
            worker = journal.register(store.Identity(name, 's', 'h', 1, 'all'), time.monotonic())
            times = range(self.now + 100 * worker, self.now + 100 * worker + 10)
            made = [tuple(rows.event(at, worker=worker, seq=at).values()) for at in times]
            journal.write(worker, {'journal_events': made}, store.Progress(self.now, 10))
            if name == 'old':
                journal.stop(worker, until=self.now - 2 * HOUR)
        self.retention().run(self.stopped)
        found = completeness.workers(self.database, 0, self.now + HOUR)
        self.assertEqual(['running'], [row.name for row in found])
        self.assertEqual(5, self.retention(max_rows=15).run(self.stopped))


class Breakable:
    """A database that is unavailable on demand: before a transaction, or after its commit."""

    def __init__(self, database):
        self._database = database
        self.problem = None
        self.failures = 0

    def __getattr__(self, name):
        return getattr(self._database, name)

    def _fail(self, when):
        if self.problem == when:
            self.failures += 1
            if when == 'after':
                self.problem = None
            raise exceptions.DatabaseUnavailable(reason=f'unavailable {when} the transaction')

    @contextlib.contextmanager
    def reading(self):
        self._fail('before')
        with self._database.reading() as connection:
            yield connection

    @contextlib.contextmanager
    def writing(self):
        self._fail('before')
        with self._database.writing() as connection:
            yield connection
        self._fail('after')


class PlanScenarios(JournalScenarios):
    """Each read uses an index whose first columns the statement names; no read scans a table."""

    NUMBER = 4000

    def setUp(self):
        super().setUp()
        # A thousand events in an hour.
        at = [rows.T0 + number * 3_600_000 for number in range(self.NUMBER)]
        self.period = reads.Period(at[0] + HOUR - 10 * MINUTE, at[0] + 3 * HOUR - 10 * MINUTE)
        with self.database.reading() as connection:
            # The tests of a class may share the rows, because they only read them.
            if connection.scalar(sa.select(sa.func.count()).select_from(models.JournalEvent)):
                return
        made = {
            models.JournalEvent: [
                rows.event(
                    time,
                    seq=number,
                    server_uuid=f'server-{number % 500}',
                    tag=f'port-{number % 700}',
                    event_id=f'event-{number}',
                    hosts=(f'node-{number % 50}',),
                    reason='acknowledged' if number % 100 else 'held_no_queue',
                )
                for number, time in enumerate(at)
            ],
            models.JournalRequest: [
                rows.request(time, seq=number, user_id=f'user-{number % 40}')
                for number, time in enumerate(at)
            ],
            models.JournalEventHost: [rows.event_host(time, seq=number) for number, time in enumerate(at)],
            models.JournalStep: [
                rows.step(
                    time,
                    seq=number,
                    server_uuid=f'server-{number % 500}',
                    event_id=f'event-{number}',
                    host=f'node-{number % 50}',
                    kind='delivered' if number % 100 else 'expired',
                )
                for number, time in enumerate(at)
            ],
            models.JournalRefusal: [rows.refusal(time, seq=number) for number, time in enumerate(at)],
        }
        for table, values in made.items():
            self.insert(table, *values)
        with self.database.writing() as connection:
            for table in made:
                self.analyze(connection, table.__tablename__)

    def analyze(self, connection, table):
        connection.exec_driver_sql(f'ANALYZE {table}')

    def explained(self, read):
        """The plans of the statements of a read."""
        sent = []

        def keep(connection, cursor, statement, parameters, *rest):
            if statement.startswith('SELECT') and 'journal_' in statement:
                sent.append((statement, parameters))

        engine = self.database._reader
        sa.event.listen(engine, 'before_cursor_execute', keep)
        try:
            read()
        finally:
            sa.event.remove(engine, 'before_cursor_execute', keep)
        self.assertNotEqual([], sent)
        with self.database.reading() as connection:
            return [self.plan(connection, *each) for each in sent]

    def check(self, expected, read):
        """Each statement of a read uses the expected index first, and scans nothing."""
        for plan in self.explained(read):
            self.assertFalse(self.scans(plan), plan)
            self.assertTrue(any(index in str(plan) for index in expected), f'{expected}: {plan}')

    def test_events(self):
        for chosen, *expected in (
            ({'server_uuid': 'server-7'}, 'ix_journal_events_server_uuid'),
            ({'event_id': 'event-7'}, 'ix_journal_events_event_id'),
            ({'tag': 'port-7'}, 'ix_journal_events_tag'),
            ({'host': 'node-7'}, 'ix_journal_events_host', 'ix_journal_event_hosts_host'),
            ({'server_uuid': 'server-7', 'host': 'node-7'}, 'ix_journal_events_server_uuid'),
            (
                {'request_id': 'req-1-7'},
                'ix_journal_requests_request_id',
                'ix_journal_requests_global_request_id',
            ),
            ({'user_id': 'user-7'}, 'ix_journal_requests_user_id'),
            ({'codes': frozenset({503})}, 'ix_journal_events_reason'),
            ({'reasons': frozenset({reasons.Reason.HELD_NO_QUEUE})}, 'ix_journal_events_reason'),
            ({}, self.primary('journal_events')),
        ):
            for newest in (False, True):
                period = dataclasses.replace(self.period, newest_first=newest)
                after = dataclasses.replace(period, after=(period.since + HOUR, 1, 7))
                for each in (period, after):
                    with self.subTest(chosen=chosen, period=each):
                        selection = reads.Selection(**chosen)
                        self.check(expected, lambda s=selection, p=each: self.reader.events(s, p, limit=50))

    def test_steps(self):
        for chosen, expected in (
            ({'server_uuid': 'server-7'}, 'ix_journal_steps_server_uuid'),
            ({'event_id': 'event-7'}, 'ix_journal_steps_event_id'),
            ({'host': 'node-7'}, 'ix_journal_steps_host'),
            ({'kinds': frozenset({reasons.Step.EXPIRED})}, 'ix_journal_steps_kind'),
            ({}, self.primary('journal_steps')),
        ):
            with self.subTest(chosen=chosen):
                selection = reads.Selection(**chosen)
                self.check([expected], lambda s=selection: self.reader.steps(s, self.period, limit=50))

    def test_refusals(self):
        self.check([self.primary('journal_refusals')], lambda: self.reader.refusals(self.period))
        expected = ['ix_journal_refusals_request_id', 'ix_journal_refusals_global_request_id']
        self.check(expected, lambda: self.reader.refusals(self.period, request_id='req-1-7'))

    def primary(self, table):
        return f'pk_{table}'


class SQLitePlans:
    def analyze(self, connection, table):
        """A file of SQLite has no statistics by default."""

    def plan(self, connection, statement, parameters):
        return [
            row[3] for row in connection.exec_driver_sql(f'EXPLAIN QUERY PLAN {statement}', parameters).all()
        ]

    def scans(self, plan):
        return any(line.startswith('SCAN') for line in plan)

    def primary(self, table):
        return f'sqlite_autoindex_{table}_1'


class PostgreSQLPlans:
    def plan(self, connection, statement, parameters):
        # NOTE: a table of this size is read as a whole, which costs less than its index.
        connection.exec_driver_sql('SET enable_seqscan = off')
        return connection.exec_driver_sql(f'EXPLAIN (FORMAT JSON) {statement}', parameters).scalar()

    def scans(self, plan):
        return 'Seq Scan' in str(plan) or 'Index Cond' not in str(plan)


class MySQLPlans:
    def analyze(self, connection, table):
        connection.exec_driver_sql(f'ANALYZE TABLE {table}')

    def plan(self, connection, statement, parameters):
        found = connection.exec_driver_sql(f'EXPLAIN {statement}', parameters).mappings().all()
        return [f'{row["table"]} {row["type"]} {row["key"]} {row["rows"]}' for row in found]

    def scans(self, plan):
        return any(line.split()[1] in ('ALL', 'index') for line in plan)

    def primary(self, _table):
        return 'PRIMARY'
