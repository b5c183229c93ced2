import threading
import time
from unittest import mock

from external_events_router import context
from external_events_router import events
from external_events_router import exceptions
from external_events_router.resolver import answers
from external_events_router.resolver import event_log
from external_events_router.resolver import lookup
from external_events_router.resolver import router
from external_events_router.resolver.drivers import base as drivers_base
from external_events_router.resolver.drivers.agent import acks
from external_events_router.resolver.health import circuit_breaker
from external_events_router.resolver.health import slow_host_limiter
from external_events_router.resolver.hold import hold
from external_events_router.resolver.host_map import base
from tests import base as tests_base
from tests.unit.resolver import agents
from tests.unit.resolver import maps

ONE = '11111111-1111-4111-8111-111111111111'
TWO = '22222222-2222-4222-8222-222222222222'

#: Seconds; a wait that should end takes much less.
LONG = 30.0


class Map(maps.BeginsAtOnce):
    """A host map that answers each look-up with the next of its states, and then always with the last."""

    includes_held_servers = False

    def __init__(self, *states):
        self.states = list(states)
        self.asked = []
        self.timeouts = []

    def lookup(self, server_uuids, *, timeout):
        self.asked.append(set(server_uuids))
        self.timeouts.append(timeout)
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        if isinstance(state, base.Lookup):
            return state
        return base.Lookup(
            hosts={uuid: state[uuid] for uuid in server_uuids if uuid in state},
            unavailable=frozenset(),
            reason=None,
        )


class Hosts:
    """Hosts that immediately acknowledge with a given verdict; None means no acknowledgement."""

    def __init__(self, **verdicts):
        self.verdicts = verdicts
        self.delivered = []

    def connect(self, collector):
        self.collector = collector

    def deliver(self, ctxt, host, delivery):
        self.delivered.append((host, delivery))
        verdict = self.verdicts.get(host)
        if verdict is not None:
            self.collector.acknowledge(
                delivery.id, [events.Result(event.id, verdict, 'said so') for event in delivery.events]
            )


class Hold:
    """A hold that stores the events, or cannot."""

    def __init__(self):
        self.items = []
        self.lifetimes = hold.Lifetimes()
        self.servers = {}
        self.problem = None

    def query_held_servers(self, server_uuids):
        return server_uuids

    def held_servers(self, query, *, deadline):
        return {server: free for server, free in self.servers.items() if server in query}

    def hold(self, ctxt, items, *, deadline):
        self.items += items
        self.deadline = deadline
        return self.problem


class RouteCase(tests_base.TestCase):
    def setUp(self):
        super().setUp()
        self.hold = Hold()

    def router(self, host_map, deliverer, breakers=None):
        return router.Router(
            lookup.BatchLookup(host_map, self.hold),
            deliverer,
            self.hold,
            breakers or circuit_breaker.CircuitBreakers(),
            slow_host_limiter.SlowHostLimiter(16),
        )

    def route(self, host_map, hosts, *batch, ack_timeout=30, silent=()):
        collector = acks.Collector()
        hosts.connect(collector)
        breakers = circuit_breaker.CircuitBreakers()
        breakers.open(silent)
        deliverer = agents.make_deliverer(hosts, collector, agents.Observer(breakers=breakers))
        made = self.router(host_map, deliverer, breakers)
        outcomes = made.route(context.RequestContext(), batch, ack_timeout=ack_timeout)
        self.assertEqual(list(batch), [outcome.event for outcome in outcomes])
        self.assertEqual({}, collector._waiting)
        return [int(outcome.code) for outcome in outcomes]


