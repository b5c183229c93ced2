"""Order per server, nothing lost, nothing twice: whatever hosts, workers, the map and the database do.

Two resolver workers share one database, and the hosts are real agents' parts.
There are no threads and no waiting: a step of the test is what happens next.
Acknowledgements that have not come when a worker would wait for them are
missing.
"""

import collections
import contextlib
import time
from unittest import mock
import uuid

import hypothesis
from hypothesis import stateful
from hypothesis import strategies
import sqlalchemy as sa

from external_events_router import context
from external_events_router import events
from external_events_router import exceptions
from external_events_router.agent import clock
from external_events_router.agent import dispatcher as agent_dispatcher
from external_events_router.agent import handlers
from external_events_router.agent import seen
from external_events_router.agent import waiters
from external_events_router.db import models
from external_events_router.resolver import acks
from external_events_router.resolver import breaker
from external_events_router.resolver import delivery
from external_events_router.resolver import presence
from external_events_router.resolver import router
from external_events_router.resolver.hold import courier
from external_events_router.resolver.hold import keeper
from external_events_router.resolver.hold import store
from external_events_router.resolver.host_map import base as host_map_base
from tests import base
from tests.unit.db import databases

SERVERS = [str(uuid.UUID(int=number)) for number in (1, 2)]
HOSTS = ('a', 'b')
WORKERS = (0, 1)

#: Seconds that a batch would wait. None is really waited.
ACK_TIMEOUT = 2.0

#: How a host is: it takes part; it has no queue; its messages get lost; its
#: acknowledgements do, or all but the first, or the last; it stands still, and
#: handles what it was sent when it goes on.
STATES = ('up', 'up', 'up', 'away', 'deaf', 'mute', 'first', 'last', 'stalled')

#: Whether a sender hears what it is answered: mostly.
HEARD = strategies.sampled_from((True, True, True, False))

PLACES = (('a',), ('b',), ('a', 'b'), ())


class InlinePool:
    """In place of a pool of threads, of either kind."""

    def submit(self, *job):
        job[-1]()
        return True

    def run(self, job, *, timeout):
        return job()

    def close(self):
        pass


class Host:
    """An agent: its dispatcher and memory, and how it is."""

    def __init__(self, world, name):
        self.name = name
        self.world = world
        self.state = 'up'
        self.queue = []
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
            memory=seen.Seen(),
        )

    def servers(self, host):
        return {server for server, hosts in self.world.truth.items() if host in hosts}

    def add(self, receipt, result):
        self.results.append((receipt, result))

    def deliver(self, ctxt, sent):
        if self.state == 'away':
            raise exceptions.HostUnreachable(host=self.name)
        if self.state == 'stalled':
            self.queue.append((ctxt, sent))
        elif self.state != 'deaf':
            self.process(ctxt, sent)

    def process(self, ctxt, sent):
        self.results = []
        self.dispatcher.receive(ctxt, sent)
        said = {
            'mute': self.results[:0],
            'first': self.results[:1],
            'last': self.results[-1:],
        }.get(self.state, self.results)
        for receipt, result in said:
            collector = self.world.workers[int(receipt.reply_to)].collector
            collector.acknowledge(receipt.delivery_id, [result], sender=self.name)

    def become(self, state):
        self.state = state
        if state != 'stalled':
            queue, self.queue = self.queue, []
            for ctxt, sent in queue:
                if state != 'away':
                    self.process(ctxt, sent)


class Casts:
    """In place of the dispatcher, with its threads."""

    def __init__(self, world):
        self.world = world

    @contextlib.contextmanager
    def cast(self, ctxt, deliveries, *, on_failure):
        for host, sent in deliveries.items():
            try:
                self.world.hosts[host].deliver(ctxt, sent)
            except exceptions.RouterError as exc:
                on_failure(host, str(exc))
        yield


class Store(store.HoldStore):
    """Fails when it is told to, and lets something happen before it writes what an attempt came to."""

    def __init__(self, database):
        super().__init__(database)
        self.failing = set()
        self.before_settling = []

    def hold(self, *args, **kwargs):
        self._fail('hold')
        super().hold(*args, **kwargs)

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


