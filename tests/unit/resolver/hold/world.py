"""A simulation of two resolver workers, their hosts, host map and database, without threads or waits.

The workers and the agents of the hosts consist of the real parts.
The test decides the next step. Acknowledgements that have not arrived when
a worker would begin to wait for them are missing.
"""

import collections
from concurrent import futures
import contextlib
import random
import time
from unittest import mock
import uuid

import fixtures
import hypothesis
import sqlalchemy as sa

from external_events_router import context
from external_events_router import events
from external_events_router import exceptions
from external_events_router.agent import clock
from external_events_router.agent import deduplicator
from external_events_router.agent import dispatcher as agent_dispatcher
from external_events_router.agent import handlers
from external_events_router.agent import waiters
from external_events_router.db import models
from external_events_router.resolver import lookup
from external_events_router.resolver import router
from external_events_router.resolver.drivers import rounds
from external_events_router.resolver.drivers.agent import acks
from external_events_router.resolver.drivers.agent import deliverer as agent_deliverer
from external_events_router.resolver.health import circuit_breaker
from external_events_router.resolver.health import liveness
from external_events_router.resolver.health import observer as health_observer
from external_events_router.resolver.health import recovery
from external_events_router.resolver.health import slow_host_limiter
from external_events_router.resolver.hold import hold
from external_events_router.resolver.hold import redelivery
from external_events_router.resolver.hold import store
from external_events_router.resolver.host_map import base as host_map_base
from tests.unit.db import databases
from tests.unit.resolver import maps

SERVERS = [str(uuid.UUID(int=number)) for number in (1, 2)]
HOSTS = ('a', 'b', 'c')
WORKERS = (0, 1)

#: Seconds of the ack timeout. The simulation does not really wait.
ACK_TIMEOUT = 2.0

#: The states of a host: it works; it has no queue; its messages get lost; its
#: acknowledgements get lost: all, all but the first, or the last; it is stopped, and
#: handles the delivered messages when it continues.
STATES = ('up', 'away', 'deaf', 'mute', 'first', 'last', 'stalled')

PLACES = (('a',), ('b',), ('a', 'b'), ('b', 'c'), ())

#: Steps of one run.
STEPS = 60


class Memory(fixtures.Fixture):
    """A database in memory, with its tables, and with logging disabled.

    The log messages of thousands of steps would take longer than the steps.
    """

    def _setUp(self):
        self.database = databases.database('sqlite://', connection_recycle_time=-1)
        self.addCleanup(self.database.close)
        with self.database.writing() as connection:
            models.Base.metadata.create_all(connection)
        self.useFixture(fixtures.MonkeyPatch('logging.Logger.isEnabledFor', lambda *_: False))


class InlinePool:
    """Replaces a thread pool of either type, and runs each job immediately."""

    def submit(self, *job):
        job[-1]()
        return futures.Future()

    def run(self, job, *, timeout):
        return job()

    def close(self):
        pass


class Host:
    """An agent: its dispatcher, its memory, and its state."""

    def __init__(self, world, name):
        self.name = name
        self.world = world
        self.state = 'up'
        self.queue = []
        self.sent = []
        self.handled = []
        self.results = []
        handling = handlers.Handlers()
        handling.on(handlers.ANY, lambda ctxt, event: self.handled.append(event.id))
        self.dispatcher = agent_dispatcher.Dispatcher(
            name,
            pool=InlinePool(),
            results=self,
            resolver_clock=clock.ResolverClock(),
            waiting=waiters.Waiters(),
            handling=handling,
            source=self,
            memory=deduplicator.Deduplicator(),
        )

    def servers(self, host):
        return {server for server, hosts in self.world.locations.items() if host in hosts}

    def add(self, receipt, results):
        self.results += [(receipt, result) for result in results]

    def send(self):
        """Do nothing: the results are sent when all results of a delivery exist."""

    def deliver(self, ctxt, sent):
        self.sent.append(sent)
        if self.state == 'away':
            raise exceptions.HostUnreachable(host=self.name)
        if self.state == 'stalled':
            self.queue.append((ctxt, sent))
        elif self.state != 'deaf':
            self.process(ctxt, sent)

    def process(self, ctxt, sent):
        self.results = []
        self.dispatcher.receive(context.Deferred(None, ctxt), sent)
        said = {
            'mute': self.results[:0],
            'first': self.results[:1],
            'last': self.results[-1:],
        }.get(self.state, self.results)
        for receipt, result in said:
            worker = self.world.workers[int(receipt.reply_to)]
            worker.collector.acknowledge(
                receipt.delivery_id, [result], sender=self.name, observer=worker.observer
            )

    def become(self, state):
        self.state = state
        if state != 'stalled':
            queue, self.queue = self.queue, []
            for ctxt, sent in queue:
                if state != 'away':
                    self.process(ctxt, sent)


