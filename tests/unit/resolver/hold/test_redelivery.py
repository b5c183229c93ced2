"""Single attempts in the simulation of ``world``, and the scheduler with its threads."""

import threading
import time

import fixtures

from external_events_router import events
from external_events_router import exceptions
from external_events_router.resolver import answers
from external_events_router.resolver import event_log
from external_events_router.resolver.health import circuit_breaker
from external_events_router.resolver.hold import base as hold_base
from external_events_router.resolver.hold import hold
from external_events_router.resolver.hold import redelivery
from external_events_router.resolver.host_map import base as host_map_base
from tests import base
from tests.unit.agent import helpers
from tests.unit.resolver.hold import scenarios
from tests.unit.resolver.hold import world

ONE, TWO = world.SERVERS


class AttemptTest(base.TestCase):
    def setUp(self):
        super().setUp()
        self.world = world.Simulation(self.useFixture(world.Memory()).database, 0)
        self.addCleanup(self.world.close)
        self.worker = self.world.workers[0]
        self.a, self.b = self.world.hosts['a'], self.world.hosts['b']

    def place(self, **hosts):
        self.world.locations = {{'one': ONE, 'two': TWO}.get(name, name): on for name, on in hosts.items()}
        self.world.map = dict(self.world.locations)

    def hold(self, *items):
        self.worker.store.hold(items, scenarios.CONTEXT, retry_after=0.0)

    def run_all(self, worker=None):
        while (worker or self.worker).redelivery_worker.run_once():
            pass

    def held(self):
        return sorted(self.worker.store.servers(1000))

    def test_nothing_is_due(self):
        self.assertFalse(self.worker.redelivery_worker.run_once())

    def test_worker_that_was_paused_does_not_attempt_its_expired_claims(self):
        self.place(one=('a',))
        self.hold(scenarios.item(ONE))
        batch = self.worker.redelivery_worker._claim()
        self.world.offset += world.ACK_TIMEOUT + redelivery.LEASE_MARGIN + 1
        self.worker.redelivery_worker._attempt(batch)
        self.assertEqual(([], [ONE]), (self.a.handled, self.held()))
        self.run_all(self.world.workers[1])
        self.assertEqual((1, []), (len(self.a.handled), self.held()))

    def test_delivery_that_could_not_be_settled_is_repeated_and_handled_once(self):
        self.place(one=('a',))
        self.hold(scenarios.item(ONE))
        self.worker.store.failing.add('settle')
        self.run_all()
        self.assertEqual((1, [ONE]), (len(self.a.handled), self.held()))
        self.world.offset += world.ACK_TIMEOUT + redelivery.LEASE_MARGIN + 1
        self.run_all(self.world.workers[1])
        self.assertEqual((1, []), (len(self.a.handled), self.held()))

    def test_silent_host_is_probed_with_one_server_per_interval(self):
        servers = [f'{number:08x}-0000-4000-8000-000000000000' for number in range(20)]
        self.place(**dict.fromkeys(servers, ('a',)))
        self.a.become('deaf')
        self.worker.breakers.open(['a'])
        self.hold(*map(scenarios.item, servers))
        self.run_all()
        self.assertEqual(1, len(self.a.sent))
        self.assertEqual(1, len(self.a.sent[0].events))
        # All other servers were postponed.
        self.assertEqual((servers, []), (self.held(), self.worker.store.claim('x', limit=9, lease=9.0)))
        self.world.offset += circuit_breaker.PROBE_PAUSE - 1
        self.run_all()
        self.assertEqual(1, len(self.a.sent))
        self.world.offset += 1
        self.run_all()
        self.assertEqual(2, len(self.a.sent))
        # The host answers one probe, and immediately gets the other events.
        self.a.become('up')
        self.world.offset += circuit_breaker.PROBE_PAUSE
        self.run_all()
        self.assertEqual((20, []), (len(self.a.handled), self.held()))

    def test_host_without_a_consumer_is_not_probed(self):
        self.place(one=('a',), two=('a',))
        self.worker.breakers.open(['a'], unconsumed=True)
        self.hold(scenarios.item(ONE), scenarios.item(TWO, ttl=20.0))
        for _ in range(3):
            self.run_all()
            self.world.offset += circuit_breaker.PROBE_PAUSE
        self.assertEqual([], self.a.sent)
        self.worker.host_recovery.appeared('a')
        self.run_all()
        self.assertEqual((2, []), (len(self.a.handled), self.held()))

    def test_server_postponed_by_a_worker_is_tried_when_the_worker_learns_of_its_host(self):
        self.place(one=('a',))
        other = self.world.workers[1]
        other.breakers.open(['a'], unconsumed=True)
        self.hold(scenarios.item(ONE, hosts=['a']))
        # The host appears to one worker. Before the message arrives, the other makes an attempt.
        self.worker.store.make_due(hosts=['a'])
        self.run_all(other)
        self.assertEqual([], self.a.sent)
        other.host_recovery.responses_announced(['a'])
        self.run_all(other)
        self.assertEqual((1, []), (len(self.a.handled), self.held()))

    def test_servers_of_a_host_that_responds_again_are_sent_in_one_message(self):
        servers = [f'{number:08x}-0000-4000-8000-000000000000' for number in range(40)]
        self.place(**{server: ('ab'[number % 2],) for number, server in enumerate(servers)})
        self.hold(*(scenarios.item(server, hosts=['ab'[n % 2]]) for n, server in enumerate(servers)))
        self.useFixture(fixtures.MonkeyPatch('external_events_router.resolver.hold.redelivery.SERVERS', 20))
        self.worker.breakers.open('ab', unconsumed=True)
        self.run_all()
        for host in 'ab':
            self.worker.breakers.close(host)
        self.worker.store.make_due(hosts=['a', 'b'])
        self.run_all()
        self.assertEqual([20], [len(sent.events) for sent in self.a.sent])
        self.assertEqual([20], [len(sent.events) for sent in self.b.sent])

    def test_event_whose_host_has_no_consumer_expires(self):
        self.place(one=('a',))
        self.worker.breakers.open(['a'], unconsumed=True)
        self.hold(scenarios.item(ONE, ttl=20.0))
        self.run_all()
        self.world.offset += 21
        self.run_all()
        self.assertEqual(([], []), (self.a.handled, self.held()))

    def test_other_host_of_a_server_does_not_wait_for_a_silent_host(self):
        self.place(one=('a', 'b'), two=('a', 'b'))
        self.a.become('deaf')
        self.worker.breakers.open(['a'])
        self.hold(scenarios.item(ONE, hosts=['a', 'b']), scenarios.item(TWO, hosts=['a', 'b']))
        self.run_all()
        self.assertEqual((2, [ONE, TWO]), (len(self.b.handled), self.held()))
        self.assertEqual(1, len(self.a.sent))
        self.a.become('up')
        self.worker.host_recovery.appeared('a')
        self.run_all()
        self.assertEqual((2, 2, []), (len(self.a.handled), len(self.b.handled), self.held()))

    def test_event_near_its_deadline_does_not_shorten_the_time_of_other_events(self):
        self.place(one=('a',))
        self.hold(scenarios.item(ONE, ttl=0.4), scenarios.item(ONE))
        self.run_all()
        (sent,) = self.a.sent
        self.assertAlmostEqual(time.time() + world.ACK_TIMEOUT, sent.deadline, delta=1.0)

    def test_time_between_claim_and_delivery_counts(self):
        self.place(one=('a',))
        self.hold(scenarios.item(ONE, ttl=100.0))
        batch = self.worker.redelivery_worker._claim()
        self.world.offset += 10
        self.worker.redelivery_worker._attempt(batch)
        (sent,) = self.a.sent
        self.assertAlmostEqual(time.time() + 90, sent.deadline, delta=3.0)

    def test_more_events_than_one_attempt_can_take(self):
        self.place(one=('a',))
        self.useFixture(fixtures.MonkeyPatch('external_events_router.resolver.hold.store.MAX_EVENTS', 3))
        tags = [str(number) for number in range(8)]
        items = [scenarios.item(ONE, tag) for tag in tags]
        self.hold(*items)
        self.run_all()
        self.assertEqual([3, 3, 2], [len(sent.events) for sent in self.a.sent])
        self.assertEqual([item.event.id for item in items], self.a.handled)


