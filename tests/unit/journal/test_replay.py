"""Which recorded events are sent again, and in which batches."""

from external_events_router.journal import replay
from external_events_router.journal import states
from tests import base
from tests.unit.journal import histories as h

State = states.State


def named(rows):
    return [row.event_id for row in rows]


class ReplayTest(base.TestCase):
    def select(self, *found, now=400, since=0):
        return replay.select(found, now=h.at(now), since=h.at(since), lifetime=lambda event: 300.0)

    def test_events_are_due_late_or_held(self):
        selected = self.select(
            (h.event(10, event_id='late'), State.DELIVERED),
            (h.event(100, event_id='at the deadline'), State.DELIVERED),
            (h.event(101, event_id='due'), State.DELIVERED),
            (h.event(102, 'held_no_queue', event_id='held', name='network-changed'), State.HELD),
            (h.event(103, 'held_no_queue', event_id='expired'), State.EXPIRED),
        )
        self.assertEqual(
            (['due', 'expired'], ['late', 'at the deadline'], ['held']),
            (named(selected.due), named(selected.late), named(selected.held)),
        )
        self.assertEqual([('network-changed', 0, 0, 1), ('network-vif-plugged', 2, 2, 0)], selected.counts())

    def test_event_that_arrived_again_counts_once_from_its_first_arrival(self):
        selected = self.select(
            (h.event(10, event_id='one'), State.DELIVERED),
            (h.event(390, event_id='one', replayed=True), State.DELIVERED),
        )
        self.assertEqual(([], [h.at(10)]), (named(selected.due), [row.received_at for row in selected.late]))

    def test_deadline_counts_from_an_arrival_before_the_period(self):
        selected = self.select(
            (h.event(90, event_id='late'), State.DELIVERED),
            (h.event(150, event_id='due'), State.DELIVERED),
            (h.event(160, event_id='before'), State.DELIVERED),
            (h.event(250, event_id='late'), State.DELIVERED),
            (h.event(260, event_id='due'), State.DELIVERED),
            since=200,
        )
        self.assertEqual((['due'], ['late']), (named(selected.due), named(selected.late)))

    def test_event_that_only_an_operator_sent_in_the_period_is_not_in_it(self):
        rows = (
            (h.event(150, event_id='before'), State.DELIVERED),
            (h.event(250, event_id='before', replayed=True), State.DELIVERED),
            (h.event(260, event_id='without its post', replayed=True), State.DELIVERED),
        )
        self.assertEqual(replay.Selected(), self.select(*rows, since=200))

    def test_event_that_is_held_after_it_was_sent_again(self):
        selected = self.select(
            (h.event(150, event_id='one'), State.DELIVERED),
            (h.event(250, 'held_no_queue', event_id='one', replayed=True), State.HELD),
        )
        self.assertEqual(((), ['one']), (selected.due, named(selected.held)))

    def test_events_of_a_request_go_together_in_their_order(self):
        one, two = h.request(request_id='req-1'), h.request(request_id='req-2', user_id=None)
        rows = [
            h.event(1, event_id='a', request=one),
            h.event(1, event_id='b', request=one, tag=None, status='failed'),
            h.event(2, event_id='c', request=two),
            h.event(3, event_id='d', request=one),
            h.event(4, event_id='e', request=None),
        ]
        batches = list(replay.batches(rows))
        self.assertEqual(
            [['a', 'b'], ['c'], ['d'], ['e']], [[event.id for event in batch] for _, batch in batches]
        )
        contexts = [ctxt for ctxt, _ in batches]
        self.assertEqual(['req-1', 'req-2', 'req-1'], [ctxt.request_id for ctxt in contexts[:3]])
        self.assertEqual(
            ('req-sender', 'neutron', 'service'),
            (contexts[0].global_request_id, contexts[0].user_id, contexts[0].project_id),
        )
        event = batches[0][1][1]
        self.assertEqual(
            ('network-vif-plugged', h.SERVER, None, 'failed'),
            (event.name, event.server_uuid, event.tag, event.status),
        )

    def test_large_requests_are_divided(self):
        rows = [h.event(1, event_id=str(number)) for number in range(replay.MAX_BATCH + 1)]
        self.assertEqual([replay.MAX_BATCH, 1], [len(batch) for _, batch in replay.batches(rows)])
        self.assertEqual([], list(replay.batches([])))