class Casts:
    """Replaces the coalescing sender and its threads."""

    def __init__(self, world):
        self.world = world

    @contextlib.contextmanager
    def cast(self, ctxt, deliveries, *, on_failure, until):
        for host, sent in deliveries.items():
            try:
                self.world.hosts[host].deliver(ctxt, sent)
            except exceptions.RouterError as exc:
                on_failure(host, exc)
        yield self

    def unsent(self):
        return []


class Store(store.HoldStore):
    """Fails when the test requires it, and can run a function before it writes the results of an attempt."""

    def __init__(self, database):
        super().__init__(database)
        self.failing = set()
        self.before_settling = []

    def hold_all(self, *args, **kwargs):
        self._fail('hold')
        super().hold_all(*args, **kwargs)

    def settle(self, *args):
        while self.before_settling:
            self.before_settling.pop()()
        self._fail('settle')
        return super().settle(*args)

    def make_due(self, **kwargs):
        self._fail('make_due')
        return super().make_due(**kwargs)

    def _fail(self, what):
        if what in self.failing:
            self.failing.discard(what)
            raise exceptions.DatabaseUnavailable(reason='a test')


class Peers:
    """The client with which one worker informs the other."""

    def __init__(self, world, number):
        self.world = world
        self.number = number

    def hosts_are_back(self, hosts):
        self.world.workers[1 - self.number].host_recovery.responses_announced(hosts)

    def hosts_are_silent(self, hosts, *, unconsumed):
        self.world.workers[1 - self.number].liveness.silence_announced(hosts, unconsumed=unconsumed)


class Worker:
    """A resolver worker, built like ``resolver.service`` builds it."""

    def __init__(self, world, number):
        self.claimed = None
        self.breakers = circuit_breaker.CircuitBreakers(clock=lambda: time.monotonic())
        self.store = Store(world.database)
        held = hold.Hold(self.store, lifetimes=hold.Lifetimes(default=1e6), timeout=1.0)
        held._writer._pool = InlinePool()
        self.host_recovery = recovery.HostRecovery(
            self.breakers,
            self.store,
            wake=lambda: None,
            peers=Peers(world, number),
        )
        for gathered in ('_hosts', '_servers', '_from_peers', '_silent', '_back'):
            getattr(self.host_recovery, gathered)._pool = InlinePool()
        self.collector = acks.Collector()
        slow_hosts = slow_host_limiter.SlowHostLimiter(16)
        self.liveness = liveness.HostLiveness(
            self.breakers,
            self.host_recovery,
            rounds=self.collector,
            queues=None,
            ack_timeout=ACK_TIMEOUT,
            clock=lambda: time.monotonic(),
        )
        self.observer = health_observer.HealthObserver(self.liveness, self.host_recovery, slow_hosts)
        deliverer = agent_deliverer.AgentDeliverer(
            Casts(world),
            self.collector,
            self.observer,
            reply_to=str(number),
            transport=None,
            listener=None,
        )
        self.redelivery_worker = redelivery.RedeliveryWorker(
            held,
            world,
            deliverer,
            self.breakers,
            worker=str(number),
            ack_timeout=ACK_TIMEOUT,
            max_interval=10.0,
            keep_ended=1e6,
        )
        self.router = router.Router(
            lookup.BatchLookup(world, held),
            deliverer,
            held,
            self.breakers,
            slow_hosts,
        )

    def route(self, batch):
        return self.router.route(context.RequestContext(), batch, ack_timeout=ACK_TIMEOUT)