class RecordsTest(RouteCase):
    def test_deliverer_gets_the_records_of_the_host_map(self):
        class Deliverer:
            def begin(self, ctxt, by_host, *, records, settled, **more):
                given.append(records)
                results = {
                    (host, event.id): answers.Answer(events.Verdict.NOT_HERE)
                    for host, sent in by_host.items()
                    for event in sent
                }
                return drivers_base.DeferredDelivery(lambda: results, settled)

        class RecordingMap(maps.BeginsAtOnce):
            includes_held_servers = False

            def lookup(self, server_uuids, *, timeout=None):
                number = len(asked)
                asked.append(server_uuids)
                return base.Lookup({ONE: (f'host{number}',)}, records={ONE: number})

        given, asked = [], []
        made = self.router(RecordingMap(), Deliverer())
        made.route(context.RequestContext(), [events.Event('network-changed', ONE)], ack_timeout=30)
        # The second look-up has different records.
        self.assertEqual([{ONE: 0}, {ONE: 1}], given)


class MessagesTest(RouteCase):
    def test_stop_logs_how_many_events_had_no_message(self):
        made = self.router(Map({}), agents.make_deliverer(None, acks.Collector()))
        batch = [events.Event('network-changed', ONE) for _ in range(event_log.LINES + 3)]
        made.route(context.RequestContext(), batch, ack_timeout=30)
        self.assertEqual(
            event_log.LINES, self.logs.output.count('Event answered 404: network-changed of server')
        )
        self.assertNotIn('more events', self.logs.output)
        made.close()
        self.assertIn('3 more events were held, delivered late, or not delivered', self.logs.output)


class RouterTest(RouteCase):
    def test_one_outcome_per_event_in_the_order_of_the_batch(self):
        hosts = Hosts(a=events.Verdict.HANDLED, b=events.Verdict.REFUSED)
        codes = self.route(
            Map({ONE: ('a',), TWO: ('b',)}),
            hosts,
            events.Event('network-changed', TWO),
            events.Event('network-changed', 'unknown'),
            events.Event('network-changed', ONE),
            events.Event('volume-extended', ONE),
        )
        self.assertEqual([500, 404, 200, 400], codes)

    def test_one_look_up_and_one_delivery_per_host_and_batch(self):
        host_map, hosts = (
            Map({ONE: ('a',), TWO: ('a', 'b')}),
            Hosts(a=events.Verdict.HANDLED, b=events.Verdict.HANDLED),
        )
        batch = [events.Event('network-changed', uuid, tag=str(n)) for n in range(5) for uuid in (ONE, TWO)]
        self.assertEqual([200] * 10, self.route(host_map, hosts, *batch))
        self.assertEqual([{ONE, TWO}], host_map.asked)
        self.assertEqual(['a', 'b'], sorted(host for host, _ in hosts.delivered))
        of_a = next(delivery for host, delivery in hosts.delivered if host == 'a')
        self.assertEqual(tuple(batch), of_a.events)
        self.assertEqual('worker', of_a.reply_to)

    def test_silent_host_delays_by_the_ack_timeout_and_affects_its_own_events_only(self):
        hosts = Hosts(a=events.Verdict.HANDLED, b=None)
        began = time.monotonic()
        codes = self.route(
            Map({ONE: ('a',), TWO: ('b',)}),
            hosts,
            events.Event('network-changed', ONE),
            events.Event('network-changed', TWO),
            ack_timeout=0.1,
        )
        self.assertEqual([200, 200], codes)
        (item,) = self.hold.items
        self.assertEqual((TWO, ('b',), 300.0), (item.event.server_uuid, item.hosts, item.ttl))
        self.assertGreaterEqual(time.monotonic() - began, 0.05)

    def test_delivery_has_the_deadline_of_its_events(self):
        hosts, now = Hosts(a=events.Verdict.HANDLED), time.time()
        self.route(Map({ONE: ('a',)}), hosts, events.Event('network-changed', ONE), ack_timeout=7)
        ((_, delivery),) = hosts.delivered
        self.assertAlmostEqual(now + 300, delivery.deadline, delta=5)

    def test_moved_server_is_found_on_its_new_host(self):
        hosts = Hosts(a=events.Verdict.NOT_HERE, b=events.Verdict.HANDLED)
        host_map = Map({ONE: ('a',), TWO: ('b',)}, {ONE: ('a', 'b')})
        codes = self.route(
            host_map, hosts, events.Event('network-changed', ONE), events.Event('network-changed', TWO)
        )
        self.assertEqual([200, 200], codes)
        self.assertEqual([{ONE, TWO}, {ONE}], host_map.asked)
        self.assertEqual(['a', 'b', 'b'], sorted(host for host, _ in hosts.delivered))

    def test_server_on_no_host_is_422_after_a_second_look_up(self):
        hosts, host_map = (
            Hosts(a=events.Verdict.NOT_HERE, b=events.Verdict.NOT_HERE),
            Map({ONE: ('a',)}, {ONE: ('b',)}),
        )
        self.assertEqual([422], self.route(host_map, hosts, events.Event('network-changed', ONE)))
        self.assertEqual(2, len(host_map.asked))
        self.assertEqual(['a', 'b'], [host for host, _ in hosts.delivered])

    def test_server_that_was_deleted_during_the_delivery_is_404(self):
        hosts, host_map = Hosts(a=events.Verdict.NOT_HERE), Map({ONE: ('a',)}, {})
        self.assertEqual([404], self.route(host_map, hosts, events.Event('network-changed', ONE)))

    def test_hold_repeats_a_second_look_up_that_failed(self):
        away = base.Lookup(hosts={}, unavailable=frozenset({ONE}), reason='away')
        hosts, host_map = Hosts(a=events.Verdict.NOT_HERE), Map({ONE: ('a',)}, away)
        self.assertEqual([200], self.route(host_map, hosts, events.Event('network-changed', ONE)))
        self.assertEqual(1, len(self.hold.items))

    def test_migrating_server_that_one_host_has_is_not_looked_up_again(self):
        hosts = Hosts(a=events.Verdict.NOT_HERE, b=events.Verdict.HANDLED)
        host_map = Map({ONE: ('a', 'b')})
        self.assertEqual([200], self.route(host_map, hosts, events.Event('network-changed', ONE)))
        self.assertEqual(1, len(host_map.asked))


