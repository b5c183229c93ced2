import threading
import time

from oslo_config import cfg

from external_events_router import conf as router_conf
from external_events_router import context
from external_events_router import events
from external_events_router import exceptions
from external_events_router.resolver.hold import hold
from tests import base
from tests.unit.resolver.hold import scenarios

A, B, C = scenarios.A, scenarios.B, scenarios.C
FREE = frozenset({'free'})


class Store:
    """A store in memory; it can be unavailable, or block until the test ends it."""

    def __init__(self):
        self.held = set()
        self.away = False
        self.open = threading.Event()
        self.open.set()
        self.at_learning = lambda: None
        self.closed = False

    def servers_among(self, server_uuids):
        self._answer()
        return dict.fromkeys(self.held.intersection(server_uuids), FREE)

    def servers(self, limit):
        self._answer()
        found = frozenset(sorted(self.held)[:limit])
        self.at_learning()
        return found

    def warm(self):
        self._answer()

    def hold_all(self, requests, *, retry_after, before_commit):
        self._answer()
        self.held.update(item.event.server_uuid for request in requests for item in request.items)

    def close(self):
        self.closed = True

    def _answer(self):
        self.open.wait(scenarios.LONG)
        if self.away:
            raise exceptions.DatabaseUnavailable(reason='away')


#: Seconds; much longer than any query of these tests takes.
LONG = 30.0


class HoldTest(base.TestCase):
    def setUp(self):
        super().setUp()
        self.store = Store()
        self.hold_service = hold.Hold(self.store, lifetimes=hold.Lifetimes(), timeout=LONG)
        self.addCleanup(self.hold_service.close)
        self.addCleanup(self.store.open.set)

    def hold(self, *servers, seconds=30.0):
        return self.hold_service.hold(
            context.for_service(),
            [scenarios.item(server) for server in servers],
            deadline=time.monotonic() + seconds,
        )

    def held_servers(self, *servers):
        query = self.hold_service.query_held_servers(servers)
        return self.hold_service.held_servers(query, deadline=time.monotonic() + 30.0)

    def test_events_are_held(self):
        self.assertIsNone(self.hold(A))
        self.assertEqual({A: FREE}, self.held_servers(A, B))
        self.assertEqual({}, self.held_servers())

    def test_cached_servers_are_used_while_the_database_is_unavailable(self):
        self.store.held.add(A)
        self.hold_service.learn()
        self.hold(B)
        self.store.away = True
        self.assertEqual({A: frozenset(), B: frozenset()}, self.held_servers(A, B, C))
        self.assertIn('away', self.hold(C))
        self.assertRaises(exceptions.DatabaseUnavailable, self.hold_service.learn)
        self.assertEqual({A: frozenset(), B: frozenset()}, self.held_servers(A, B, C))

    def test_events_held_while_the_cache_is_filled_are_not_forgotten(self):
        self.hold_service.learn()
        self.store.at_learning = lambda: self.hold(A)
        self.hold_service.learn()
        self.store.at_learning = lambda: None
        self.store.away = True
        self.assertEqual({A: frozenset()}, self.held_servers(A))

    def test_is_warm_when_the_cache_is_filled_and_the_store_is_connected(self):
        self.store.away = True
        self.assertRaises(exceptions.DatabaseUnavailable, self.hold_service.learn)
        self.assertFalse(self.hold_service.wait_until_warm(0.0))
        self.store.away = False
        self.hold_service.learn()
        self.assertTrue(self.hold_service.wait_until_warm(0.0))

    def test_every_server_may_have_held_events_before_the_cache_is_filled(self):
        self.store.away = True
        self.assertEqual({A: frozenset(), B: frozenset()}, self.held_servers(A, B))

    def test_settled_servers_are_removed_from_the_cache(self):
        self.hold(A)
        self.hold_service.learn()
        self.store.held.clear()
        self.hold_service.learn()
        self.store.away = True
        self.assertEqual({}, self.held_servers(A))

    def test_blocked_database_takes_no_longer_than_the_timeout(self):
        self.hold_service = hold.Hold(self.store, lifetimes=hold.Lifetimes(), timeout=0.2)
        self.addCleanup(self.hold_service.close)
        self.hold_service.learn()
        self.hold(A)
        self.store.open.clear()
        # These are more queries than threads, one after the other.
        for _ in range(hold.THREADS + 1):
            began = time.monotonic()
            self.assertEqual({A: frozenset()}, self.held_servers(A))
            self.assertIn('in time', self.hold(B, seconds=0.05))
            self.assertLess(time.monotonic() - began, 5.0)
        self.store.open.set()

    def test_outage_is_not_logged_for_each_batch(self):
        self.store.away = True
        for _ in range(50):
            self.held_servers(A)
            self.hold(A)
        self.assertEqual(1, self.logs.output.count('Could not query the held events'))
        self.assertEqual(1, self.logs.output.count('could not be held'))
        self.store.away = False
        self.held_servers(A)
        self.hold(A)
        self.assertIn('Events are held again', self.logs.output)
        self.assertIn('Held events can be queried again', self.logs.output)

    def test_size_of_the_cache_is_bounded(self):
        self.hold(*map(str, range(hold.REMEMBERED)))
        for number in range(10):
            self.hold(f'more {number}')
        self.assertLessEqual(len(self.hold_service._news), hold.REMEMBERED)


class LifetimesTest(base.TestCase):
    def lifetimes(self, **options):
        conf = cfg.ConfigOpts()
        router_conf.register_all(conf)
        conf([], default_config_files=[], default_config_dirs=[])
        for name, value in options.items():
            conf.set_override(name, value, group='delivery')
        self.addCleanup(conf.clear)
        return hold.Lifetimes.from_conf(conf)

    def test_lifetime_of_an_event_name(self):
        found = self.lifetimes(event_ttl=7.0, event_ttls={'volume-extended': '3600'})
        self.assertEqual(3600.0, found.of(events.Event('volume-extended', A)))
        self.assertEqual(7.0, found.of(events.Event('network-changed', A)))

    def test_invalid_lifetime_is_refused(self):
        for name, value in (
            ('nonsense', '1'),
            ('network-changed', 'x'),
            ('network-changed', '0'),
            ('network-changed', 'nan'),
            ('network-changed', 'inf'),
            ('network-changed', '604801'),
        ):
            refused = self.assertRaises(
                exceptions.ConfigurationError, self.lifetimes, event_ttls={name: value}
            )
            self.assertIn(f'{name}:{value}', str(refused))
