import time

from external_events_router.resolver import lookup
from external_events_router.resolver.host_map import base
from tests import base as tests_base
from tests.unit.resolver import maps

ONE, TWO = (f'{number}0000000-0000-4000-8000-000000000000' for number in (1, 2))

FREE = {ONE: frozenset({'a'})}
HELD = {TWO: frozenset()}


class HostMap(maps.BeginsAtOnce):
    """Finds one host for each server, and the held servers if it includes them."""

    def __init__(self, log, *, includes_held_servers, finds=None):
        self.includes_held_servers = includes_held_servers
        self._log = log
        self._finds = finds

    def lookup(self, server_uuids, *, timeout):
        self._log.append('hosts')
        self.timeout = timeout
        return base.Lookup(dict.fromkeys(server_uuids, ('a',)), held_servers=self._finds)


class HangingMap(HostMap):
    """Does not answer before its result is requested."""

    def begin(self, server_uuids, *, timeout=None, then=None):
        pending = maps.PendingLookup(lambda: self.lookup(server_uuids, timeout=timeout), is_ready=False)

        def wait_until(deadline):
            self._log.append('waits')
            self.waited_until = deadline
            return False

        pending.wait_until = wait_until
        return pending


class Hold:
    def __init__(self, log):
        self._log = log

    def query_held_servers(self, server_uuids):
        self._log.append('held')
        return server_uuids

    def cancel_query(self, query):
        self._log.append('cancelled')

    def held_servers(self, query, *, deadline):
        self._log.append(f'wait for {len(query)}')
        self.deadline = deadline
        return HELD


class BatchLookupTest(tests_base.TestCase):
    def look_up(self, **options):
        self.log = []
        self.map, self.hold = HostMap(self.log, **options), Hold(self.log)
        self.deadline = time.monotonic() + 30.0
        found, held_servers = lookup.BatchLookup(self.map, self.hold).hosts_and_held_servers(
            {ONE, TWO}, deadline=self.deadline
        )
        self.assertEqual({ONE: ('a',), TWO: ('a',)}, found.hosts)
        return held_servers

    def test_query_for_held_servers_begins_before_the_host_map_answers(self):
        self.assertEqual(HELD, self.look_up(includes_held_servers=False))
        self.assertEqual(['held', 'hosts', 'wait for 2'], self.log)

    def test_host_map_in_the_database_of_the_hold_answers_both(self):
        self.assertEqual(FREE, self.look_up(includes_held_servers=True, finds=FREE))
        self.assertEqual(['hosts'], self.log)

    def test_hold_is_queried_if_the_host_map_does_not_answer(self):
        self.assertEqual(HELD, self.look_up(includes_held_servers=True))
        self.assertEqual(['hosts', 'held', 'wait for 2'], self.log)

    def test_hold_is_queried_before_a_host_map_that_hangs_has_ended(self):
        for finds, expected in ((None, HELD), (FREE, FREE)):
            log = []
            host_map = HangingMap(log, includes_held_servers=True, finds=finds)
            batch_lookup = lookup.BatchLookup(host_map, Hold(log))
            began = time.monotonic()
            _found, held_servers = batch_lookup.hosts_and_held_servers({ONE, TWO}, deadline=began + 30.0)
            self.assertEqual(expected, held_servers)
            self.assertAlmostEqual(began + lookup.HELD_PATIENCE, host_map.waited_until, delta=0.2)
            last = 'wait for 2' if finds is None else 'cancelled'
            self.assertEqual(['waits', 'held', 'hosts', last], log)

    def test_both_queries_end_at_the_deadline(self):
        self.look_up(includes_held_servers=False)
        self.assertEqual(self.deadline, self.hold.deadline)
        self.assertTrue(29.0 < self.map.timeout <= 30.0, self.map.timeout)