class DeadlinesTest(tests_base.TestCase):
    def seconds(self, ack_timeout, timeout=None):
        found = router.Deadlines.after(0.0, ack_timeout=ack_timeout, timeout=timeout)
        self.assertAlmostEqual(min(0.3, found.hosts / 4), found.hosts - found.lookups)
        return round(found.hosts, 9), round(found.hold, 9)

    def test_hold_has_one_second_and_the_answer_comes_within_the_ack_timeout_plus_one_second(self):
        for ack_timeout in (0.05, 0.1, 0.2, 0.5, 2.0, 60.0):
            hosts, hold = self.seconds(ack_timeout)
            self.assertGreaterEqual(hosts, ack_timeout / 2)
            self.assertGreaterEqual(round(hold - hosts, 9), router.HOLD_TIME)
            self.assertLess(hold, ack_timeout + 1.0)
        self.assertEqual((1.9, 2.9), self.seconds(2.0))

    def test_shorter_timeout_of_the_client_shortens_the_wait_for_hosts(self):
        self.assertEqual((1.9, 2.9), self.seconds(2.0, 3.0))
        self.assertEqual((0.95, 1.95), self.seconds(2.0, 2.0))
        self.assertEqual((router.LEAST_WAIT, 0.75), self.seconds(2.0, 0.8))
        self.assertEqual((router.LEAST_WAIT, 0.0), self.seconds(2.0, 0.01))


class ManualMap:
    """A host map whose query ends when the test calls :attr:`then`.

    :ivar result: returns the result of a batch that does not wait for the query
    """

    includes_held_servers = True

    def __init__(self, result=None):
        self.result = result
        self.begun = threading.Event()

    def begin(self, server_uuids, *, timeout=None, then=None):
        self.then = then
        self.begun.set()
        return maps.PendingLookup(self.result, is_ready=False)


