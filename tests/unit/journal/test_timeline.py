"""One ordered list of all records about a server."""

from external_events_router.journal import timeline
from tests import base
from tests.unit.journal import histories as h


def lines(history):
    """Seconds since the start, kind, and host of each entry."""
    return [((entry.at - h.START) / 1e6, str(entry.kind), entry.host) for entry in timeline.build(history)]


class TimelineTest(base.TestCase):
    def test_event_that_a_waiter_received(self):
        history = h.history(h.event(5, handling=h.HANDLED))
        self.assertEqual(
            [
                (3.0, 'wait', 'host-a'),
                (5.0, 'received', None),
                (5.012, 'acknowledged', 'host-a'),
                (5.02, 'answered', 'host-a'),
            ],
            lines(history),
        )
        self.assertEqual(h.at(3), timeline.origin(history))
        received, acknowledged, answered = [entry.text for entry in timeline.build(history)[1:]]
        self.assertEqual('received from user neutron, status completed, request req-sender req-own', received)
        self.assertEqual(
            'acknowledged after 12 ms, received by a waiter that had waited for 2.000 s', acknowledged
        )
        self.assertEqual('code 200, acknowledged', answered)

    def test_event_after_a_wait_shows_the_end_of_the_wait(self):
        history = h.history(h.event(20, handling=h.AFTER_WAIT))
        self.assertEqual((8.0, 'wait', 'host-a'), lines(history)[0])
        self.assertIsNone(timeline.origin(history))

    def test_steps_of_a_held_event(self):
        history = h.history(
            h.event(0, 'held_no_queue', detail='host-a: no queue'),
            steps=(
                h.step(9, 'delivered', host='host-a', handling=h.HANDLED),
                h.step(1, 'attempt', attempt=1, host='host-a', detail='no queue'),
                h.step(3, 'dropped', event_id='event-2'),
            ),
        )
        texts = [entry.text for entry in timeline.build(history)]
        self.assertEqual(
            [
                'received from user neutron, status completed, request req-sender req-own',
                'code 200, held_no_queue: host-a: no queue',
                'attempt 1: no queue',
                'the wait for the event began',
                'delivered: received by a waiter that had waited for 2.000 s',
            ],
            texts,
        )
        self.assertEqual(h.at(7), timeline.origin(history))

    def test_steps_of_an_event_that_arrived_twice_are_shown_once(self):
        history = h.history(
            h.event(0, 'held_no_queue'), h.event(5, 'held_no_queue'), steps=(h.step(9, 'expired'),)
        )
        self.assertEqual(1, [kind for _, kind, _ in lines(history)].count('step'))

    def test_operator_is_named(self):
        history = h.history(
            h.event(0, 'held_no_queue'),
            h.event(9, replayed=True),
            steps=(h.step(3, 'dropped', actor='root'),),
        )
        texts = [entry.text for entry in timeline.build(history)]
        self.assertIn('dropped by root', texts)
        self.assertTrue(any(text.startswith('sent again by an operator from user neutron') for text in texts))

    def test_refusal_gap_and_action(self):
        history = h.history(
            refusals=(h.refusal('not_authenticated', 401, 7, suppressed=3, names=('network-changed',)),),
            gaps=(h.gap('queue_full', 2, 4, missing=5),),
            actions=(h.action(),),
        )
        self.assertEqual(
            ['started', 'started on the host', '5 records are missing', '401 to a client', 'failed: Virtual'],
            [
                entry.text[: len(begin)]
                for entry, begin in zip(
                    timeline.build(history),
                    (
                        'started',
                        'started on the host',
                        '5 records are missing',
                        '401 to a client',
                        'failed: Virtual',
                    ),
                    strict=True,
                )
            ],
        )
        self.assertIn('(and 3 more without a record)', timeline.build(history)[3].text)
        self.assertEqual(h.at(1), timeline.origin(history))

    def test_wait_of_an_event_counts_more_than_the_start_of_an_action(self):
        history = h.history(h.event(9, handling=h.HANDLED), actions=(h.action(),))
        self.assertEqual(h.at(7), timeline.origin(history))
