import collections
import threading
from unittest import mock

import fixtures

from external_events_router import events
from external_events_router import exceptions
from external_events_router.agent import acker as ackers
from external_events_router.agent import clock
from tests import base
from tests.unit.agent import helpers


def result(event_id):
    return events.Result(event_id, events.Verdict.HANDLED)


class Casts:
    """A client whose casts are done when the test calls ``done``."""

    def __init__(self):
        self.casts = []
        self.threads = []
        self.done = []
        #: Results that are reported immediately, before the cast returns.
        self.at_once = []

    def acknowledge_all(self, reply_to, acknowledgements, done):
        acknowledgement_parts = [
            (each.delivery_id, ''.join(one.event_id for one in each.results)) for each in acknowledgements
        ]
        self.casts.append((reply_to, *acknowledgement_parts))
        self.threads.append(threading.current_thread())
        if self.at_once:
            done(self.at_once.pop(0))
        else:
            self.done.append(done)


class Timers(fixtures.Fixture):
    """Replaces ``threading.Timer``: a timer expires when the test calls ``end``."""

    def _setUp(self):
        self.pauses = []
        self.useFixture(fixtures.MonkeyPatch('threading.Timer', self._make))

    def _make(self, seconds, function):
        self.pauses.append(seconds)
        self.end = function
        self.timer = mock.create_autospec(threading.Thread, instance=True)
        self.timer.cancel = mock.Mock()
        return self.timer


AWAY = exceptions.BrokerUnavailable(reason='away')