class LateQueryTest(RouteCase):
    """The query of a batch ends after its thread has stopped to wait for it."""

    FOUND = base.Lookup({ONE: ('a',)}, held_servers={})

    def setUp(self):
        super().setUp()
        self.collector, self.slow_hosts = acks.Collector(), slow_host_limiter.SlowHostLimiter(16)
        self.event = events.Event('network-changed', ONE)

    def begin(self, host_map, deliver, *, ack_timeout):
        hosts = mock.Mock(deliver=deliver)
        observer = agents.Observer(slow_hosts=self.slow_hosts)
        made = self.router(host_map, agents.make_deliverer(hosts, self.collector, observer))
        return made.route(context.RequestContext(), [self.event], ack_timeout=ack_timeout)

    def acknowledge(self, delivery):
        self.collector.acknowledge(delivery.id, [events.Result(self.event.id, events.Verdict.HANDLED)])

    def check_nothing_is_left(self):
        self.assertEqual({}, self.collector._waiting)
        self.assertEqual({}, self.slow_hosts._waits)

    def test_late_failure_of_the_query_does_not_end_the_wait_for_hosts(self):
        host_map = ManualMap(lambda: self.FOUND)

        def deliver(ctxt, host, delivery):
            host_map.then(None)
            later = threading.Timer(0.1, self.acknowledge, [delivery])
            later.start()
            self.addCleanup(later.join)

        (outcome,) = self.begin(host_map, deliver, ack_timeout=30)
        self.assertEqual((events.Code.DELIVERED, None), (outcome.code, outcome.reason))
        self.assertEqual([], self.hold.items)

    def test_delivery_that_begins_after_the_answer_is_cancelled(self):
        host_map, may_continue = ManualMap(lambda: self.FOUND), threading.Event()

        def query():
            host_map.begun.wait(LONG)
            host_map.then(self.FOUND)

        def deliver(ctxt, host, delivery):
            may_continue.wait(LONG)

        thread = threading.Thread(target=query)
        thread.start()
        self.assertRaises(exceptions.ResolverUnavailable, self.begin, host_map, deliver, ack_timeout=0.05)
        may_continue.set()
        thread.join(LONG)
        self.check_nothing_is_left()

    def test_nothing_is_delivered_after_a_batch_that_failed(self):
        def fail():
            raise ZeroDivisionError

        host_map, asked = ManualMap(fail), []
        self.assertRaises(
            ZeroDivisionError, self.begin, host_map, lambda *arguments: asked.append(1), ack_timeout=30
        )
        host_map.then(self.FOUND)
        self.assertEqual([], asked)
        self.check_nothing_is_left()


class Journal:
    def batch(self, *arguments, **more):
        raise ZeroDivisionError


