from external_events_router.resolver import breaker
from tests import base
from tests.unit.agent import helpers


class BreakersTest(base.TestCase):
    def setUp(self):
        super().setUp()
        self.clock = helpers.Time()
        self.breakers = breaker.Breakers(clock=self.clock)

    def test_a_life(self):
        self.assertEqual(frozenset('ab'), self.breakers.admit('ab'))
        self.breakers.open('a', 'silent')
        self.assertEqual(frozenset('b'), self.breakers.admit('ab'))
        self.assertEqual((False, True), (self.breakers.closed('ab'), self.breakers.closed('b')))
        self.assertTrue(self.breakers.close('a'))
        self.assertFalse(self.breakers.close('a'))
        self.assertEqual(frozenset('ab'), self.breakers.admit('ab'))

    def test_one_batch_in_a_while_may_try(self):
        self.breakers.open('a', 'silent')
        self.clock.now += breaker.RESET - 1
        self.assertEqual(frozenset(), self.breakers.admit('a'))
        self.clock.now += 1
        self.assertEqual([frozenset('a'), frozenset()], [self.breakers.admit('a') for _ in range(2)])
        self.clock.now += breaker.RESET
        self.breakers.open('a', 'still')
        self.assertEqual(frozenset(), self.breakers.admit('a'))

    def test_one_probe_in_a_while(self):
        self.breakers.open('a', 'silent')
        self.assertEqual([frozenset('ab'), frozenset('b')], [self.breakers.probe('ab') for _ in range(2)])
        self.breakers.open('a', 'still')
        self.assertEqual(frozenset(), self.breakers.probe('a'))
        self.clock.now += breaker.PROBE_PAUSE
        self.assertEqual(frozenset('a'), self.breakers.probe('a'))
        # It let no batch try.
        self.assertEqual(frozenset(), self.breakers.admit('a'))

    def test_news_are_logged_once(self):
        for _ in range(3):
            self.breakers.open('a', 'silent')
        for _ in range(3):
            self.breakers.close('a')
        self.assertEqual(1, self.logs.output.count('Host a is not waited for: silent'))
        self.assertEqual(1, self.logs.output.count('Host a is there again'))

    def test_host_that_nobody_tries_any_more_is_forgotten(self):
        for number in range(100):
            self.breakers.open(str(number), 'silent')
            self.clock.now += breaker.FORGET
        self.assertLess(len(self.breakers._open), 4)
