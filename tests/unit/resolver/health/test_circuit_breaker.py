from external_events_router.resolver.health import circuit_breaker
from tests import base
from tests.unit.agent import helpers


class BreakersTest(base.TestCase):
    def setUp(self):
        super().setUp()
        self.clock = helpers.Time()
        self.breakers = circuit_breaker.CircuitBreakers(clock=self.clock)

    def test_breaker_opens_and_closes(self):
        self.assertEqual(frozenset('ab'), self.breakers.admit('ab'))
        self.breakers.open(['a'])
        self.assertEqual(frozenset('b'), self.breakers.admit('ab'))
        self.assertEqual((False, True), (self.breakers.closed('ab'), self.breakers.closed('b')))
        self.assertTrue(self.breakers.close('a'))
        self.assertFalse(self.breakers.close('a'))
        self.assertEqual(frozenset('ab'), self.breakers.admit('ab'))

    def test_one_batch_per_interval_tries_an_open_host(self):
        self.breakers.open(['a'])
        self.clock.now += circuit_breaker.RESET - 1
        self.assertEqual(frozenset(), self.breakers.admit('a'))
        self.clock.now += 1
        self.assertEqual([frozenset('a'), frozenset()], [self.breakers.admit('a') for _ in range(2)])
        self.clock.now += circuit_breaker.RESET
        self.breakers.open(['a'])
        self.assertEqual(frozenset(), self.breakers.admit('a'))

    def test_one_probe_per_interval(self):
        self.breakers.open(['a'])
        self.assertEqual([frozenset('ab'), frozenset('b')], [self.breakers.probe('ab') for _ in range(2)])
        self.breakers.open(['a'])
        self.assertEqual(frozenset(), self.breakers.probe('a'))
        self.clock.now += circuit_breaker.PROBE_PAUSE
        self.assertEqual(frozenset('a'), self.breakers.probe('a'))
        # The probe did not admit a batch.
        self.assertEqual(frozenset(), self.breakers.admit('a'))

    def test_one_batch_at_a_time_tries_open_hosts_of_any_number(self):
        self.breakers.open('abcd')
        self.clock.now += circuit_breaker.RESET
        self.assertEqual(frozenset('abx'), self.breakers.admit('abx'))
        self.assertEqual(frozenset('x'), self.breakers.admit('cdx'))
        self.clock.now += circuit_breaker.TRIAL_PAUSE
        self.assertEqual(frozenset('cdx'), self.breakers.admit('abcdx'))

    def test_host_without_a_consumer_is_not_tried(self):
        self.assertEqual(['b'], self.breakers.open('b', unconsumed=True))
        self.breakers.open('a')
        self.assertEqual([], self.breakers.open('ab', unconsumed=True))
        self.clock.now += circuit_breaker.RESET
        self.assertEqual((frozenset(), frozenset()), (self.breakers.admit('ab'), self.breakers.probe('ab')))
        self.assertEqual(['b', 'a'], self.breakers.unconsumed())
        self.breakers.allow_trials('a')
        self.assertEqual(
            (frozenset('a'), frozenset('a')), (self.breakers.admit('ab'), self.breakers.probe('ab'))
        )
        self.assertTrue(self.breakers.close('b'))
        self.assertEqual([], self.breakers.unconsumed())

    def test_only_the_first_opening_is_reported(self):
        self.assertEqual([['a'], [], ['b']], [self.breakers.open(hosts) for hosts in ('a', 'a', 'ab')])

    def test_open_host_that_is_not_tried_again_is_forgotten(self):
        for number in range(100):
            self.breakers.open([str(number)])
            self.clock.now += circuit_breaker.FORGET
        self.assertLess(len(self.breakers._open), 4)