class Worker:
    """A resolver worker, put together as ``resolver.service`` does."""

    def __init__(self, world, number):
        self.claimed = None
        self.breakers = breaker.Breakers(clock=lambda: time.monotonic())
        self.store = Store(world.database)
        hold = keeper.Keeper(self.store, lifetimes=keeper.Lifetimes(default=1e6), timeout=1.0)
        hold._pool = InlinePool()
        self.presence = presence.Presence(
            self.breakers,
            self.store,
            wake=lambda: None,
            tell_others=lambda host: world.workers[1 - number].presence.heard_of(host),
        )
        self.presence._pool = InlinePool()
        self.collector = acks.Collector(late=self.presence.appeared)
        deliverer = delivery.Deliverer(
            Casts(world),
            self.collector,
            reply_to=str(number),
            answered=self.presence.answered,
            silent=self.breakers.open,
        )
        self.courier = courier.Courier(
            hold,
            world,
            deliverer,
            self.breakers,
            worker=str(number),
            ack_timeout=ACK_TIMEOUT,
            max_interval=10.0,
            keep_ended=1e6,
        )
        self.router = router.Router(world, deliverer, hold, self.breakers)

    def route(self, batch):
        return self.router.route(context.RequestContext(), batch, ack_timeout=ACK_TIMEOUT)


