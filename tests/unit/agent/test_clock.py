from external_events_router.agent import clock
from tests import base
from tests.unit.agent import helpers


class TestResolverClock(base.TestCase):
    def setUp(self):
        super().setUp()
        self.wall = helpers.Time(5000.0)
        self.monotonic = helpers.Time(10.0)
        self.clock = clock.ResolverClock(wall=self.wall, monotonic=self.monotonic)

    def _ask(self, resolver_now, *, round_trip):
        asked = self.clock.start_reading()
        self.monotonic.now += round_trip
        self.clock.note(resolver_now, asked=asked)

    def test_own_clock_is_used_before_the_first_answer(self):
        self.assertEqual(5000.0, self.clock.now())
        self.assertEqual(2.0, self.clock.left(5002.0))

    def test_offset_is_measured_at_the_middle_of_the_round_trip(self):
        self._ask(7000.0, round_trip=0.2)
        self.assertAlmostEqual(7000.1, self.clock.now())

    def test_step_of_the_wall_clock_has_no_effect(self):
        self._ask(7000.0, round_trip=0.0)
        self.wall.now += 3600
        self.monotonic.now += 1
        self.assertAlmostEqual(7001.0, self.clock.now())

    def test_slow_answer_counts_only_before_a_fast_answer(self):
        self._ask(7000.0, round_trip=8.0)
        self.assertAlmostEqual(7004.0, self.clock.now())
        self._ask(8000.0, round_trip=8.0)
        self.assertAlmostEqual(7012.0, self.clock.now())
        self._ask(9000.0, round_trip=0.0)
        self.assertAlmostEqual(9000.0, self.clock.now())
