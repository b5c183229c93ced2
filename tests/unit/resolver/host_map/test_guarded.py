"""The guard between a host map and the resolver, over a map that fails and hangs on request."""

import threading
import time

from external_events_router import exceptions
from external_events_router.concurrency import pause
from external_events_router.resolver.host_map import base
from external_events_router.resolver.host_map import guarded
from tests import base as tests_base

A, B, C = (f'{number:08x}-0000-4000-8000-000000000000' for number in (1, 2, 3))
FREE = frozenset({'free'})

#: Seconds. Waits that should end take much less; waits that should not end take much more.
LONG = 30.0


def wait_until(condition):
    """Return when the condition is true; fail if it stays false."""
    deadline = time.monotonic() + LONG
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError('waited in vain')
        time.sleep(0.005)


class Source:
    """A host map in a dict."""

    def __init__(self):
        self.hosts = {}
        self.asked = 0
        self.error = None
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.answered = threading.Semaphore(0)

    def hosts_of(self, server_uuids):
        self.asked += 1
        if self.error is not None:
            raise self.error
        found = {server: self.hosts[server] for server in server_uuids if server in self.hosts}
        if not self.may_answer.wait(LONG):
            raise AssertionError('the test did not allow an answer')
        self.answered.release()
        return found

    def assign(self, server_uuid, host):
        self.hosts[server_uuid] = tuple(sorted({*self.hosts.get(server_uuid, ()), host}))

    def unassign(self, server_uuid, host):
        self.hosts[server_uuid] = tuple(one for one in self.hosts[server_uuid] if one != host)

    def forget(self, server_uuid):
        del self.hosts[server_uuid]

    def report(self, host, server_uuids):
        there = {server for server, hosts in self.hosts.items() if host in hosts}
        change = base.Change(frozenset(server_uuids) - there, frozenset(there - set(server_uuids)))
        for server in change.gained:
            self.assign(server, host)
        for server in change.lost:
            self.unassign(server, host)
        return change

    def check(self):
        pass

    def close(self):
        pass


class GuardedTestCase(tests_base.TestCase):
    def setUp(self):
        super().setUp()
        self.source = Source()
        self.source.hosts = {A: ('one',), B: ()}
        self.now = 0.0
        self.addCleanup(self.source.may_answer.set)

    def guard(self, **options):
        guard = guarded.GuardedHostMap(self.source, **{'timeout': LONG, 'clock': lambda: self.now, **options})
        self.addCleanup(guard.close)
        return guard

    def break_source(self):
        self.source.error = exceptions.DatabaseUnavailable(reason='gone')


class TestLookup(GuardedTestCase):
    def test_lookup_returns_the_answer(self):
        self.assertEqual(base.Lookup({A: ('one',), B: ()}), self.guard().lookup([A, B, C]))
        self.assertEqual(base.Lookup({}), self.guard().lookup([]))

    def test_lookup_that_fails_returns_the_last_known_hosts(self):
        guard = self.guard()
        guard.lookup([A, B])
        self.break_source()
        found = guard.lookup([A, B, C])
        self.assertEqual(({A: ('one',), B: ()}, frozenset({C})), (found.hosts, found.unavailable))
        self.assertIn('gone', found.reason)
        self.assertEqual(base.Lookup({A: ('one',)}, remembered=frozenset({A})), guard.lookup([A]))

    def test_deleted_server_is_removed_from_the_cache(self):
        guard = self.guard()
        guard.lookup([A])
        del self.source.hosts[A]
        guard.lookup([A])
        self.break_source()
        self.assertEqual(frozenset({A}), guard.lookup([A]).unavailable)

    def test_most_recently_used_servers_stay_in_the_cache(self):
        guard = self.guard(remembered=2)
        self.source.hosts[C] = ('three',)
        for server in (A, B, A, C):
            guard.lookup([server])
        self.break_source()
        self.assertEqual({A: ('one',), C: ('three',)}, guard.lookup([A, B, C]).hosts)

    def test_cache_can_be_disabled(self):
        guard = self.guard(remembered=0)
        guard.lookup([A])
        self.break_source()
        self.assertEqual(frozenset({A}), guard.lookup([A]).unavailable)

    def test_query_does_not_call_after_the_cache_was_used(self):
        guard = self.guard(timeout=0.2)
        guard.lookup([A])
        self.source.may_answer.clear()
        called = []
        pending = guard.begin([A], then=called.append)
        self.assertTrue(pending.result().remembered)
        self.source.may_answer.set()
        # The same thread answers this look-up after it has ended the first query.
        wait_until(lambda: not guard.lookup([B], timeout=LONG).remembered)
        self.assertEqual([], called)

    def test_unexpected_error_is_treated_as_an_unavailable_source(self):
        guard = self.guard()
        guard.lookup([A])
        self.source.error = ZeroDivisionError()
        found = guard.lookup([A, B])
        self.assertEqual(({A: ('one',)}, frozenset({B})), (found.hosts, found.unavailable))
        self.assertEqual('unexpected ZeroDivisionError of the host map', found.why(B))


