import tracemalloc

from external_events_router import events
from external_events_router import ids
from external_events_router.agent import deduplicator
from tests import base
from tests.unit.agent import helpers

HANDLED = events.Result('e', events.Verdict.HANDLED)


class TestSeen(base.TestCase):
    def setUp(self):
        super().setUp()
        self.time = helpers.Time()
        self.seen = deduplicator.Deduplicator(remembered_events=3, remembered_seconds=10.0, clock=self.time)
        self.receipt = helpers.receipt()

    def _handle(self, event_id, verdict=events.Verdict.HANDLED):
        self.assertIs(True, self.seen.begin(event_id, self.receipt))
        return self.seen.finish(event_id, events.Result(event_id, verdict))

    def test_handled_event_is_remembered(self):
        self.assertEqual((self.receipt,), self._handle('e'))
        self.assertEqual(HANDLED, self.seen.begin('e', helpers.receipt()))

    def test_refused_event_is_remembered(self):
        self._handle('e', events.Verdict.REFUSED)
        self.assertEqual(events.Verdict.REFUSED, self.seen.begin('e', self.receipt).verdict)

    def test_event_of_an_absent_server_is_not_remembered(self):
        self._handle('e', events.Verdict.NOT_HERE)
        self.assertIs(True, self.seen.begin('e', self.receipt))

    def test_repeated_event_in_progress_acknowledges_all_deliveries(self):
        again = helpers.receipt('again')
        self.assertIs(True, self.seen.begin('e', self.receipt))
        self.assertIs(False, self.seen.begin('e', again))
        self.assertEqual((self.receipt, again), self.seen.finish('e', HANDLED))

    def test_one_delivery_is_acknowledged_once(self):
        self.seen.begin('e', self.receipt)
        self.assertIs(False, self.seen.begin('e', self.receipt))
        self.assertEqual((self.receipt,), self.seen.finish('e', HANDLED))

    def test_number_of_receipts_is_bounded(self):
        for number in range(deduplicator.MAX_RECEIPTS + 5):
            self.seen.begin('e', helpers.receipt(str(number)))
        receipts = self.seen.finish('e', HANDLED)
        self.assertEqual(deduplicator.MAX_RECEIPTS, len(receipts))
        self.assertEqual(str(deduplicator.MAX_RECEIPTS + 4), receipts[-1].delivery_id)

    def test_memory_is_bounded_by_number(self):
        for event_id in 'abcd':
            self._handle(event_id)
        self.assertIs(True, self.seen.begin('a', self.receipt))
        self.assertIsInstance(self.seen.begin('b', self.receipt), events.Result)

    def test_memory_is_bounded_by_time(self):
        self._handle('e')
        self.time.now += 9.9
        self.assertIsInstance(self.seen.begin('e', self.receipt), events.Result)
        self.time.now += 0.2
        self.assertIs(True, self.seen.begin('e', self.receipt))

    def test_forgotten_event_is_handled_again(self):
        self.seen.begin('e', self.receipt)
        self.seen.forget('e')
        self.assertIs(True, self.seen.begin('e', self.receipt))

    def test_event_is_late_only_if_all_its_deliveries_are_late(self):
        self.seen.begin('e', helpers.receipt(seconds=1))
        newer = helpers.receipt(seconds=50)
        self.seen.begin('e', newer)
        self.assertFalse(self.seen.forget_late('e', newer.deadline - 1))
        self.assertTrue(self.seen.forget_late('e', newer.deadline + 1))
        self.assertIs(True, self.seen.begin('e', self.receipt))

    def test_remembered_event_takes_at_most_one_kibibyte(self):
        number = 5000
        seen = deduplicator.Deduplicator()
        handling = events.Handling(True, 17, 'handler', 3)
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(number):
            event_id = ids.random_uuid()
            seen.begin(event_id, self.receipt)
            result = events.Result(event_id, events.Verdict.REFUSED, f'reason of {event_id}', handling)
            seen.finish(event_id, result)
        seen.finish_all([ids.random_uuid() for _ in range(number)])
        used = tracemalloc.get_traced_memory()[0] - before
        self.assertLess(used / (2 * number), 500)

    def test_events_that_end_at_once_are_remembered(self):
        self._handle('a', events.Verdict.REFUSED)
        results, repeated = self.seen.finish_all(['a', 'b', 'b'])
        self.assertEqual(
            [('a', 'refused'), ('b', 'handled'), ('b', 'handled')],
            [(result.event_id, result.verdict) for result in results],
        )
        self.assertEqual(2, repeated)
        self.assertIs(results[1], self.seen.begin('b', self.receipt))

    def test_nothing_ends_at_once_while_one_event_is_in_progress(self):
        self.seen.begin('a', self.receipt)
        self.assertIsNone(self.seen.finish_all(['b', 'a']))
        self.assertIs(True, self.seen.begin('b', self.receipt))