class UnexpectedErrorTest(RouteCase):
    """An error in a later step of a batch does not change the codes of events that are delivered."""

    BATCH = (events.Event('network-changed', ONE), events.Event('network-changed', TWO))

    def test_second_look_up(self):
        class FailingMap(Map):
            def lookup(self, server_uuids, *, timeout):
                if self.asked:
                    raise ZeroDivisionError
                return super().lookup(server_uuids, timeout=timeout)

        hosts = Hosts(a=events.Verdict.HANDLED, b=events.Verdict.NOT_HERE)
        codes = self.route(FailingMap({ONE: ('a',), TWO: ('b',)}), hosts, *self.BATCH)
        self.assertEqual([200, 200], codes)
        self.assertEqual(
            [(TWO, router.MAP_NOT_READ)], [(i.event.server_uuid, i.reason) for i in self.hold.items]
        )

    def test_delivery_to_a_new_host(self):
        class FailingHosts(Hosts):
            def connect(self, collector):
                super().connect(collector)
                begin = collector.begin

                def fail_later(deliveries, **options):
                    if self.delivered:
                        raise ZeroDivisionError
                    return begin(deliveries, **options)

                collector.begin = fail_later

        hosts = FailingHosts(a=events.Verdict.HANDLED, b=events.Verdict.NOT_HERE)
        host_map = Map({ONE: ('a',), TWO: ('b',)}, {TWO: ('c',)})
        self.assertEqual([200, 200], self.route(host_map, hosts, *self.BATCH))
        self.assertEqual([TWO], [item.event.server_uuid for item in self.hold.items])

    def test_hold(self):
        failing = mock.Mock(hold_all=mock.Mock(side_effect=ZeroDivisionError))
        self.hold = hold.Hold(failing, lifetimes=hold.Lifetimes(), timeout=1.0)
        self.addCleanup(self.hold.close)
        failing.servers_among.return_value = {}
        hosts = Hosts(a=events.Verdict.HANDLED)
        codes = self.route(Map({ONE: ('a',), TWO: ('b',)}), hosts, *self.BATCH, ack_timeout=0.3)
        self.assertEqual([200, 503], codes)

    def test_query_for_held_servers(self):
        failing = mock.Mock()
        self.hold = hold.Hold(failing, lifetimes=hold.Lifetimes(), timeout=1.0)
        self.addCleanup(self.hold.close)
        failing.servers.return_value = frozenset({TWO})
        self.hold.learn()
        failing.servers_among.side_effect = ZeroDivisionError
        hosts = Hosts(a=events.Verdict.HANDLED)
        self.assertEqual([200, 200], self.route(Map({ONE: ('a',), TWO: ('a',)}), hosts, *self.BATCH))
        ((_host, delivery),) = hosts.delivered
        self.assertEqual([ONE], [event.server_uuid for event in delivery.events])

    def test_observer_and_journal(self):
        collector, hosts = acks.Collector(), Hosts(a=events.Verdict.HANDLED)
        hosts.connect(collector)
        observer = agents.Observer()
        observer.answered = mock.Mock(side_effect=ZeroDivisionError)
        made = router.Router(
            lookup.BatchLookup(Map({ONE: ('a',), TWO: ('a',)}), self.hold),
            agents.make_deliverer(hosts, collector, observer),
            self.hold,
            circuit_breaker.CircuitBreakers(),
            slow_host_limiter.SlowHostLimiter(16),
            journal=Journal(),
        )
        outcomes = made.route(context.RequestContext(), self.BATCH, ack_timeout=30)
        self.assertEqual([200, 200], [int(outcome.code) for outcome in outcomes])


class TimeTest(RouteCase):
    def test_hold_has_one_second_after_the_wait_for_hosts(self):
        began = time.monotonic()
        self.route(Map({ONE: ('b',)}), Hosts(b=None), events.Event('network-changed', ONE), ack_timeout=0.3)
        waited = time.monotonic() - began
        ends = router.Deadlines.after(0.0, ack_timeout=0.3, timeout=None)
        self.assertGreaterEqual(waited, ends.hosts)
        holds_until = self.hold.deadline - began
        self.assertTrue(ends.hold <= holds_until <= waited + ends.hold - ends.hosts + 0.001, holds_until)

    def test_both_look_ups_end_at_the_deadline_for_hosts(self):
        host_map, hosts = Map({ONE: ('a',)}, {ONE: ('b',)}), Hosts(a=events.Verdict.NOT_HERE)
        self.route(host_map, hosts, events.Event('network-changed', ONE), ack_timeout=1.0)
        first, second = host_map.timeouts
        self.assertLess(second, first)
        self.assertLessEqual(first, 0.9 * 3 / 4)

    def test_event_is_held_if_the_second_look_up_fails(self):
        before = base.Lookup({ONE: ('a',)}, remembered=frozenset({ONE}))
        hosts, host_map = Hosts(a=events.Verdict.NOT_HERE), Map({ONE: ('a',)}, before)
        self.assertEqual([200], self.route(host_map, hosts, events.Event('network-changed', ONE)))
        self.assertEqual([router.MAP_NOT_READ], [item.reason for item in self.hold.items])