class TestAcker(base.TestCase):
    def setUp(self):
        super().setUp()
        self.acks = helpers.Acks()
        self.addCleanup(self.acks.open.set)

    def _acker(self, **kwargs):
        made = helpers.make_acker(self.acks, **kwargs)
        self.addCleanup(made.stop, 0)
        return made

    def _send(self, acker, receipt, sent):
        acker.add(receipt, [sent])

    def test_result_is_sent_immediately(self):
        acker = self._acker()
        self._send(acker, helpers.receipt('d'), result('a'))
        self.assertTrue(acker.flush(helpers.PATIENCE))
        self.assertEqual([('d', [result('a')])], self.acks.casts)

    def test_results_added_during_a_cast_are_sent_together(self):
        acker = self._acker()
        self.acks.open.clear()
        self._send(acker, helpers.receipt('d'), result('a'))
        self.assertTrue(self.acks.entered.acquire(timeout=helpers.PATIENCE))
        self._send(acker, helpers.receipt('d'), result('b'))
        self._send(acker, helpers.receipt('other'), result('c'))
        self._send(acker, helpers.receipt('d'), result('d'))
        self.assertFalse(acker.flush(0))
        self.acks.open.set()
        self.assertTrue(acker.flush(helpers.PATIENCE))
        expected = [('d', [result('a')]), ('d', [result('b'), result('d')]), ('other', [result('c')])]
        self.assertEqual(expected, self.acks.casts)

    def test_failed_results_are_retried_with_results_added_meanwhile(self):
        acker = self._acker()
        self.acks.failures = 2
        self.acks.open.clear()
        self._send(acker, helpers.receipt('d'), result('a'))
        self.assertTrue(self.acks.entered.acquire(timeout=helpers.PATIENCE))
        self._send(acker, helpers.receipt('d'), result('b'))
        self.acks.open.set()
        self.assertTrue(acker.flush(helpers.PATIENCE))
        self.assertEqual([result('a'), result('b')], self.acks.results())

    def test_result_is_not_sent_after_its_deadline(self):
        time = helpers.Time()
        resolver_clock = clock.ResolverClock(wall=time)
        late = helpers.receipt('late', seconds=-1)
        time.now = late.deadline + 1
        acker = self._acker(resolver_clock=resolver_clock)
        self.acks.failures = 1
        self._send(acker, late, result('a'))
        self.assertTrue(acker.flush(helpers.PATIENCE))
        self.assertEqual([], self.acks.casts)
        self.assertIn('Delivery late: 1 results are not acknowledged', self.logs.output)
        # Only the resolver can decide whether a late result is useful.
        self._send(acker, late, result('b'))
        self.assertTrue(acker.flush(helpers.PATIENCE))
        self.assertEqual([result('b')], self.acks.results())

    def test_number_of_waiting_results_is_bounded(self):
        acker = self._acker(max_results=2)
        self.acks.open.clear()
        self._send(acker, helpers.receipt('d'), result('a'))
        self.assertTrue(self.acks.entered.acquire(timeout=helpers.PATIENCE))
        for name in 'bcd':
            self._send(acker, helpers.receipt(name), result(name))
        self.acks.open.set()
        self.assertTrue(acker.flush(helpers.PATIENCE))
        self.assertEqual([result('a'), result('c'), result('d')], self.acks.results())
        self.assertIn('Delivery b: 1 results are not acknowledged (too many results wait', self.logs.output)

    def test_unexpected_exception_does_not_end_the_thread(self):
        acker = self._acker()
        taken = self.acks.acknowledge_all
        self.acks.acknowledge_all = None
        self._send(acker, helpers.receipt('bad'), result('a'))
        self.assertTrue(acker.flush(helpers.PATIENCE))
        self.assertIn('1 deliveries cannot be acknowledged', self.logs.output)
        self.acks.acknowledge_all = taken
        self._send(acker, helpers.receipt('good'), result('b'))
        self.assertTrue(acker.flush(helpers.PATIENCE))
        self.assertEqual([('good', [result('b')])], self.acks.casts)

    def test_adding_never_waits_for_the_broker(self):
        acker = self._acker()
        self.acks.open.clear()
        done = threading.Event()

        def add():
            for number in range(1000):
                self._send(acker, helpers.receipt(str(number % 7)), result(str(number)))
            done.set()

        threading.Thread(target=add, daemon=True).start()
        self.assertTrue(done.wait(helpers.PATIENCE))
        self.assertEqual([], self.acks.casts)

    def test_stop_is_bounded(self):
        acker = self._acker()
        self.acks.open.clear()
        self._send(acker, helpers.receipt('d'), result('a'))
        self.assertTrue(self.acks.entered.acquire(timeout=helpers.PATIENCE))
        self._send(acker, helpers.receipt('d'), result('b'))
        acker.stop(0.01)
        self.assertIn('Stopping with 1 results that were not acknowledged', self.logs.output)

    def test_stop_logs_how_many_deliveries_had_no_message(self):
        acker = self._acker(max_results=1)
        self.acks.open.clear()
        self._send(acker, helpers.receipt('d'), result('a'))
        self.assertTrue(self.acks.entered.acquire(timeout=helpers.PATIENCE))
        for number in range(ackers.MESSAGES + 4):
            self._send(acker, helpers.receipt(str(number)), result(str(number)))
        self.assertNotIn('more deliveries', self.logs.output)
        acker.stop(0.01)
        self.assertIn('The results of 3 more deliveries are not acknowledged', self.logs.output)