class World(stateful.RuleBasedStateMachine):
    """What may happen, one after the other; and what must be true in the end."""

    database = None

    def __init__(self):
        super().__init__()
        with self.database.writing() as connection:
            for table in reversed(models.Base.metadata.sorted_tables):
                connection.execute(sa.delete(table))
        self.offset = 0.0
        self._patches = contextlib.ExitStack()
        real = {name: getattr(time, name) for name in ('time', 'monotonic')}
        now = self.database.now
        for name, function in real.items():
            self._patches.enter_context(
                mock.patch.object(time, name, lambda function=function: function() + self.offset)
            )
        self._patches.enter_context(
            mock.patch.object(self.database, 'now', lambda connection: now(connection) + self.offset)
        )
        self._patches.enter_context(mock.patch.object(acks.Waiting, 'wait', lambda *_: None))
        self.truth = dict.fromkeys(SERVERS, ('a',))
        self.map = dict(self.truth)
        self.map_away = False
        self.moved = set()
        self.hosts = {name: Host(self, name) for name in HOSTS}
        self.workers = [Worker(self, number) for number in WORKERS]
        self.unheard = []
        self.events = {}
        self.posted = {}
        self.answered = {}
        self.instant = 0

    def lookup(self, server_uuids):
        """As the host map's."""
        if self.map_away:
            return host_map_base.Lookup({}, frozenset(server_uuids), 'away')
        return host_map_base.Lookup({server: self.map[server] for server in server_uuids})

    def send(self, worker, batch, *, heard=True):
        """Have a batch routed.

        :param heard: the sender gets the answer; else it may post the batch again
        """
        self.instant += 1
        for event in batch:
            self.posted.setdefault(event.id, self.instant)
        outcomes = self.workers[worker].route(batch)
        self.instant += 1
        if not heard:
            self.unheard.append(batch)
            return
        for outcome in outcomes:
            if outcome.code is events.Code.DELIVERED:
                self.answered.setdefault(outcome.event.id, self.instant)

    def new_batch(self, servers):
        batch = []
        for server in servers:
            number = len(self.events)
            event = events.Event('network-changed', SERVERS[server], id=f'event-{number}')
            self.events[event.id] = event
            batch.append(event)
        return batch

    @stateful.initialize(places=strategies.lists(strategies.sampled_from(PLACES[:3]), min_size=2, max_size=2))
    def begin(self, places):
        self.truth = dict(zip(SERVERS, places, strict=True))
        self.map = dict(self.truth)

    @stateful.rule(
        worker=strategies.sampled_from(WORKERS),
        servers=strategies.lists(strategies.sampled_from(range(len(SERVERS))), min_size=1, max_size=4),
        heard=HEARD,
    )
    def post(self, worker, servers, heard):
        self.send(worker, self.new_batch(servers), heard=heard)

    @stateful.precondition(lambda self: self.unheard)
    @stateful.rule(worker=strategies.sampled_from(WORKERS), heard=HEARD, data=strategies.data())
    def post_again(self, worker, heard, data):
        batch = data.draw(strategies.sampled_from(self.unheard))
        self.unheard.remove(batch)
        self.send(worker, batch, heard=heard)

    @stateful.rule(host=strategies.sampled_from(HOSTS), state=strategies.sampled_from(STATES))
    def a_host_becomes(self, host, state):
        self.hosts[host].become(state)

    @stateful.rule(host=strategies.sampled_from(HOSTS), worker=strategies.sampled_from(WORKERS))
    def a_host_reports(self, host, worker):
        if self.hosts[host].state == 'up':
            self.workers[worker].presence.appeared(host)

    @stateful.rule(server=strategies.sampled_from(SERVERS), places=strategies.sampled_from(PLACES))
    def a_server_moves(self, server, places):
        self.truth[server] = places
        self.moved.add(server)

    @stateful.rule(worker=strategies.sampled_from(WORKERS))
    def the_map_hears_of_it(self, worker):
        changed = [server for server in SERVERS if self.map[server] != self.truth[server]]
        self.map = dict(self.truth)
        self.workers[worker].presence.placed(changed)

    @stateful.rule(away=strategies.booleans())
    def the_map_is_away(self, away):
        self.map_away = away

    @stateful.rule(seconds=strategies.sampled_from((0.6, 5.0, 16.0, 20.0)))
    def time_goes_on(self, seconds):
        self.offset += seconds

    @stateful.rule(worker=strategies.sampled_from(WORKERS))
    def a_courier_runs(self, worker):
        self.workers[worker].courier.run_once()

    @stateful.rule(worker=strategies.sampled_from(WORKERS))
    def a_courier_claims(self, worker):
        """And stands still; whatever it claimed before, it never tries."""
        self.workers[worker].claimed = self.workers[worker].courier._claim()

    @stateful.rule(worker=strategies.sampled_from(WORKERS))
    def a_courier_goes_on(self, worker):
        claimed, self.workers[worker].claimed = self.workers[worker].claimed, None
        if claimed is not None:
            self.workers[worker].courier._attempt(claimed)

    @stateful.rule(
        worker=strategies.sampled_from(WORKERS),
        servers=strategies.lists(strategies.sampled_from(range(len(SERVERS))), min_size=1, max_size=2),
    )
    def a_batch_comes_before_the_next_settling(self, worker, servers):
        batch = self.new_batch(servers)
        self.workers[1 - worker].store.before_settling.append(lambda: self.send(worker, batch))

    @stateful.rule(
        worker=strategies.sampled_from(WORKERS),
        what=strategies.sampled_from(('hold', 'settle', 'make_due')),
    )
    def the_database_fails_once(self, worker, what):
        self.workers[worker].store.failing.add(what)

    @stateful.invariant()
    def nothing_is_handled_twice(self):
        for host in self.hosts.values():
            counts = collections.Counter(host.handled)
            assert all(count == 1 for count in counts.values()), (host.name, counts)

    @stateful.invariant()
    def nothing_overtakes_what_was_answered_before_it_came(self):
        for host in self.hosts.values():
            for place, later in enumerate(host.handled):
                for earlier in host.handled[place + 1 :]:
                    if self.events[earlier].server_uuid == self.events[later].server_uuid:
                        answered = self.answered.get(earlier, self.instant)
                        assert answered >= self.posted[later], (host.name, host.handled)

    def teardown(self):
        with self._patches:
            self.everything_is_well_again()
            self.nothing_is_handled_twice()
            self.nothing_overtakes_what_was_answered_before_it_came()
            self.nothing_answered_is_lost()

    def everything_is_well_again(self):
        self.map_away = False
        for server in SERVERS:
            self.truth[server] = self.truth[server] or ('a',)
        self.map = dict(self.truth)
        for worker in self.workers:
            worker.store.failing.clear()
        for host in self.hosts.values():
            host.become('up')
        for _ in range(20):
            self.offset += 20.0
            for worker in self.workers:
                while worker.courier.run_once():
                    pass
            if not self.workers[0].store.servers(1):
                return
        raise AssertionError('something is held for ever')

    def nothing_answered_is_lost(self):
        for event_id in self.answered:
            server = self.events[event_id].server_uuid
            having = {name for name, host in self.hosts.items() if event_id in host.handled}
            if server in self.moved:
                assert having, event_id
            else:
                assert having == set(self.truth[server]), (event_id, having)


class OrderTest(base.TestCase):
    def test_whatever_happens(self):
        database = databases.database('sqlite://', connection_recycle_time=-1)
        self.addCleanup(database.close)
        with database.writing() as connection:
            models.Base.metadata.create_all(connection)
        settings = hypothesis.settings(
            max_examples=40,
            stateful_step_count=30,
            deadline=None,
            database=None,
            # NOTE: to shrink a failure takes minutes, more than a test may. For
            # a shorter story of one, run it without this line.
            phases=[hypothesis.Phase.generate],
            suppress_health_check=list(hypothesis.HealthCheck),
        )
        self.quiet()
        stateful.run_state_machine_as_test(type('World', (World,), {'database': database}), settings=settings)

    def quiet(self):
        # NOTE: what is logged of thousands of steps takes longer than they do.
        patch = mock.patch('logging.Logger.isEnabledFor', lambda *_: False)
        patch.start()
        self.addCleanup(patch.stop)