class NewHostTest(RouteCase):
    """The hosts of the second look-up are treated like those of the first one."""

    EVENT = events.Event('network-changed', ONE)

    def setUp(self):
        super().setUp()
        self.hosts = Hosts(a=events.Verdict.NOT_HERE, b=events.Verdict.HANDLED)
        self.map = Map({ONE: ('a',)}, {ONE: ('b',)})

    def check_held(self, reason, **options):
        self.assertEqual([200], self.route(self.map, self.hosts, self.EVENT, **options))
        self.assertEqual(['a'], [host for host, _ in self.hosts.delivered])
        (item,) = self.hold.items
        self.assertIn(reason, item.reason)

    def test_new_host_with_an_open_breaker(self):
        self.check_held(answers.NOT_WAITED_FOR, silent=['b'])

    def test_new_host_that_has_not_acknowledged_earlier_events(self):
        self.hold.servers = {ONE: frozenset({'a'})}
        self.check_held(answers.BEHIND)

    def test_cached_hosts_of_some_servers_do_not_affect_others(self):
        found = base.Lookup({ONE: ('b',), TWO: ('a',)}, remembered=frozenset({TWO}))
        self.map = Map({ONE: ('a',), TWO: ('a',)}, found)
        other = events.Event('network-changed', TWO)
        self.assertEqual([200, 200], self.route(self.map, self.hosts, self.EVENT, other))
        self.assertEqual(['a', 'b'], [host for host, _ in self.hosts.delivered])
        self.assertEqual([(other, router.MAP_NOT_READ)], [(i.event, i.reason) for i in self.hold.items])