class Simulation(maps.BeginsAtOnce):
    """The possible steps, in random order, and the conditions that hold after each step and at the end."""

    #: The servers, and their possible hosts at the beginning.
    servers = SERVERS
    PLACES = PLACES[:-1]

    def __init__(self, database, seed):
        self.database = database
        self.random = random.Random(seed)
        with self.database.writing() as connection:
            for table in reversed(models.Base.metadata.sorted_tables):
                connection.execute(sa.delete(table))
        self.offset = 0.0
        self._patches = contextlib.ExitStack()
        # The real time does not count, because a loaded machine may need seconds for a step.
        for name in ('time', 'monotonic'):
            began = getattr(time, name)()
            self._patches.enter_context(
                mock.patch.object(time, name, lambda began=began: began + self.passed())
            )
        with self.database.reading() as connection:
            now = self.database.now(connection)
        self._patches.enter_context(
            mock.patch.object(self.database, 'now', lambda connection: now + self.passed())
        )
        wait = rounds.AckRound.wait_until
        self._patches.enter_context(
            mock.patch.object(rounds.AckRound, 'wait_until', lambda waiting, deadline: wait(waiting, 0.0))
        )
        self.locations = {server: self.random.choice(self.PLACES) for server in self.servers}
        self.map = dict(self.locations)
        self.map_away = False
        self.moved = set()
        self.hosts = {name: Host(self, name) for name in HOSTS}
        self.workers = [Worker(self, number) for number in WORKERS]
        self.unread_batches = []
        self.events = {}
        self.posted = {}
        self.answered = {}
        self.instant = 0

    def passed(self):
        """The seconds since the beginning. Each reading of a clock takes a microsecond."""
        self.offset += 1e-6
        return self.offset

    #: The simulated host map is in the database of the hold.
    includes_held_servers = True

    def lookup(self, server_uuids, *, timeout=None):
        """Answer like a host map."""
        if self.map_away:
            return host_map_base.Lookup({}, frozenset(server_uuids), 'away')
        return host_map_base.Lookup(
            {server: self.map[server] for server in server_uuids},
            held_servers=self.workers[0].store.servers_among(server_uuids),
        )

    def send(self, worker, batch, *, responded=True):
        """Route a batch.

        :param responded: whether the sender gets the answer; otherwise it may post the batch again
        """
        self.instant += 1
        for event in batch:
            self.posted.setdefault(event.id, self.instant)
        outcomes = self.workers[worker].route(batch)
        self.instant += 1
        if not responded:
            self.unread_batches.append(batch)
            return
        for outcome in outcomes:
            if outcome.code is events.Code.DELIVERED:
                self.answered.setdefault(outcome.event.id, self.instant)

    def new_batch(self, most):
        batch = []
        for _ in range(self.random.randint(1, most)):
            server = self.random.choice(self.servers)
            event = events.Event('network-changed', server, id=f'event-{len(self.events)}')
            self.events[event.id] = event
            batch.append(event)
        return batch

    def step(self):
        """Something happens."""
        happens = self.random.choices(*zip(*self.STEPS.items(), strict=True))[0]
        hypothesis.note(happens.__name__)
        happens(self)
        self.nothing_is_handled_twice()
        self.nothing_overtakes_what_was_answered_before_it_came()

    def worker(self):
        return self.workers[self.random.choice(WORKERS)]

    def post(self):
        self.send(self.random.choice(WORKERS), self.new_batch(4), responded=self.random.random() < 0.8)

    def post_again(self):
        if self.unread_batches:
            batch = self.unread_batches.pop(self.random.randrange(len(self.unread_batches)))
            self.send(self.random.choice(WORKERS), batch, responded=self.random.random() < 0.8)

    def a_host_fails(self):
        self.random.choice(list(self.hosts.values())).become(self.random.choice(STATES[1:]))

    def a_host_is_up(self):
        """A host works again. In most cases, its agent starts and sends a report."""
        host = self.random.choice(list(self.hosts.values()))
        host.become('up')
        if self.random.random() < 0.8:
            self.worker().host_recovery.appeared(host.name)

    def a_server_moves(self):
        """The host map learns about this move and earlier moves in most cases."""
        server = self.random.choice(self.servers)
        self.locations[server] = self.random.choice(PLACES)
        self.moved.add(server)
        if self.random.random() < 0.7:
            self.map = dict(self.locations)
            self.worker().host_recovery.placed([server])

    def the_map_comes_and_goes(self):
        self.map_away = not self.map_away

    def time_goes_on(self):
        self.offset += self.random.choice((0.6, 5.0, 16.0, 20.0))

    def a_redelivery_worker_runs(self):
        self.offset += self.random.choice((0.0, 0.6, 5.0))
        self.worker().redelivery_worker.run_once()

    def a_redelivery_worker_claims(self):
        """A worker claims events and is paused. It loses its previous claim."""
        worker = self.worker()
        worker.claimed = worker.redelivery_worker._claim()

    def a_redelivery_worker_continues(self):
        worker = self.worker()
        claimed, worker.claimed = worker.claimed, None
        if claimed is not None:
            worker.redelivery_worker._attempt(claimed)

    def a_batch_comes_before_the_next_settling(self):
        number, batch = self.random.choice(WORKERS), self.new_batch(2)
        self.workers[1 - number].store.before_settling.append(lambda: self.send(number, batch))

    def the_database_fails_once(self):
        self.worker().store.failing.add(self.random.choice(('hold', 'settle', 'make_due')))

    #: The relative frequency of each step.
    STEPS = {
        post: 12,
        post_again: 3,
        a_host_fails: 4,
        a_host_is_up: 4,
        a_server_moves: 1,
        the_map_comes_and_goes: 1,
        time_goes_on: 3,
        a_redelivery_worker_runs: 4,
        a_redelivery_worker_claims: 2,
        a_redelivery_worker_continues: 2,
        a_batch_comes_before_the_next_settling: 2,
        the_database_fails_once: 1,
    }

    def nothing_is_handled_twice(self):
        for host in self.hosts.values():
            counts = collections.Counter(host.handled)
            assert all(count == 1 for count in counts.values()), (host.name, counts)

    def nothing_overtakes_what_was_answered_before_it_came(self):
        for host in self.hosts.values():
            for place, later in enumerate(host.handled):
                for earlier in host.handled[place + 1 :]:
                    if self.events[earlier].server_uuid == self.events[later].server_uuid:
                        answered = self.answered.get(earlier, self.instant)
                        assert answered >= self.posted[later], (host.name, host.handled)

    def close(self):
        """Restore the clocks."""
        self._patches.close()

    def run(self):
        """Run the steps, then repair everything and check the results."""
        with self._patches:
            for _ in range(STEPS):
                self.step()
            self.everything_is_well_again()
            self.nothing_is_handled_twice()
            self.nothing_overtakes_what_was_answered_before_it_came()
            self.nothing_answered_is_lost()

    def everything_is_well_again(self):
        self.map_away = False
        for server in self.servers:
            self.locations[server] = self.locations[server] or ('a',)
        self.map = dict(self.locations)
        for worker in self.workers:
            worker.store.failing.clear()
        for host in self.hosts.values():
            host.become('up')
        for _ in range(20):
            self.offset += 20.0
            for worker in self.workers:
                while worker.redelivery_worker.run_once():
                    pass
            if not self.workers[0].store.servers(1):
                return
        raise AssertionError('an event is held for ever')

    def nothing_answered_is_lost(self):
        for event_id in self.answered:
            server = self.events[event_id].server_uuid
            having = {name for name, host in self.hosts.items() if event_id in host.handled}
            if server in self.moved:
                assert having, event_id
            else:
                assert having == set(self.locations[server]), (event_id, having)