class Store:
    """A store that has claims or raises errors, and counts the calls."""

    def __init__(self):
        self.claims = []
        self.problems = []
        self.asked = threading.Semaphore(0)
        self.settled = []
        self.learned = 0

    def claim(self, worker, *, limit, lease):
        self.asked.release()
        if self.problems:
            raise self.problems.pop(0)
        claims, self.claims = self.claims, []
        return claims

    def settle(self, worker, settlements):
        self.settled += settlements
        return 0

    def servers(self, limit):
        self.learned += 1
        return frozenset()

    def warm(self):
        pass

    def hold_all(self, requests, *, retry_after, before_commit):
        raise NotImplementedError

    def servers_among(self, server_uuids):
        return {}

    def close(self):
        pass


class Deliverer:
    """A deliverer whose hosts handle everything as soon as the test allows it."""

    def __init__(self):
        self.entered = threading.Event()
        self.open = threading.Event()
        self.given = None
        self.ready = True

    def is_ready(self):
        return self.ready

    def deliver(self, ctxt, by_host, *, deadline, lifetime, records, contexts):
        self.given = records, contexts
        self.entered.set()
        self.open.wait(helpers.PATIENCE)
        answer = answers.Answer(events.Verdict.HANDLED)
        return {(host, event.id): answer for host, sent in by_host.items() for event in sent}


class Map:
    def lookup(self, server_uuids):
        return host_map_base.Lookup(dict.fromkeys(server_uuids, ('a',)), records={ONE: 'its record'})


