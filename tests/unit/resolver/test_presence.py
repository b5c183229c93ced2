import threading

from external_events_router import exceptions
from external_events_router.resolver import breaker
from external_events_router.resolver import presence
from tests import base
from tests.unit.agent import helpers


class Held:
    """Counts what is asked to be due; the first call waits while it is not open."""

    def __init__(self):
        self.asked = []
        self.due = 0
        self.problem = None
        self.entered = threading.Semaphore(0)
        self.open = threading.Event()
        self.open.set()

    def make_due(self, *, hosts=(), servers=()):
        self.asked.append((sorted(hosts), sorted(servers)))
        self.entered.release()
        self.open.wait(helpers.PATIENCE)
        if self.problem:
            raise self.problem
        return self.due


class PresenceTest(base.TestCase):
    def setUp(self):
        super().setUp()
        self.held = Held()
        self.addCleanup(self.held.open.set)
        self.breakers = breaker.Breakers()
        self.woken = threading.Semaphore(0)
        self.told = []
        self.presence = presence.Presence(
            self.breakers, self.held, wake=self.woken.release, tell_others=self.told.append
        )
        self.addCleanup(self.presence.close)

    def wait_for(self, condition):
        helpers.wait_until(condition)

    def test_ordinary_answer_costs_nothing(self):
        self.presence.answered('a')
        self.assertEqual([], self.held.asked)
        self.assertEqual(0, len(self.presence._hosts))

    def test_answer_after_silence(self):
        self.breakers.open('a', 'silent')
        self.presence.answered('a')
        self.assertTrue(self.breakers.closed('a'))
        self.wait_for(lambda: self.told == ['a'])
        self.assertEqual([(['a'], [])], self.held.asked)
        self.assertFalse(self.woken.acquire(blocking=False))

    def test_what_is_held_goes_out_at_once_and_the_others_hear_of_it(self):
        self.held.due = 3
        self.presence.appeared('a')
        self.assertTrue(self.woken.acquire(timeout=helpers.PATIENCE))
        self.wait_for(lambda: self.told == ['a'])

    def test_report_without_news_tells_nobody(self):
        self.presence.appeared('a')
        self.assertTrue(self.held.entered.acquire(timeout=helpers.PATIENCE))
        self.presence.placed(['x'])
        self.wait_for(lambda: len(self.held.asked) == 2)
        self.assertEqual([], self.told)

    def test_hearsay_is_not_passed_on(self):
        self.breakers.open('a', 'silent')
        self.presence.heard_of('a')
        self.assertTrue(self.breakers.closed('a'))
        self.assertEqual(([], []), (self.held.asked, self.told))

    def test_signs_that_come_while_one_waits_are_one(self):
        self.held.open.clear()
        for host in 'ab':
            self.presence.appeared(host)
            self.assertTrue(self.held.entered.acquire(timeout=helpers.PATIENCE))
        for _ in range(100):
            self.presence.appeared('c')
            self.presence.placed(['x', 'y'])
            self.presence.placed(['z'])
        # NOTE: one of them is news, and so the others have to be told.
        self.breakers.open('c', 'silent')
        self.presence.answered('c')
        self.held.open.set()
        self.wait_for(lambda: len(self.held.asked) == 4 and self.told)
        self.assertCountEqual([(['c'], []), ([], ['x', 'y', 'z'])], self.held.asked[2:])
        self.assertEqual(['c'], self.told)

    def test_nothing_placed_asks_nothing(self):
        self.presence.placed([])
        self.presence.placed(['x'])
        self.wait_for(lambda: self.held.asked)
        self.assertEqual([([], ['x'])], self.held.asked)

    def test_failures_end_no_thread(self):
        for problem in (exceptions.DatabaseUnavailable(reason='away'), ZeroDivisionError()):
            self.held.problem = problem
            self.breakers.open('a', 'silent')
            self.presence.answered('a')
            # NOTE: others are told all the same.
            self.wait_for(lambda: self.told)
            self.told.clear()
        self.assertEqual(2, self.logs.output.count('not brought forward'))