class OneServer(Simulation):
    """One server on two hosts, one of which usually does not respond, and few other failures."""

    servers = SERVERS[:1]
    PLACES = (('a', 'b'),)

    def post(self):
        """A working host gets the event before the sender is answered, if it has acknowledged all others."""
        number = self.random.choice(WORKERS)
        worker, (server,) = self.workers[number], self.servers
        (event,) = batch = self.new_batch(1)
        held_servers = worker.store.servers_among(self.servers)
        well = [
            host
            for name, host in self.hosts.items()
            if host.state == 'up'
            and name in self.locations[server]
            and worker.breakers.closed([name])
            and name in held_servers.get(server, self.hosts)
        ]
        self.send(number, batch)
        if not self.map_away and self.map == self.locations:
            for host in well:
                assert event.id in host.handled, (host.name, held_servers)

    def a_host_is_up(self):
        """A host works again and reports to some workers, which may inform the other worker."""
        host = self.random.choice(list(self.hosts.values()))
        host.become('up')
        for worker in self.random.sample(self.workers, self.random.randint(0, 2)):
            worker.host_recovery.appeared(host.name)

    STEPS = {
        post: 12,
        Simulation.a_host_fails: 3,
        a_host_is_up: 5,
        Simulation.a_server_moves: 1,
        Simulation.time_goes_on: 1,
        Simulation.a_redelivery_worker_runs: 2,
        Simulation.a_redelivery_worker_claims: 1,
        Simulation.a_redelivery_worker_continues: 1,
        Simulation.a_batch_comes_before_the_next_settling: 1,
    }
