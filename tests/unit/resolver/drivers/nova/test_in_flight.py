"""Events in flight to nova-compute, and answers that arrive late."""

import time

from external_events_router import events
from external_events_router.resolver import answers
from external_events_router.resolver.drivers import rounds
from external_events_router.resolver.drivers.nova import in_flight
from tests import base

KEY, OTHER = ('host', 'event'), ('host', 'other')
HANDLED = answers.Answer(events.Verdict.HANDLED)
SILENT = answers.Answer(None, 'no reply')


class InFlightTest(base.TestCase):
    def setUp(self):
        super().setUp()
        self.pending = in_flight.InFlight(remembered=2)
        self.asks, self.again = rounds.AckRound([KEY]), rounds.AckRound([KEY])

    def test_event_in_flight_is_not_sent_again_and_all_waiting_batches_get_its_answer(self):
        self.assertFalse(self.pending.join(KEY, self.asks))
        self.assertTrue(self.pending.join(KEY, self.again))
        self.assertTrue(self.pending.settle(KEY, HANDLED))
        for asks in (self.asks, self.again):
            self.assertEqual({KEY: HANDLED}, asks.wait(time.monotonic() + 30))

    def test_late_answer_is_returned_once(self):
        self.pending.join(KEY, self.asks)
        self.pending.leave([KEY, OTHER], self.asks)
        self.assertFalse(self.pending.settle(KEY, HANDLED))
        self.assertTrue(self.pending.join(KEY, self.again))
        self.assertEqual({KEY: HANDLED}, self.again.wait(0))
        self.assertIsNone(self.asks.wait(0)[KEY].verdict)
        self.assertFalse(self.pending.join(KEY, self.asks))

    def test_failure_that_no_batch_waited_for_is_tried_again(self):
        self.pending.join(KEY, self.asks)
        self.pending.leave([KEY], self.asks)
        self.assertFalse(self.pending.settle(KEY, SILENT))
        self.assertFalse(self.pending.join(KEY, self.again))

    def test_latest_answers_are_remembered(self):
        keys = [('host', str(number)) for number in range(3)]
        for key in keys:
            self.pending.settle(key, HANDLED)
        self.assertEqual([False, True, True], [self.pending.join(key, self.asks) for key in keys])

    def test_wait_ends_at_the_deadline_and_a_second_answer_is_ignored(self):
        asks = rounds.AckRound([KEY, OTHER])
        asks.answer(KEY, HANDLED)
        asks.answer(KEY, SILENT)
        asks.answer(('host', 'never asked'), HANDLED)
        results = asks.wait(time.monotonic() + 0.01)
        self.assertEqual((HANDLED, None), (results.pop(KEY), results.pop(OTHER).verdict))
        self.assertEqual({}, results)
