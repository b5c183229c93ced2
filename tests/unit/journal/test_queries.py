"""All records of one server in one period, from a reader that keeps them in lists."""

from external_events_router.journal import queries
from external_events_router.journal import reads
from external_events_router.journal import records
from tests import base
from tests.unit.journal import histories as h

OTHER = '00000002-0000-4000-8000-000000000000'


class Reader:
    """Rows in lists, read as ``reads.Reader`` reads them."""

    def __init__(self, *, events=(), steps=(), refusals=(), now=h.START + 600_000_000):
        self._events = events
        self._steps = steps
        self._refusals = refusals
        self._now = now

    def now(self):
        return self._now

    def events(self, selection, period, *, limit):
        chosen = [
            row
            for row in self._events
            if row.server_uuid == selection.server_uuid
            and reads.stored_tag(selection.tag) in (None, row.tag)
            and (selection.names is None or row.name in selection.names)
        ]
        return self._read(chosen, period, limit, lambda row: row.received_at)

    def steps(self, selection, period, *, limit):
        chosen = [row for row in self._steps if row.server_uuid == selection.server_uuid]
        return self._read(chosen, period, limit, lambda row: row.at)

    def refusals(self, period, *, request_id=None, limit):
        return self._read(self._refusals, period, limit, lambda row: row.at)

    def _read(self, rows, period, limit, time):
        chosen = [row for row in rows if period.since <= time(row) <= period.until]
        return sorted(chosen, key=time, reverse=period.newest_first)[:limit]