class PerHostTest(RouteCase):
    """For a server on two hosts, only the delivery to the host that must not be contacted is held."""

    def held(self):
        return [(set(item.hosts), item.acknowledged) for item in self.hold.items]

    def test_host_with_an_open_breaker_does_not_delay_the_event_for_the_other_host(self):
        hosts = Hosts(a=events.Verdict.HANDLED)
        event = events.Event('network-changed', ONE)
        self.assertEqual([200], self.route(Map({ONE: ('a', 'b')}), hosts, event, silent=['b']))
        self.assertEqual(['a'], [host for host, _ in hosts.delivered])
        self.assertEqual([({'b'}, frozenset({'a'}))], self.held())

    def test_free_host_receives_events_behind_held_events_for_the_other_host(self):
        self.hold.servers = {ONE: frozenset({'a'})}
        hosts = Hosts(a=events.Verdict.HANDLED, b=events.Verdict.HANDLED)
        began = time.monotonic()
        codes = self.route(Map({ONE: ('a', 'b')}), hosts, events.Event('network-changed', ONE))
        self.assertLess(time.monotonic() - began, 10)
        self.assertEqual(([200], ['a']), (codes, [host for host, _ in hosts.delivered]))
        self.assertEqual([({'b'}, frozenset({'a'}))], self.held())

    def test_server_that_is_only_on_free_hosts_is_handled_like_other_servers(self):
        self.hold.servers = {ONE: frozenset({'a'})}
        hosts = Hosts(a=events.Verdict.HANDLED)
        self.assertEqual([200], self.route(Map({ONE: ('a',)}), hosts, events.Event('network-changed', ONE)))
        self.assertEqual([], self.held())

    def test_new_host_of_the_server_is_not_free(self):
        self.hold.servers = {ONE: frozenset({'a'})}
        hosts = Hosts(c=events.Verdict.HANDLED)
        self.route(Map({ONE: ('b', 'c')}), hosts, events.Event('network-changed', ONE))
        self.assertEqual(([], [({'b', 'c'}, frozenset())]), (hosts.delivered, self.held()))

    def test_event_for_a_free_host_that_does_not_acknowledge_is_held(self):
        self.hold.servers = {ONE: frozenset({'a'})}
        event = events.Event('network-changed', ONE)
        self.assertEqual([200], self.route(Map({ONE: ('a', 'b')}), Hosts(a=None), event, ack_timeout=0.3))
        self.assertEqual([({'a', 'b'}, frozenset())], self.held())

    def test_free_host_that_does_not_have_the_server(self):
        self.hold.servers = {ONE: frozenset({'a'})}
        hosts, host_map = Hosts(a=events.Verdict.NOT_HERE), Map({ONE: ('a', 'b')})
        self.assertEqual([200], self.route(host_map, hosts, events.Event('network-changed', ONE)))
        # The other host may have the server, so the map is not read again.
        self.assertEqual((1, [({'a', 'b'}, frozenset())]), (len(host_map.asked), self.held()))

    def test_refusal_of_a_free_host_decides_the_outcome(self):
        self.hold.servers = {ONE: frozenset({'a'})}
        hosts = Hosts(a=events.Verdict.REFUSED)
        self.assertEqual(
            [500], self.route(Map({ONE: ('a', 'b')}), hosts, events.Event('network-changed', ONE))
        )
        self.assertEqual([], self.held())

    def test_other_servers_of_the_host_are_not_held(self):
        self.hold.servers = {ONE: frozenset({'a'})}
        hosts = Hosts(a=events.Verdict.HANDLED, b=events.Verdict.HANDLED)
        batch = [events.Event('network-changed', uuid) for uuid in (ONE, TWO, ONE)]
        self.assertEqual([200] * 3, self.route(Map({ONE: ('a', 'b'), TWO: ('a', 'b')}), hosts, *batch))
        sent = {host: list(delivery.events) for host, delivery in hosts.delivered}
        self.assertEqual({'a': batch, 'b': [batch[1]]}, sent)
        self.assertEqual([batch[0], batch[2]], [item.event for item in self.hold.items])

    def test_one_host_with_an_open_breaker_and_one_with_held_events(self):
        self.hold.servers = {ONE: frozenset({'a'})}
        hosts = Hosts(a=events.Verdict.HANDLED)
        self.route(Map({ONE: ('a', 'b')}), hosts, events.Event('network-changed', ONE), silent=['a'])
        self.assertEqual(([], [({'a', 'b'}, frozenset())]), (hosts.delivered, self.held()))