class SchedulerTest(base.TestCase):
    def setUp(self):
        super().setUp()
        for name in ('POLL', 'ERROR_PAUSE'):
            self.useFixture(
                fixtures.MonkeyPatch(f'external_events_router.resolver.hold.redelivery.{name}', 0.05)
            )
        self.store, self.deliverer = Store(), Deliverer()
        self.redelivery_worker = redelivery.RedeliveryWorker(
            hold.Hold(self.store, lifetimes=hold.Lifetimes(), timeout=1.0),
            Map(),
            self.deliverer,
            circuit_breaker.CircuitBreakers(),
            worker='worker',
            ack_timeout=helpers.PATIENCE,
            max_interval=10.0,
            keep_ended=60.0,
            events_log=event_log.EventLog(lines=5),
        )
        self.addCleanup(self.redelivery_worker.stop)
        self.addCleanup(self.deliverer.open.set)

    def test_number_of_messages_about_ended_events_is_bounded(self):
        old = [
            hold_base.Held(number, events.Event('network-changed', ONE, str(number)), {}, -1.0, frozenset())
            for number in range(100)
        ]
        self.store.claims = [hold_base.Claim(ONE, 0, old)]
        self.deliverer.open.set()
        self.redelivery_worker.run_once()
        self.redelivery_worker._flush_log(now=True)
        self.assertEqual(5, self.logs.output.count('Event answered 200 and expired: network-changed of'))
        self.assertEqual(1, self.logs.output.count('95 more events were held, delivered late, or not'))

    def test_transactions_do_not_overlap(self):
        # A second transaction would hold locks for which the write of a new event waits.
        running, most = [], []

        def transaction(*args, **kwargs):
            running.append(None)
            most.append(len(running))
            overlap.wait(0.05)
            running.pop()
            return [self.claim()] if kwargs else 0

        overlap = threading.Event()
        self.store.claim = self.store.settle = transaction
        self.deliverer.open.set()
        threads = [threading.Thread(target=self.redelivery_worker.run_once) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(helpers.PATIENCE)
        self.assertEqual([1] * 6, most)

    def claim(self):
        held = hold_base.Held(1, events.Event('network-changed', ONE), {}, 300.0, frozenset())
        return hold_base.Claim(ONE, 0, [held])

    def test_scheduler_looks_at_intervals_and_continues_after_any_error(self):
        away = exceptions.DatabaseUnavailable(reason='away')
        self.store.problems = [away, ZeroDivisionError(), away]
        self.deliverer.open.set()
        self.redelivery_worker.start()
        for _ in range(4):
            self.assertTrue(self.store.asked.acquire(timeout=helpers.PATIENCE))
        self.store.claims = [self.claim()]
        self.redelivery_worker.wake()
        helpers.wait_until(lambda: self.store.settled)
        self.assertEqual(frozenset({1}), self.store.settled[0].delivered)
        self.assertEqual(1, self.logs.output.count('Could not check for held events to retry'))
        helpers.wait_until(lambda: 'Held events are retried again' in self.logs.output)

    def test_nothing_is_claimed_while_no_host_can_be_reached(self):
        self.deliverer.ready = False
        self.deliverer.open.set()
        self.store.claims = [self.claim()]
        self.redelivery_worker.start()
        helpers.wait_until(lambda: self.store.learned >= 3)
        self.assertFalse(self.store.asked.acquire(blocking=False))
        self.deliverer.ready = True
        helpers.wait_until(lambda: self.store.settled)

    def test_deliverer_gets_the_records_of_the_host_map_and_the_context_of_each_event(self):
        kept = {'request_id': 'req-its-own', 'user_id': 'its user'}
        held = hold_base.Held(1, events.Event('network-changed', ONE, id='one'), kept, 300.0, frozenset())
        self.store.claims = [hold_base.Claim(ONE, 0, [held])]
        self.deliverer.open.set()
        self.redelivery_worker.run_once()
        records, contexts = self.deliverer.given
        self.assertEqual({ONE: 'its record'}, records)
        self.assertEqual(
            [('one', 'req-its-own', 'its user')],
            [(name, ctxt.request_id, ctxt.user_id) for name, ctxt in contexts.items()],
        )

    def test_stop_waits_for_the_running_attempt_and_claims_no_more(self):
        self.store.claims = [self.claim()]
        self.redelivery_worker.start()
        self.assertTrue(self.deliverer.entered.wait(helpers.PATIENCE))
        stopping = threading.Thread(target=self.redelivery_worker.stop)
        stopping.start()
        helpers.wait_until(lambda: self.redelivery_worker._stopping)
        self.store.claims = [self.claim()]
        stopping.join(0.05)
        self.assertTrue(stopping.is_alive())
        self.deliverer.open.set()
        stopping.join(helpers.PATIENCE)
        self.assertFalse(stopping.is_alive())
        self.assertEqual(1, len(self.store.settled))

    def test_stop_without_start(self):
        self.redelivery_worker.stop()

    def test_stop_twice(self):
        self.redelivery_worker.start()
        self.redelivery_worker.stop()
        began = time.monotonic()
        self.redelivery_worker.stop()
        self.assertLess(time.monotonic() - began, helpers.PATIENCE)