class TestWithoutThread(base.TestCase):
    """An acker with a client whose casts do not block."""

    def setUp(self):
        super().setUp()
        self.client = Casts()
        self.timers = self.useFixture(Timers())
        self.time = helpers.Time()
        #: Functions that the thread of the transport calls in its next turn.
        self.soon = collections.deque()
        self.acker = self._acker()

    def _acker(self, **kwargs):
        return ackers.Acker(
            self.client, clock.ResolverClock(wall=self.time), run_soon=self.soon.append, **kwargs
        )

    def _add(self, *added, reply_to='worker', seconds=60):
        """Add results. Each is written as the letter of its delivery and the letter of its event."""
        for delivery_id, event_id in added:
            receipt = ackers.Receipt(None, 'host-a', delivery_id, reply_to, self.time.now + seconds)
            self.acker.add(receipt, [result(event_id)])

    def _turn(self):
        while self.soon:
            self.soon.popleft()()

    def _send(self, *added, **kwargs):
        self._add(*added, **kwargs)
        self._turn()

    def _settle(self, error=None):
        self.client.done.pop(0)(error)

    def test_results_of_a_turn_are_sent_together_by_its_thread(self):
        threads = threading.active_count()
        self._add('d1', 'e2', 'd3')
        self.assertEqual([], self.client.casts)
        self.assertEqual(1, len(self.soon))
        self._turn()
        self.assertEqual([('worker', ('d', '13'), ('e', '2'))], self.client.casts)
        self.assertEqual([threading.current_thread()], self.client.threads)
        self.assertEqual(threads, threading.active_count())
        self.assertFalse(self.acker.flush(0))
        self._settle()
        self.assertTrue(self.acker.flush(0))

    def test_no_turn_is_requested_while_the_results_have_to_wait(self):
        self._send('d1')
        self._add('d2')
        self._settle(AWAY)
        self._add('d3')
        self.assertEqual(0, len(self.soon))
        self.timers.end()
        self.assertEqual(('worker', ('d', '123')), self.client.casts[-1])
        self._settle()
        self._send('d4')
        self.assertEqual(('worker', ('d', '4')), self.client.casts[-1])

    def test_result_that_is_added_when_the_turn_begins_is_sent(self):
        """The turn has begun, and has not looked at the results yet, or it has."""
        self._add('d1')
        with mock.patch.object(self.acker, '_load', autospec=True, return_value=False):
            self._turn()
        self._add('e2')
        self.assertEqual(1, len(self.soon))
        self._turn()
        self.assertEqual([('worker', ('d', '1'), ('e', '2'))], self.client.casts)

    def test_flush_sends_the_results(self):
        self._add('d1')
        self.assertFalse(self.acker.flush(0))
        self._settle()
        self.assertTrue(self.acker.flush(0))

    def test_one_message_at_a_time_is_in_flight_to_each_worker(self):
        self._send('d1')
        self._send('d2')
        self._send('e3')
        self._send('f4', reply_to='other')
        self.assertEqual([('worker', ('d', '1')), ('other', ('f', '4'))], self.client.casts)
        self._settle()
        self.assertEqual(('worker', ('d', '2'), ('e', '3')), self.client.casts[-1])
        self._settle()
        self._settle()
        self.assertEqual(3, len(self.client.casts))
        self.assertTrue(self.acker.flush(0))

    def test_repeated_end_of_a_cast_does_not_end_the_next_cast(self):
        self._send('d1')
        self._send('d2')
        first = self.client.done[0]
        self._settle()
        self.assertEqual(2, len(self.client.casts))
        # The second message is in flight, and the third has to wait for it.
        first(None)
        self._send('d3')
        self.assertEqual(2, len(self.client.casts))
        self.assertFalse(self.acker.flush(0))
        self._settle()
        self._settle()
        self.assertEqual(3, len(self.client.casts))
        self.assertTrue(self.acker.flush(0))

    def test_end_of_a_cast_sends_the_waiting_results(self):
        self._send('d1')
        self._send('d2')
        thread = threading.Thread(target=self._settle)
        thread.start()
        thread.join(helpers.PATIENCE)
        self.assertIs(thread, self.client.threads[-1])

    def test_failed_results_are_sent_before_newer_results(self):
        self._send('d1', 'e2')
        self._send('f3', 'd4')
        self._settle(AWAY)
        self.assertEqual(1, len(self.client.casts))
        self.timers.end()
        self.assertEqual(('worker', ('d', '14'), ('e', '2'), ('f', '3')), self.client.casts[-1])
        self._settle()
        self.assertTrue(self.acker.flush(0))

    def test_failures_are_retried_after_a_pause(self):
        self._send('d1')
        for number in range(1, 9):
            self._settle(AWAY)
            self.assertEqual(number, len(self.client.casts))
            self.timers.end()
        self.assertEqual([0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0], self.timers.pauses)
        self._settle()
        self._send('d2')
        self._settle(AWAY)
        self.assertEqual(0.05, self.timers.pauses[-1])

    def test_pause_applies_to_all_workers(self):
        self._send('d1')
        self._send('e2', reply_to='other')
        self._settle(AWAY)
        self._send('f3', reply_to='third')
        self._settle(AWAY)
        self.assertEqual((2, [0.05]), (len(self.client.casts), self.timers.pauses))
        self.timers.end()
        self.assertEqual({'worker', 'other', 'third'}, {reply_to for reply_to, *_ in self.client.casts[2:]})

    def test_failures_during_the_call_are_retried(self):
        self.client.at_once = [AWAY] * 3
        self._send('d1')
        self.timers.end()
        self.timers.end()
        self.assertEqual([('worker', ('d', '1'))] * 3, self.client.casts)
        self.assertFalse(self.acker.flush(0))
        self.timers.end()
        self._settle()
        self.assertTrue(self.acker.flush(0))

    def test_unexpected_exception_during_the_call_is_logged(self):
        with mock.patch.object(self.client, 'acknowledge_all', autospec=True, side_effect=ZeroDivisionError):
            self._send('d1')
        self.assertIn('1 deliveries cannot be acknowledged', self.logs.output)
        self.assertTrue(self.acker.flush(0))
        self._send('d2')
        self.assertEqual([('worker', ('d', '2'))], self.client.casts)

    def test_failed_results_are_the_oldest_when_the_buffer_is_full(self):
        self.acker = self._acker(max_results=2)
        self._send('d1')
        self._send('e2', 'f3')
        self._settle(AWAY)
        self.assertIn('Delivery d: 1 results are not acknowledged (too many results wait', self.logs.output)
        self.timers.end()
        self.assertEqual(('worker', ('e', '2'), ('f', '3')), self.client.casts[-1])

    def test_oldest_results_of_all_workers_are_dropped_when_the_buffer_is_full(self):
        self.acker = self._acker(max_results=2)
        self._send('d1')
        self._settle(AWAY)
        self._send('e2', reply_to='other')
        self._send('f3')
        self.timers.end()
        self.assertCountEqual([('other', ('e', '2')), ('worker', ('f', '3'))], self.client.casts[1:])
        self._settle()
        self._settle()
        self.assertTrue(self.acker.flush(0))

    def test_only_late_results_are_dropped_at_their_deadline(self):
        self._send('d1', seconds=5)
        self._add('e2', seconds=60)
        self.time.now += 10
        self._settle(AWAY)
        self.assertIn('Delivery d: 1 results are not acknowledged (', self.logs.output)
        self.timers.end()
        self.assertEqual(('worker', ('e', '2')), self.client.casts[-1])
        self._settle()
        self.assertTrue(self.acker.flush(0))

    def test_stop_ends_the_pause(self):
        self._send('d1')
        self._settle(AWAY)
        self.acker.stop(0)
        self.timers.timer.cancel.assert_called_once_with()
        self.assertIn('Stopping with 1 results that were not acknowledged', self.logs.output)
        self.timers.end()
        self.assertEqual(1, len(self.client.casts))

    def test_no_result_is_lost_or_sent_twice(self):
        """Many threads add results, and another thread reports the ends of the casts."""
        settling = threading.Thread(target=self._settle_all, daemon=True)
        settling.start()
        adding = [threading.Thread(target=self._add_many, args=(name,)) for name in 'abcd']
        for thread in adding:
            thread.start()
        for thread in adding:
            thread.join(helpers.PATIENCE)
        self.assertTrue(self.acker.flush(helpers.PATIENCE))
        self.client.done.append(None)
        settling.join(helpers.PATIENCE)
        sent = collections.defaultdict(str)
        for _reply_to, *acknowledgement_parts in self.client.casts:
            for delivery_id, letters in acknowledgement_parts:
                sent[delivery_id] += letters
        self.assertEqual(dict.fromkeys('abcd', 'x' * 500), sent)

    def _add_many(self, name):
        for _ in range(500):
            self._send((name, 'x'), reply_to=f'worker-{name < "c"}')

    def _settle_all(self):
        while True:
            helpers.wait_until(lambda: self.client.done)
            done = self.client.done.pop(0)
            if done is None:
                return
            done(None)
