from external_events_router.resolver.health import circuit_breaker
from tests import base
from tests.unit.agent import helpers


class BreakersTest(base.TestCase):
    def setUp(self):
        super().setUp()
        self.clock = helpers.Time()
        self.breakers = circuit_breaker.CircuitBreakers(clock=self.clock)

    def test_a_life(self):
        self.assertEqual(frozenset('ab'), self.breakers.admit('ab'))
        self.breakers.open(['a'])
        self.assertEqual(frozenset('b'), self.breakers.admit('ab'))
        self.assertEqual((False, True), (self.breakers.closed('ab'), self.breakers.closed('b')))
        self.assertTrue(self.breakers.close('a'))
        self.assertFalse(self.breakers.close('a'))
        self.assertEqual(frozenset('ab'), self.breakers.admit('ab'))

    def test_one_batch_in_a_while_may_try(self):
        self.breakers.open(['a'])
        self.clock.now += circuit_breaker.RESET - 1
        self.assertEqual(frozenset(), self.breakers.admit('a'))
        self.clock.now += 1
        self.assertEqual([frozenset('a'), frozenset()], [self.breakers.admit('a') for _ in range(2)])
        self.clock.now += circuit_breaker.RESET
        self.breakers.open(['a'])
        self.assertEqual(frozenset(), self.breakers.admit('a'))

    def test_one_probe_in_a_while(self):
        self.breakers.open(['a'])
        self.assertEqual([frozenset('ab'), frozenset('b')], [self.breakers.probe('ab') for _ in range(2)])
        self.breakers.open(['a'])
        self.assertEqual(frozenset(), self.breakers.probe('a'))
        self.clock.now += circuit_breaker.PROBE_PAUSE
        self.assertEqual(frozenset('a'), self.breakers.probe('a'))
        # It let no batch try.
        self.assertEqual(frozenset(), self.breakers.admit('a'))

    def test_one_batch_at_a_time_tries_hosts_however_many_there_are(self):
        self.breakers.open('abcd')
        self.clock.now += circuit_breaker.RESET
        self.assertEqual(frozenset('abx'), self.breakers.admit('abx'))
        self.assertEqual(frozenset('x'), self.breakers.admit('cdx'))
        self.clock.now += circuit_breaker.TRIAL_PAUSE
        self.assertEqual(frozenset('cdx'), self.breakers.admit('abcdx'))

    def test_without_a_consumer_nothing_tries_a_host(self):
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

    def test_only_the_first_time_is_news(self):
        self.assertEqual([['a'], [], ['b']], [self.breakers.open(hosts) for hosts in ('a', 'a', 'ab')])

    def test_host_that_nobody_tries_any_more_is_forgotten(self):
        for number in range(100):
            self.breakers.open([str(number)])
            self.clock.now += circuit_breaker.FORGET
        self.assertLess(len(self.breakers._open), 4)
