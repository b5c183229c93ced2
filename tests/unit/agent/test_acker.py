import threading

from external_events_router import events
from external_events_router.agent import clock
from tests import base
from tests.unit.agent import helpers


def result(event_id):
    return events.Result(event_id, events.Verdict.HANDLED)


class TestAcker(base.TestCase):
    def setUp(self):
        super().setUp()
        self.acks = helpers.Acks()
        self.addCleanup(self.acks.open.set)

    def _acker(self, **kwargs):
        made = helpers.make_acker(self.acks, **kwargs)
        self.addCleanup(made.stop, 0)
        return made

    def test_at_once(self):
        acker = self._acker()
        acker.add(helpers.receipt('d'), result('a'))
        self.assertTrue(acker.flush(helpers.PATIENCE))
        self.assertEqual([('d', [result('a')])], self.acks.casts)

    def test_what_comes_meanwhile_goes_together(self):
        acker = self._acker()
        self.acks.open.clear()
        acker.add(helpers.receipt('d'), result('a'))
        self.assertTrue(self.acks.entered.acquire(timeout=helpers.PATIENCE))
        acker.add(helpers.receipt('d'), result('b'))
        acker.add(helpers.receipt('other'), result('c'))
        acker.add(helpers.receipt('d'), result('d'))
        self.assertFalse(acker.flush(0))
        self.acks.open.set()
        self.assertTrue(acker.flush(helpers.PATIENCE))
        expected = [('d', [result('a')]), ('d', [result('b'), result('d')]), ('other', [result('c')])]
        self.assertEqual(expected, self.acks.casts)

    def test_tried_again_with_what_came_meanwhile(self):
        acker = self._acker()
        self.acks.failures = 2
        self.acks.open.clear()
        acker.add(helpers.receipt('d'), result('a'))
        self.assertTrue(self.acks.entered.acquire(timeout=helpers.PATIENCE))
        acker.add(helpers.receipt('d'), result('b'))
        self.acks.open.set()
        self.assertTrue(acker.flush(helpers.PATIENCE))
        self.assertEqual([result('a'), result('b')], self.acks.results())

    def test_not_beyond_the_deadline(self):
        time = helpers.Time()
        resolver_clock = clock.ResolverClock(wall=time)
        late = helpers.receipt('late', seconds=-1)
        time.now = late.deadline + 1
        acker = self._acker(resolver_clock=resolver_clock)
        self.acks.failures = 1
        acker.add(late, result('a'))
        self.assertTrue(acker.flush(helpers.PATIENCE))
        self.assertEqual([], self.acks.casts)
        self.assertIn('Delivery late: 1 results are not acknowledged', self.logs.output)
        # Nobody knows better than the resolver whether a late one is of use.
        acker.add(late, result('b'))
        self.assertTrue(acker.flush(helpers.PATIENCE))
        self.assertEqual([result('b')], self.acks.results())

    def test_bounded(self):
        acker = self._acker(max_results=2)
        self.acks.open.clear()
        acker.add(helpers.receipt('d'), result('a'))
        self.assertTrue(self.acks.entered.acquire(timeout=helpers.PATIENCE))
        for name in 'bcd':
            acker.add(helpers.receipt(name), result(name))
        self.acks.open.set()
        self.assertTrue(acker.flush(helpers.PATIENCE))
        self.assertEqual([result('a'), result('c'), result('d')], self.acks.results())
        self.assertIn('Delivery b: 1 results are not acknowledged: too many wait', self.logs.output)

    def test_surprise_does_not_end_it(self):
        acker = self._acker()
        taken = self.acks.acknowledge_all
        self.acks.acknowledge_all = None
        acker.add(helpers.receipt('bad'), result('a'))
        self.assertTrue(acker.flush(helpers.PATIENCE))
        self.assertIn('1 deliveries cannot be acknowledged', self.logs.output)
        self.acks.acknowledge_all = taken
        acker.add(helpers.receipt('good'), result('b'))
        self.assertTrue(acker.flush(helpers.PATIENCE))
        self.assertEqual([('good', [result('b')])], self.acks.casts)

    def test_adding_never_waits_for_the_broker(self):
        acker = self._acker()
        self.acks.open.clear()
        done = threading.Event()

        def add():
            for number in range(1000):
                acker.add(helpers.receipt(str(number % 7)), result(str(number)))
            done.set()

        threading.Thread(target=add, daemon=True).start()
        self.assertTrue(done.wait(helpers.PATIENCE))
        self.assertEqual([], self.acks.casts)

    def test_stop_is_bounded(self):
        acker = self._acker()
        self.acks.open.clear()
        acker.add(helpers.receipt('d'), result('a'))
        self.assertTrue(self.acks.entered.acquire(timeout=helpers.PATIENCE))
        acker.add(helpers.receipt('d'), result('b'))
        acker.stop(0.01)
        self.assertIn('1 results were not acknowledged before the end', self.logs.output)
