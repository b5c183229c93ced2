"""A batch while the database is frozen: it accepts connections and does not answer."""

import threading
import time

from external_events_router import context
from external_events_router import events
from external_events_router import exceptions
from external_events_router.db import connecting
from external_events_router.db import migration
from external_events_router.resolver import lookup
from external_events_router.resolver import router
from external_events_router.resolver.drivers.agent import acks
from external_events_router.resolver.health import circuit_breaker
from external_events_router.resolver.health import slow_host_limiter
from external_events_router.resolver.hold import base as hold_base
from external_events_router.resolver.hold import hold
from external_events_router.resolver.hold import store
from external_events_router.resolver.host_map import guarded
from external_events_router.resolver.host_map import sql
from tests import base
from tests.faults import database
from tests.integration import services
from tests.unit.db import databases
from tests.unit.resolver import agents

CACHED, UNCACHED, OTHER = (f'{number}0000000-0000-4000-8000-000000000000' for number in (1, 2, 3))


class Hosts:
    """A host that acknowledges each event immediately."""

    def __init__(self, collector):
        self._collector = collector
        self.events = []

    def deliver(self, ctxt, host, delivery):
        self.events += delivery.events
        results = [events.Result(event.id, events.Verdict.HANDLED) for event in delivery.events]
        self._collector.acknowledge(delivery.id, results)


class FrozenScenarios:
    TIMEOUT_SCALING_FACTOR = 3

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.server = services.share(cls, cls.SERVER())
        made = databases.database(cls.server.url)
        migration.upgrade(made)
        made.close()

    def setUp(self):
        super().setUp()
        self.database = databases.database(self.server.url)
        self.addCleanup(self.database.close)
        self.host_map = guarded.GuardedHostMap(sql.SqlHostMap(self.database))
        self.addCleanup(self.host_map.close)
        self.hold = hold.Hold(store.HoldStore(self.database), lifetimes=hold.Lifetimes(), timeout=1.0)
        self.addCleanup(self.hold.close)
        for server in (CACHED, UNCACHED):
            self.host_map.assign(server, 'host')
        self.hold.learn()
        collector = acks.Collector()
        self.hosts, self.breakers = Hosts(collector), circuit_breaker.CircuitBreakers()
        self.router = router.Router(
            lookup.BatchLookup(self.host_map, self.hold),
            agents.make_deliverer(self.hosts, collector, agents.Observer(breakers=self.breakers)),
            self.hold,
            self.breakers,
            slow_host_limiter.SlowHostLimiter(16),
        )

    def route(self, *servers):
        batch = [events.Event('network-changed', server) for server in servers]
        began = time.monotonic()
        outcomes = self.router.route(context.RequestContext(), batch, ack_timeout=2.0)
        self.assertLess(time.monotonic() - began, 3.0)
        return [int(outcome.code) for outcome in outcomes]

    def test_hosts_of_cached_servers_are_asked_beside_uncached_servers(self):
        self.assertEqual([200], self.route(CACHED))
        self.hosts.events.clear()
        with self.server.frozen():
            codes = self.route(CACHED, UNCACHED)
        self.assertEqual([200, 503], codes)
        self.assertEqual([CACHED], [event.server_uuid for event in self.hosts.events])
        self.assertEqual([], self.breakers.hosts())

    def test_each_wait_for_the_database_ends(self):
        with_limit = databases.database(self.server.url, read_timeout=1.0)
        self.addCleanup(with_limit.close)
        with_limit.warm(1)
        held = store.HoldStore(with_limit)
        # Another server: the tests share the database, and this event stays in it.
        item = hold_base.Item(events.Event('network-changed', OTHER), 60.0)
        self.assertEqual({}, held.servers_among([CACHED]))
        fresh = store.HoldStore(databases.database(self.server.url, read_timeout=1.0))
        self.addCleanup(fresh.close)
        steps = {
            'new connection': lambda: fresh.servers(1),
            'query of a batch': lambda: held.servers_among([CACHED]),
            'query': lambda: held.servers(1),
            'transaction': lambda: held.hold_all([hold_base.Request([item], {})], retry_after=60.0),
        }
        with self.server.frozen():
            for name, step in steps.items():
                self.check_ends(name, step)
        # Each connection that was closed is replaced.
        for step in steps.values():
            step()

    def check_ends(self, name, step):
        errors = []

        def run():
            try:
                step()
            except exceptions.DatabaseUnavailable as exc:
                errors.append(exc)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        thread.join(connecting.CONNECT_TIMEOUT + 10)
        self.assertFalse(thread.is_alive(), name)
        self.assertEqual(1, len(errors), name)


class TestMariaDB(FrozenScenarios, base.TestCase):
    SERVER = database.MariaDB


class TestPostgreSQL(FrozenScenarios, base.TestCase):
    SERVER = database.PostgreSQL