class HoldingTest(RouteCase):
    """The events that are held, and the hosts for which they are held."""

    def test_event_that_cannot_be_held_is_503(self):
        self.hold.problem = 'database away'
        codes = self.route(
            Map({ONE: ('b',)}), Hosts(b=None), events.Event('network-changed', ONE), ack_timeout=0.3
        )
        self.assertEqual([503], codes)

    def test_event_behind_a_held_event_is_held_and_not_sent(self):
        self.hold.servers = {ONE: frozenset()}
        hosts = Hosts(a=events.Verdict.HANDLED)
        batch = [events.Event('network-changed', uuid) for uuid in (ONE, TWO, ONE)]
        self.assertEqual([200] * 3, self.route(Map({ONE: ('a',), TWO: ('a',)}), hosts, *batch))
        self.assertEqual([batch[0], batch[2]], [item.event for item in self.hold.items])
        ((_, sent),) = hosts.delivered
        self.assertEqual((batch[1],), sent.events)

    def test_event_behind_a_held_event_does_not_use_the_probe_of_its_host(self):
        now, hosts = [0.0], Hosts(a=events.Verdict.HANDLED)
        collector, breakers = acks.Collector(), circuit_breaker.CircuitBreakers(clock=lambda: now[0])
        hosts.connect(collector)
        deliverer = agents.make_deliverer(hosts, collector, agents.Observer(breakers=breakers))
        made = self.router(Map({ONE: ('a',)}), deliverer, breakers)
        breakers.open(['a'])
        now[0] = circuit_breaker.RESET + 1
        for held_servers, held in (({ONE: frozenset()}, 1), ({}, 1)):
            self.hold.servers = held_servers
            event = events.Event('network-changed', ONE)
            made.route(context.RequestContext(), [event], ack_timeout=30)
            self.assertEqual(held, len(self.hold.items))
        self.assertEqual(1, len(hosts.delivered))
        self.assertTrue(breakers.closed(['a']))

    def test_held_servers_of_the_host_map_are_used(self):
        class Both(Map):
            includes_held_servers = True

        hosts = Hosts(a=events.Verdict.HANDLED)
        # NOTE: wrong on purpose, so that the test sees whether the hold was queried.
        self.hold.servers = {TWO: frozenset()}
        batch = [events.Event('network-changed', uuid) for uuid in (ONE, TWO)]
        found = base.Lookup({ONE: ('a',), TWO: ('a',)}, held_servers={ONE: frozenset()})
        self.route(Both(found), hosts, *batch)
        self.assertEqual([batch[0]], [item.event for item in self.hold.items])

    def test_hold_is_queried_if_the_host_map_cannot_return_held_servers(self):
        class Both(Map):
            includes_held_servers = True

        self.hold.servers = {ONE: frozenset()}
        self.route(Both({ONE: ('a',)}), Hosts(a=events.Verdict.HANDLED), events.Event('network-changed', ONE))
        self.assertEqual(1, len(self.hold.items))

    def test_only_the_missing_host_is_retried(self):
        hosts = Hosts(a=events.Verdict.HANDLED, b=None)
        self.route(Map({ONE: ('a', 'b')}), hosts, events.Event('network-changed', ONE), ack_timeout=0.3)
        (item,) = self.hold.items
        self.assertEqual((('b',), frozenset({'a'})), (item.hosts, item.acknowledged))

    def test_silent_host_is_not_waited_for_again(self):
        hosts, host_map = Hosts(a=events.Verdict.HANDLED, b=None), Map({ONE: ('b',), TWO: ('a',)})
        collector = acks.Collector()
        hosts.connect(collector)
        breakers = circuit_breaker.CircuitBreakers()
        deliverer = agents.make_deliverer(hosts, collector, agents.Observer(breakers=breakers))
        made = self.router(host_map, deliverer, breakers)
        for _ in range(3):
            made.route(context.RequestContext(), [events.Event('network-changed', ONE)], ack_timeout=0.3)
        self.assertEqual(['b'], [host for host, _ in hosts.delivered])
        self.assertEqual(3, len(self.hold.items))

    def test_unassigned_server_is_held_if_configured(self):
        event = events.Event('network-changed', ONE)
        self.assertEqual([422], self.route(Map({ONE: ()}), Hosts(), event))
        self.hold.lifetimes = hold.Lifetimes(unassigned=7.0)
        self.assertEqual([200], self.route(Map({ONE: ()}), Hosts(), event))
        (item,) = self.hold.items
        self.assertEqual((7.0, ()), (item.ttl, item.hosts))
        self.hold.problem = 'database away'
        self.assertEqual([422], self.route(Map({ONE: ()}), Hosts(), event))

    def test_unknown_refused_invalid_and_stale_events_are_not_held(self):
        self.hold.lifetimes = hold.Lifetimes(unassigned=7.0)
        hosts = Hosts(a=events.Verdict.REFUSED, b=events.Verdict.NOT_HERE)
        codes = self.route(
            Map({ONE: ('a',), TWO: ('b',)}),
            hosts,
            events.Event('network-changed', ONE),
            events.Event('network-changed', TWO),
            events.Event('network-changed', 'unknown'),
            events.Event('power-update', ONE),
        )
        self.assertEqual([500, 422, 404, 400], codes)
        self.assertEqual([], self.hold.items)
