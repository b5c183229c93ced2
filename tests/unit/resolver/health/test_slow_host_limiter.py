"""The limit of the batches that may wait for slow hosts."""

import contextlib
import threading
import time

from external_events_router import context
from external_events_router import events
from external_events_router.resolver import lookup
from external_events_router.resolver import router
from external_events_router.resolver.drivers.agent import acks
from external_events_router.resolver.drivers.agent import deliverer as agent_deliverer
from external_events_router.resolver.health import circuit_breaker
from external_events_router.resolver.health import slow_host_limiter
from external_events_router.resolver.hold import hold
from external_events_router.resolver.host_map import base as map_base
from tests import base
from tests.unit.resolver import agents
from tests.unit.resolver import maps

LONG = 30.0


class SlowHostLimiterTest(base.TestCase):
    def setUp(self):
        super().setUp()
        self.now = 1000.0
        self.patch(slow_host_limiter.time, 'monotonic', lambda: self.now)
        self.limiter = slow_host_limiter.SlowHostLimiter(4)
        self.waits = contextlib.ExitStack()
        self.addCleanup(self.waits.close)

    def wait(self, *hosts):
        self.waits.enter_context(self.limiter.wait(hosts))

    def overtake(self):
        """Another host answers a new batch immediately."""
        self.now += slow_host_limiter.LEAST + 0.1
        self.limiter.answered('quick', self.now)

    def test_batches_for_hosts_of_equal_speed_are_not_limited(self):
        for _ in range(9):
            self.wait('a', 'b')
        self.now += 60.0
        self.assertEqual({'a', 'b'}, self.limiter.admit({'a', 'b'}))
        # All hosts are slow, so no batch waits longer than another.
        self.limiter.answered('a', self.now - 60.0)
        self.assertEqual({'a', 'b'}, self.limiter.admit({'a', 'b'}))

    def test_slow_host_gets_a_part_of_the_threads(self):
        self.wait('slow')
        self.overtake()
        self.assertEqual({'slow', 'quick'}, self.limiter.admit({'slow', 'quick'}))
        self.wait('slow')
        self.assertEqual({'quick'}, self.limiter.admit({'slow', 'quick'}))

    def test_slow_hosts_share_one_part_of_the_threads(self):
        self.wait('slow')
        self.wait('slow too')
        self.overtake()
        self.assertEqual(frozenset(), self.limiter.admit({'slow'}))

    def test_slow_host_stays_slow_until_it_answers_fast(self):
        began = self.now
        self.overtake()
        self.limiter.answered('slow', began)
        for _ in range(2):
            self.wait('slow')
        self.assertEqual(frozenset(), self.limiter.admit({'slow'}))
        self.limiter.answered('slow', self.now)
        self.assertEqual({'slow'}, self.limiter.admit({'slow'}))

    def test_slowness_is_forgotten(self):
        began = self.now
        self.overtake()
        self.limiter.answered('slow', began)
        self.now += slow_host_limiter.REMEMBERED + 1
        for _ in range(2):
            self.wait('slow')
        self.assertEqual({'slow'}, self.limiter.admit({'slow'}))

    def test_ended_waits_are_not_counted(self):
        with self.limiter.wait(['slow']), self.limiter.wait(['slow']):
            self.overtake()
            self.assertEqual(frozenset(), self.limiter.admit({'slow'}))
        self.assertEqual({'slow'}, self.limiter.admit({'slow'}))
        self.assertEqual({}, self.limiter._waits)


class Map(maps.BeginsAtOnce):
    includes_held_servers = False

    def lookup(self, server_uuids, *, timeout=None):
        return map_base.Lookup({server: ('slow' if server == SLOW else 'quick',) for server in server_uuids})


SLOW, QUICK = (f'{number:08x}-0000-4000-8000-000000000000' for number in (1, 2))


class Hosts:
    """One host answers immediately, and the other when the test allows it."""

    def __init__(self):
        self.collector = None
        self.may_answer = threading.Event()
        self.asked = threading.Semaphore(0)

    @contextlib.contextmanager
    def cast(self, ctxt, deliveries, *, on_failure, until):
        for host, sent in deliveries.items():
            if host == 'quick':
                self.acknowledge(sent)
            else:
                threading.Thread(target=self.acknowledge_later, args=(sent,), daemon=True).start()
                self.asked.release()
        yield self

    def unsent(self):
        return []

    def acknowledge_later(self, sent):
        self.may_answer.wait(LONG)
        self.acknowledge(sent)

    def acknowledge(self, sent):
        results = [events.Result(event.id, events.Verdict.HANDLED) for event in sent.events]
        self.collector.acknowledge(sent.id, results, observer=self.observer)


class Hold:
    """Stores the events that it receives."""

    lifetimes = hold.Lifetimes()

    def __init__(self):
        self.items = []

    def query_held_servers(self, server_uuids):
        return server_uuids

    def held_servers(self, query, *, deadline):
        return {}

    def hold(self, ctxt, items, *, deadline):
        self.items += items


class RoutingTest(base.TestCase):
    def test_slow_hosts_never_use_all_threads(self):
        self.patch(slow_host_limiter, 'LEAST', 0.01)
        hosts, hold, slow_hosts, breakers = (
            Hosts(),
            Hold(),
            slow_host_limiter.SlowHostLimiter(4),
            circuit_breaker.CircuitBreakers(),
        )
        self.addCleanup(hosts.may_answer.set)
        hosts.collector, hosts.observer = acks.Collector(), agents.Observer(slow_hosts=slow_hosts)
        deliverer = agent_deliverer.AgentDeliverer(
            hosts, hosts.collector, hosts.observer, reply_to='worker', transport=None, listener=None
        )
        made = router.Router(lookup.BatchLookup(Map(), hold), deliverer, hold, breakers, slow_hosts)
        codes = []

        def route(server):
            event = events.Event('network-changed', server, id=str(len(codes)))
            (outcome,) = made.route(context.for_service(), [event], ack_timeout=LONG)
            codes.append((server, int(outcome.code)))

        waiting = [threading.Thread(target=route, args=(SLOW,), daemon=True) for _ in range(2)]
        for thread in waiting:
            thread.start()
            self.assertTrue(hosts.asked.acquire(timeout=LONG))
        deadline = time.monotonic() + LONG
        while not hold.items and time.monotonic() < deadline:
            route(QUICK)
            if slow_hosts.admit({'slow'}):
                continue
            route(SLOW)
        # This event was held, and the events before it still wait.
        self.assertEqual([SLOW], [item.event.server_uuid for item in hold.items])
        self.assertEqual({200}, {code for _, code in codes})
        self.assertTrue(all(thread.is_alive() for thread in waiting))
        hosts.may_answer.set()
        for thread in waiting:
            thread.join(LONG)
        self.assertEqual([(SLOW, 200)] * 2, codes[-2:])