class TestSeveralSources(GuardedTestCase):
    def test_cached_hosts_of_an_unavailable_source_are_marked(self):
        class Partial(Source):
            includes_held_servers = False
            unavailable = frozenset()

            def look_up(self, server_uuids, *, timeout):
                found = {server: self.hosts[server] for server in server_uuids - self.unavailable}
                return base.Lookup(found, self.unavailable, 'away' if self.unavailable else None)

            def warm(self):
                pass

        hosts = self.source.hosts
        self.source = Partial()
        self.source.hosts = hosts
        guard = self.guard()
        self.assertEqual(frozenset(), guard.lookup([A, B]).remembered)
        self.source.unavailable = frozenset({A})
        found = guard.lookup([A, B])
        self.assertEqual((hosts, frozenset({A})), (found.hosts, found.remembered))


class TestWithHold(tests_base.TestCase):
    def setUp(self):
        super().setUp()

        class Both(Source):
            includes_held_servers = True

            def look_up(self, server_uuids, *, timeout):
                return base.Lookup(
                    self.hosts_of(server_uuids),
                    held_servers={server: FREE for server in (A, B) if server in server_uuids},
                )

        self.source = Both()
        self.source.hosts = {A: ('one',), B: (), C: ('two',)}
        self.map = guarded.GuardedHostMap(self.source)
        self.addCleanup(self.map.close)

    def test_held_servers_are_returned(self):
        self.assertTrue(self.map.includes_held_servers)
        self.assertEqual({A: FREE}, self.map.lookup([A, C]).held_servers)
        self.assertEqual({}, self.map.lookup([C]).held_servers)

    def test_each_of_several_lookups_gets_its_own_held_servers(self):
        found = self.source.look_up([A, B, C], timeout=1.0)
        self.assertEqual({B: FREE}, found.only(frozenset({B, C})).held_servers)

    def test_held_servers_are_unknown_if_the_lookup_fails(self):
        self.map.lookup([A])
        self.source.error = exceptions.DatabaseUnavailable(reason='away')
        self.assertEqual(base.Lookup({A: ('one',)}, remembered=frozenset({A})), self.map.lookup([A]))

    def test_map_without_held_servers(self):
        plain = guarded.GuardedHostMap(Source())
        self.addCleanup(plain.close)
        self.assertFalse(plain.includes_held_servers)
        self.assertIsNone(plain.lookup([A]).held_servers)


class TestHanging(GuardedTestCase):
    def test_lookup_ends_in_time_and_its_late_answer_is_cached(self):
        guard = self.guard(timeout=0.05)
        self.source.may_answer.clear()
        began = time.monotonic()
        found = guard.lookup([A])
        self.assertLess(time.monotonic() - began, LONG / 2)
        self.assertEqual(frozenset({A}), found.unavailable)
        self.assertIn('0.05 s', found.reason)
        self.source.may_answer.set()
        self.assertTrue(self.source.answered.acquire(timeout=LONG))
        self.break_source()
        wait_until(lambda: not guard.lookup([A]).unavailable)
        self.assertEqual({A: ('one',)}, guard.lookup([A]).hosts)

    def test_wait_for_cached_servers_is_shorter(self):
        guard = self.guard(timeout=LONG)
        guard.lookup([A])
        self.source.may_answer.clear()
        self.patch(guarded, 'FIRST_TRY_TIMEOUT_SHARE', 0.001)
        began = time.monotonic()
        self.assertEqual(base.Lookup({A: ('one',)}, remembered=frozenset({A})), guard.lookup([A]))
        self.assertLess(time.monotonic() - began, LONG / 2)

    def test_wait_for_unknown_servers_is_longer(self):
        guard = self.guard(timeout=LONG)
        self.source.may_answer.clear()
        threading.Timer(0.1, self.source.may_answer.set).start()
        self.patch(guarded, 'FIRST_TRY_TIMEOUT_SHARE', 0.0001)
        self.assertEqual(base.Lookup({A: ('one',)}), guard.lookup([A]))

    def test_number_of_threads_is_bounded(self):
        guard = self.guard(timeout=0.02, threads=2)
        self.source.may_answer.clear()
        before = threading.active_count()
        for _ in range(10):
            self.now += pause.PAUSE
            guard.lookup([A])
        wait_until(lambda: self.source.asked == 2)
        self.assertEqual(before + 2, threading.active_count())
        self.assertEqual([], guard._questions._waiting)
        self.source.may_answer.set()
        for _ in range(2):
            self.assertTrue(self.source.answered.acquire(timeout=LONG))
        self.now += pause.PAUSE
        wait_until(lambda: not guard.lookup([A]).unavailable)
        self.assertEqual({A: ('one',)}, guard.lookup([A]).hosts)

    def test_close_ends_the_threads(self):
        before = set(threading.enumerate())
        guard = self.guard()
        guard.lookup([A])
        # Threads of earlier tests may start late.
        (thread,) = (each for each in set(threading.enumerate()) - before if 'host-map' in each.name)
        self.assertTrue(thread.daemon)
        guard.close()
        thread.join(LONG)
        self.assertFalse(thread.is_alive())