class QueriesTest(base.TestCase):
    def read(self, *, gaps=(), since=0, until=100, port=None, name=None, **rows):
        question = queries.Question(h.SERVER, h.at(since), h.at(until), port, name)
        asked = []

        def incomplete(start, end):
            asked.append((start, end))
            return gaps

        found = queries.history(Reader(**rows), incomplete, question)
        self.assertEqual({(h.at(since), h.at(until))}, set(asked))
        return found

    def test_events_of_the_period_in_their_order(self):
        events = [h.event(seconds) for seconds in (120, 20, 10)]
        found = self.read(events=[*events, h.event(15, server_uuid=OTHER)])
        self.assertEqual([h.at(10), h.at(20)], [event.received_at for event in found.events])
        self.assertEqual((), found.others)

    def test_events_that_were_not_asked_for_are_the_others(self):
        events = [h.event(1), h.event(2, tag='port-2'), h.event(3, name='network-changed')]
        found = self.read(events=events, port=h.PORT, name='network-vif-plugged')
        self.assertEqual(
            ([h.at(1)], [h.at(2), h.at(3)]),
            (
                [event.received_at for event in found.events],
                [event.received_at for event in found.others],
            ),
        )

    def test_steps_after_the_period_belong_to_its_events(self):
        steps = [h.step(300, 'expired'), h.step(20, 'delivered', event_id='event-2')]
        found = self.read(events=[h.event(10, 'held_no_queue')], steps=steps)
        self.assertEqual(['expired'], [step.kind for step in found.steps])

    def test_refusals_that_name_the_server(self):
        refusals = [
            h.refusal('bad_request', 400, 1, servers=(h.SERVER,)),
            h.refusal('bad_request', 400, 2, servers=(OTHER,)),
            h.refusal('not_authenticated', 401, 3),
        ]
        self.assertEqual([400], [refusal.status for refusal in self.read(refusals=refusals).refusals])

    def test_refusals_of_unread_requests_are_those_of_a_server_without_events(self):
        refusals = [h.refusal('not_authenticated', 401, second) for second in range(20)]
        refusals += [h.refusal('not_permitted', 403, 31, servers=(OTHER,))]
        found = self.read(refusals=refusals).refusals
        self.assertEqual(
            [h.at(second) for second in range(20 - queries.MAX_UNNAMED, 20)], [each.at for each in found]
        )
        self.assertEqual((), self.read(refusals=refusals, events=[h.event(5)]).refusals)

    def test_refusals_that_may_have_named_the_server(self):
        many = tuple(f'server {number}' for number in range(records.MAX_NAMED))
        refusals = [
            h.refusal('bad_request', 400, 1),
            h.refusal('not_found', 404, 2),
            h.refusal('other', 415, 3),
            h.refusal('failed', 500, 4),
            h.refusal('not_routed', 207, 5, servers=many),
            h.refusal('bad_request', 400, 6, servers=(OTHER,), suppressed=1),
            h.refusal('bad_request', 400, 7, servers=(OTHER, f'{h.SERVER} ')),
            h.refusal('bad_request', 400, 8, servers=(OTHER,)),
        ]
        found = self.read(refusals=refusals).refusals
        self.assertEqual([h.at(second) for second in range(1, 8)], [each.at for each in found])

    def test_refusals_before_the_period_count_if_further_ones_are_not_recorded(self):
        refusals = [h.refusal('bad_request', 400, -70, suppressed=1)]
        self.assertEqual((), self.read(refusals=refusals).refusals)
        refusals += [h.refusal('bad_request', 400, -50, suppressed=1), h.refusal('bad_request', 400, -40)]
        self.assertEqual([h.at(-50)], [each.at for each in self.read(refusals=refusals).refusals])

    def test_too_many_refusals(self):
        refusals = [h.refusal('bad_request', 400, 1, servers=(OTHER,))] * queries.MAX_REFUSALS
        found = self.read(refusals=refusals[1:])
        self.assertEqual((True, ()), (found.all_refusals, found.warnings))
        found = self.read(refusals=refusals)
        self.assertEqual((False, 1), (found.all_refusals, len(found.warnings)))

    def test_events_of_a_port_are_found_behind_many_others(self):
        events = [h.event(1), *(h.event(2, tag='port-2') for _ in range(queries.MAX_EVENTS))]
        found = self.read(events=events, port=h.PORT)
        self.assertEqual(([h.at(1)], ()), ([event.received_at for event in found.events], found.warnings))

    def test_refusal_of_events_of_another_name_does_not_count(self):
        refusals = [h.refusal('bad_request', 400, 1, servers=(h.SERVER,), names=('network-changed',))]
        self.assertEqual((), self.read(refusals=refusals, name='volume-extended').refusals)
        names = tuple(f'name {number}' for number in range(records.MAX_NAMED))
        refusals = [h.refusal('bad_request', 400, 1, servers=(h.SERVER,), names=names)]
        self.assertEqual(1, len(self.read(refusals=refusals, name='volume-extended').refusals))

    def test_period_ends_where_all_workers_have_written(self):
        gaps = [h.gap('not_written_yet', 98, 100), h.gap('not_written_yet', 99, 100), h.gap('killed', 5, 6)]
        found = self.read(gaps=gaps, events=[h.event(99.5)])
        self.assertEqual(h.at(98), found.until)
        self.assertEqual(['killed'], [gap.reason for gap in found.gaps])
        # The recorded rows are shown in spite of it.
        self.assertEqual(1, len(found.events))

    def test_records_that_are_deleted_during_the_read(self):
        answers = [[h.gap('not_written_yet', 98, 100)], [h.gap('deleted', 0, 50)]]
        question = queries.Question(h.SERVER, h.at(0), h.at(100))
        found = queries.history(Reader(), lambda *_period: answers.pop(0), question)
        self.assertEqual((['deleted'], h.at(98)), ([gap.reason for gap in found.gaps], found.until))
        self.assertEqual(('Workers have not written the last 2 s of this period yet.',), found.warnings)

    def test_port_with_characters_that_the_journal_replaces(self):
        found = self.read(events=[h.event(1, tag='port?1')], port='port\n1')
        self.assertEqual(((), 1), (found.others, len(found.events)))

    def test_worker_that_has_not_written_for_long_is_a_gap(self):
        for since, silent in ((0, 49), (-1000, 9)):
            found = self.read(gaps=[h.gap('not_written_yet', silent, 100)], since=since)
            self.assertEqual((h.at(100), 1), (found.until, len(found.gaps)))

    def test_too_many_events(self):
        events = [h.event(second / 10, seq=second) for second in range(queries.MAX_EVENTS + 10)]
        found = self.read(events=events)
        self.assertEqual((queries.MAX_EVENTS, 11), (len(found.events), found.events[0].seq + 1))
        self.assertEqual(1, len(found.warnings))
