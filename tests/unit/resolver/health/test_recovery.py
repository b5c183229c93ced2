import threading
from unittest import mock

from external_events_router import exceptions
from external_events_router.resolver.health import circuit_breaker
from external_events_router.resolver.health import recovery
from tests import base
from tests.unit.agent import helpers


class Held:
    """Counts the requests to retry held events; the first request waits until ``open`` is set."""

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


class Peers:
    """Records the messages to the other workers."""

    def __init__(self):
        self.back = []
        self.silent = []
        self.problem = None

    def hosts_are_back(self, hosts):
        self.back.append(sorted(hosts))
        if self.problem:
            raise self.problem

    def hosts_are_silent(self, hosts, *, unconsumed):
        self.silent.append((sorted(hosts), unconsumed))


class HostRecoveryTest(base.TestCase):
    def setUp(self):
        super().setUp()
        self.held = Held()
        self.addCleanup(self.held.open.set)
        self.breakers = circuit_breaker.CircuitBreakers()
        self.woken = threading.Semaphore(0)
        self.peers = Peers()
        self.host_recovery = recovery.HostRecovery(
            self.breakers, self.held, wake=self.woken.release, peers=self.peers
        )
        self.addCleanup(self.host_recovery.close)

    def wait_for(self, condition):
        helpers.wait_until(condition)

    def test_ordinary_answer_causes_no_query(self):
        self.host_recovery.answered('a')
        self.host_recovery.placed(['x'])
        self.wait_for(lambda: self.held.asked)
        self.assertEqual([([], ['x'])], self.held.asked)

    def test_answer_after_silence_makes_held_events_due(self):
        self.breakers.open(['a'])
        self.host_recovery.answered('a')
        self.assertTrue(self.breakers.closed('a'))
        self.wait_for(lambda: self.peers.back == [['a']])
        self.assertEqual([(['a'], [])], self.held.asked)
        self.assertFalse(self.woken.acquire(blocking=False))

    def test_held_events_are_sent_immediately_and_other_workers_are_informed(self):
        self.held.due = 3
        self.host_recovery.appeared('a')
        self.assertTrue(self.woken.acquire(timeout=helpers.PATIENCE))
        self.wait_for(lambda: self.peers.back == [['a']])

    def test_report_without_a_change_informs_no_other_worker(self):
        self.host_recovery.appeared('a')
        self.assertTrue(self.held.entered.acquire(timeout=helpers.PATIENCE))
        self.host_recovery.placed(['x'])
        self.wait_for(lambda: len(self.held.asked) == 2)
        self.assertEqual([], self.peers.back)

    def test_information_of_another_worker_is_not_forwarded(self):
        self.breakers.open(['a'])
        self.host_recovery.responses_announced(['a', 'b'])
        self.assertTrue(self.breakers.closed('a'))
        self.wait_for(lambda: self.held.asked)
        self.host_recovery.close()
        self.assertEqual(([(['a'], [])], []), (self.held.asked, self.peers.back))

    def test_information_of_another_worker_makes_this_worker_retry(self):
        self.held.due = 1
        self.breakers.open(['a'])
        self.host_recovery.responses_announced(['a'])
        self.assertTrue(self.woken.acquire(timeout=helpers.PATIENCE))

    def test_other_workers_are_informed_before_servers_become_due(self):
        """Thousands of servers take seconds, and the other workers would postpone them during this time."""
        self.held.open.clear()
        self.breakers.open(['a'])
        self.host_recovery.appeared('a')
        self.wait_for(lambda: self.peers.back == [['a']])
        self.held.due = 1
        self.held.open.set()
        self.host_recovery.appeared('b')
        self.wait_for(lambda: self.peers.back == [['a'], ['b']])

    def test_responses_during_a_query_share_the_next_query(self):
        self.held.open.clear()
        self.host_recovery.appeared('a')
        self.assertTrue(self.held.entered.acquire(timeout=helpers.PATIENCE))
        self.breakers.open('bc')
        for _ in range(100):
            self.host_recovery.appeared('c')
            self.host_recovery.answered('b')
            self.host_recovery.appeared('d')
        self.held.open.set()
        self.wait_for(lambda: self.peers.back)
        self.assertEqual([(['a'], []), (['b', 'c', 'd'], [])], self.held.asked)
        # NOTE: the circuit breakers of two hosts were open, so the other workers must be informed.
        self.assertEqual([['b', 'c']], self.peers.back)

    def test_thousands_of_returning_hosts_cause_few_queries_and_messages(self):
        hosts = [f'host-{number}' for number in range(5000)]
        self.breakers.open(hosts)
        for host in hosts:
            self.host_recovery.appeared(host)
        self.wait_for(lambda: sum(map(len, self.peers.back)) == 5000)
        self.assertLess(len(self.held.asked), 100)
        self.assertLess(len(self.peers.back), 100)
        self.assertLessEqual(max(map(len, self.peers.back)), recovery.TOGETHER)
        self.host_recovery.flush_log(now=True)
        self.assertEqual(1, self.logs.output.count('\n'))
        self.assertIn('5000 hosts respond again, for example host-0, host-1, host-2; their', self.logs.output)

    def test_other_workers_are_informed_of_silent_hosts(self):
        self.host_recovery.announce_silent(['a'], unconsumed=True)
        self.host_recovery.announce_silent(['b', 'c'], unconsumed=False)
        self.wait_for(lambda: len(self.peers.silent) == 2)
        self.assertCountEqual([(['a'], True), (['b', 'c'], False)], self.peers.silent)

    def test_assignment_of_no_server_causes_no_query(self):
        self.host_recovery.placed([])
        self.host_recovery.placed(['x'])
        self.wait_for(lambda: self.held.asked)
        self.assertEqual([([], ['x'])], self.held.asked)

    def test_failures_end_no_thread_and_are_logged_once(self):
        away = exceptions.DatabaseUnavailable(reason='away')
        for problem in (away, away, ZeroDivisionError()):
            self.held.problem = problem
            self.breakers.open(['a'])
            self.host_recovery.answered('a')
            # NOTE: the other workers are informed in spite of the failure.
            self.wait_for(lambda: self.peers.back)
            self.peers.back.clear()
        self.assertEqual(2, self.logs.output.count('Could not schedule an immediate retry'))

    def test_thread_that_cannot_be_started_does_not_stop_later_hosts(self):
        with mock.patch.object(self.host_recovery._pool, 'submit', autospec=True, side_effect=RuntimeError):
            self.host_recovery.appeared('a')
        self.host_recovery.appeared('b')
        self.wait_for(lambda: self.held.asked)
        self.assertEqual([(['a', 'b'], [])], self.held.asked)

    def test_unavailable_broker_is_logged_once(self):
        self.peers.problem = exceptions.BrokerUnavailable(reason='away')
        for number in range(3):
            self.breakers.open(['a'])
            self.host_recovery.answered('a')
            self.wait_for(lambda number=number: len(self.peers.back) == number + 1)
        self.host_recovery.close()
        self.assertEqual(1, self.logs.output.count('Could not inform other resolver workers'))