class TestBreaker(GuardedTestCase):
    def setUp(self):
        super().setUp()
        self.guarded = self.guard()
        self.break_source()
        for _ in range(pause.FAILURES):
            self.guarded.lookup([A])
        self.source.asked = 0

    def test_source_is_not_queried_for_a_while_after_failures(self):
        self.now += pause.PAUSE * 0.9
        found = self.guarded.lookup([A])
        self.assertEqual((0, frozenset({A})), (self.source.asked, found.unavailable))
        self.assertIn('just now', found.reason)

    def test_one_lookup_tries_the_source_afterwards(self):
        self.now += pause.PAUSE
        for _ in range(5):
            self.guarded.lookup([A])
        self.assertEqual(1, self.source.asked)

    def test_answer_ends_the_pause(self):
        self.source.error = None
        self.now += pause.PAUSE
        for _ in range(5):
            self.assertEqual(base.Lookup({A: ('one',)}), self.guarded.lookup([A]))
        self.assertEqual(5, self.source.asked)

    def test_other_lookups_do_not_wait_while_one_tries_the_source(self):
        self.source.error = None
        self.source.may_answer.clear()
        self.now += pause.PAUSE
        asking = threading.Thread(target=self.guarded.lookup, args=([A],))
        asking.start()
        wait_until(lambda: self.source.asked)
        self.assertEqual(frozenset({A}), self.guarded.lookup([A]).unavailable)
        self.assertEqual(1, self.source.asked)
        self.source.may_answer.set()
        asking.join()

    def test_only_consecutive_failures_count(self):
        guard = self.guard()
        for _ in range(3):
            for _ in range(pause.FAILURES - 1):
                self.break_source()
                guard.lookup([A])
            self.source.error = None
            self.assertIsNone(guard.lookup([A]).reason)


class TestWrites(GuardedTestCase):
    def setUp(self):
        super().setUp()
        self.guarded = self.guard()
        self.guarded.lookup([A, B])

    def remembered(self):
        self.break_source()
        return self.guarded.lookup([A, B, C]).hosts

    def test_assign(self):
        self.guarded.assign(A, 'two')
        self.assertEqual({A: ('one', 'two'), B: ()}, self.remembered())

    def test_unassign(self):
        self.guarded.unassign(A, 'one')
        self.assertEqual({A: (), B: ()}, self.remembered())

    def test_forget(self):
        self.guarded.forget(A)
        self.assertEqual({B: ()}, self.remembered())

    def test_report(self):
        self.guarded.report('one', [B, C])
        self.assertEqual({A: (), B: ('one',)}, self.remembered())

    def test_answer_from_before_a_write_is_not_cached(self):
        self.source.may_answer.clear()
        asking = threading.Thread(target=self.guarded.lookup, args=([A],))
        asking.start()
        wait_until(lambda: self.source.asked == 2)
        self.guarded.assign(A, 'two')
        self.source.may_answer.set()
        asking.join()
        self.assertEqual({A: ('one', 'two'), B: ()}, self.remembered())

    def test_map_that_is_read_only(self):
        class Reader:
            hosts_of = check = close = None

        guard = guarded.GuardedHostMap(Reader())
        self.assertRaises(exceptions.ReadOnlyHostMap, guard.assign, A, 'one')
