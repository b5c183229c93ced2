"""A resolver worker: its databases, RPC servers and driver, which start and stop together."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
import dataclasses
from typing import Any
import uuid

from oslo_config import cfg
from oslo_log import log
import oslo_messaging as messaging

from external_events_router import checks
from external_events_router import context
from external_events_router import events
from external_events_router import exceptions
from external_events_router.db import session
from external_events_router.journal import recorder
from external_events_router.messaging import rpc
from external_events_router.messaging import stopping
from external_events_router.messaging.amqp import consumer
from external_events_router.messaging.amqp import forwarding
from external_events_router.resolver import endpoint
from external_events_router.resolver import event_log
from external_events_router.resolver import host_map
from external_events_router.resolver import host_states
from external_events_router.resolver import lookup
from external_events_router.resolver import proofs
from external_events_router.resolver import recording
from external_events_router.resolver import report_key
from external_events_router.resolver import router
from external_events_router.resolver import rpcapi
from external_events_router.resolver import worker_name
from external_events_router.resolver import worker_parts
from external_events_router.resolver.drivers import base
from external_events_router.resolver.drivers import factory
from external_events_router.resolver.health import circuit_breaker
from external_events_router.resolver.health import liveness
from external_events_router.resolver.health import observer as health_observer
from external_events_router.resolver.health import recovery
from external_events_router.resolver.health import slow_host_limiter
from external_events_router.resolver.hold import hold
from external_events_router.resolver.hold import redelivery
from external_events_router.resolver.hold import store
from external_events_router.resolver.host_map import guarded

LOG = log.getLogger(__name__)

#: Maximum number of reports that a worker handles at the same time.
REPORT_THREADS = 8

#: Maximum seconds for closing a connection.
STOP_TIMEOUT = 2.0

#: Maximum seconds that a start waits until events can be held, which needs the database.
WARM_TIMEOUT = 5.0


@dataclasses.dataclass(frozen=True)
class Settings:
    """The numbers of a worker, from ``[resolver]`` and ``[delivery]``.

    :ivar host: name of this machine
    :ivar threads: maximum number of requests over the broker at the same time
    :ivar batches: maximum number of batches at the same time
    """

    host: str
    lifetimes: hold.Lifetimes = dataclasses.field(default_factory=hold.Lifetimes)
    threads: int = 64
    batches: int = 64
    publishers: int = 16
    ack_timeout: float = 2.0
    hold_timeout: float = 1.0
    retry_interval: float = 10.0
    keep_expired: float = 86400.0
    require_report_token: bool = False

    @classmethod
    def from_conf(cls, conf: cfg.ConfigOpts) -> Settings:
        """Read the settings from the configuration.

        :raises ConfigurationError: a value is not valid
        """
        # NOTE: the name of a worker is <host>:<slot>, and part of a routing key.
        longest = checks.longest_host(rpcapi.ACK_TOPIC) - len(':99999')
        if not checks.is_host(conf.host, longest):
            raise exceptions.ConfigurationError(
                option='[DEFAULT] host',
                reason=f'{checks.shown(conf.host)} is not a valid name of a resolver: use 1 to {longest} '
                'letters, digits and characters of .-_:@',
            )
        return cls(
            host=conf.host,
            lifetimes=hold.Lifetimes.from_conf(conf),
            threads=conf.resolver.threads,
            batches=conf.resolver.threads,
            publishers=conf.resolver.publishers,
            ack_timeout=conf.delivery.ack_timeout,
            hold_timeout=conf.delivery.hold_timeout,
            retry_interval=conf.delivery.retry_interval,
            keep_expired=conf.delivery.keep_expired,
            require_report_token=conf.resolver.require_report_token,
        )


def check(conf: cfg.ConfigOpts) -> None:
    """Check the configuration before a worker is started.

    :raises ConfigurationError: with the name of the option that is not valid
    """
    # NOTE: imported here, because a worker does not need alembic, which uses much memory.
    from external_events_router.db import migration

    Settings.from_conf(conf)
    factory.check(conf)
    host_map.check(conf)
    with contextlib.closing(session.Database.from_conf(conf)) as held:
        migration.check(held)
    if conf.journal.record != 'none' and conf.journal.connection:
        with contextlib.closing(recorder.open_database(conf)) as journal:
            migration.check(journal, option=recorder.OPTION)


class Resolver:
    """One worker. Several workers, on any machines, share the work."""

    def __init__(
        self,
        transport: messaging.RPCTransport,
        host_map: guarded.GuardedHostMap,
        held: store.HoldStore,
        *,
        host_state_store: host_states.HostStateStore,
        driver: base.Driver,
        peers: rpcapi.PeerAPI,
        settings: Settings,
        read_report_key: Callable[[], bytes],
        agent_forwarding: forwarding.Forwarding | None = None,
        bindings: consumer.Consumer | None = None,
        make_journal: Callable[[str], recorder.Recorder] = lambda name: recorder.NOTHING,
    ) -> None:
        """:param driver: integration with the software on the hosts
        :param read_report_key: see :class:`proofs.Proofs`
        :param agent_forwarding: makes the broker forward messages of agents; None: not necessary
        :param bindings: result of ``rpc.get_bindings``
        :param make_journal: creates the recorder of a worker from its name
        """
        self._bindings = bindings
        self._threads, self._ack_timeout = settings.threads, settings.ack_timeout
        self._host_map = host_map
        self._name = worker_name.WorkerName(settings.host)
        self._journal = make_journal(self._name.name)
        breakers = circuit_breaker.CircuitBreakers()
        slow_hosts = slow_host_limiter.SlowHostLimiter(settings.batches)
        self._hold = hold.Hold(held, lifetimes=settings.lifetimes, timeout=settings.hold_timeout)
        self._recovery = recovery.HostRecovery(
            breakers, held, wake=lambda: self._redelivery.wake(), peers=peers
        )
        self._liveness = liveness.HostLiveness(
            breakers,
            self._recovery,
            rounds=driver.rounds,
            queues=driver.queues,
            ack_timeout=settings.ack_timeout,
        )
        self._parts = worker_parts.WorkerParts(breakers, driver.rounds, held=self._hold, host_map=host_map)
        self._deliverer = driver.deliverer(
            self._name.name,
            health_observer.HealthObserver(self._liveness, self._recovery, slow_hosts, journal=self._journal),
        )
        events_log = event_log.EventLog()
        self._redelivery = redelivery.RedeliveryWorker(
            self._hold,
            host_map,
            self._deliverer,
            breakers,
            # NOTE: a new name at each start, so that a worker does not treat the claims of its
            # predecessor with the same name as its own.
            worker=f'{self._name.name}/{uuid.uuid4()}',
            ack_timeout=settings.ack_timeout,
            max_interval=settings.retry_interval,
            keep_ended=settings.keep_expired,
            journal=self._journal,
            events_log=events_log,
        )
        batch_lookup = lookup.BatchLookup(host_map, self._hold)
        self._router = router.Router(
            batch_lookup,
            self._deliverer,
            self._hold,
            breakers,
            slow_hosts,
            journal=self._journal,
            events_log=events_log,
        )
        self._host_states = host_states.HostStates(host_state_store, self._name.name, breakers.hosts)
        reported = self._host_states.reported
        report_proofs = proofs.Proofs(read_report_key, driver.tokens, required=settings.require_report_token)
        self._requests = rpc.get_server(
            transport,
            messaging.Target(topic=rpcapi.TOPIC, server=self._name.name),
            [
                endpoint.RouteEndpoint(self._router, ack_timeout=settings.ack_timeout, journal=self._journal),
                endpoint.HostMapEndpoint(
                    host_map, self._recovery, self._liveness, report_proofs, reported=reported
                ),
                endpoint.PeerEndpoint(self._recovery, self._liveness),
                endpoint.OperatorEndpoint(
                    self._router, breakers, journal=self._journal, ack_timeout=settings.ack_timeout
                ),
            ],
        )
        # NOTE: a separate server, so that agents can occupy only its threads.
        self._reports = rpc.get_server(
            transport,
            messaging.Target(topic=rpcapi.REPORT_TOPIC, server=self._name.name),
            [
                endpoint.ReportEndpoint(
                    host_map, self._recovery, self._liveness, report_proofs, reported=reported
                )
            ],
        )
        self._forwarding = agent_forwarding

    @classmethod
    def from_conf(
        cls,
        conf: cfg.ConfigOpts,
        transport: messaging.RPCTransport,
        host_map: guarded.GuardedHostMap,
        *,
        database: session.Database | None = None,
        settings: Settings | None = None,
    ) -> Resolver:
        """Build the worker from the configuration.

        :param database: database of the hold; None: ``[database] connection``
        :param settings: replaces the settings of the configuration
        :raises ConfigurationError: a value is not valid
        """
        database = database or session.Database.from_conf(conf)
        return cls(
            transport,
            host_map,
            store.HoldStore(database),
            host_state_store=host_states.HostStateStore(database),
            driver=factory.from_conf(conf, transport),
            peers=rpcapi.PeerAPI.from_conf(conf, transport),
            settings=settings or Settings.from_conf(conf),
            read_report_key=report_key.ReportKey(database).read,
            agent_forwarding=_forwarding(conf),
            bindings=rpc.get_bindings(conf),
            make_journal=recording.from_conf(conf),
        )

    def start(self) -> None:
        """Start redelivery, receive acknowledgements, then accept requests.

        Blocks while the broker is unavailable; ``rpc.check_broker`` detects this before.
        """
        # NOTE: start these first, because they need no broker. The other parts wait for the broker.
        self._parts.start()
        self._journal.start()
        self._redelivery.start()
        self._liveness.start()
        self._host_states.start()
        self._host_map.warm()
        if self._forwarding is not None:
            self._forwarding.start()
        self._deliverer.start()
        if self._bindings is not None:
            for topic in (rpcapi.TOPIC, rpcapi.REPORT_TOPIC, rpcapi.ACK_TOPIC):
                self._bindings.keep_bound(topic)
                self._bindings.keep_bound(f'{topic}.{self._name.name}')
            self._bindings.start()
        self.wait_until_warm()
        self._reports.start(override_pool_size=min(self._threads, REPORT_THREADS))
        self._requests.start(override_pool_size=self._threads)
        LOG.info('Resolver worker %s is ready', self._name.name)

    def wait_until_warm(self) -> None:
        """Wait until events can be held immediately, or until the timeout.

        If the broker fails while a worker starts, the worker has to hold events before it has a
        connection to the database. On a busy machine it takes a second to open one.
        """
        self._hold.wait_until_warm(WARM_TIMEOUT)

    def route(
        self,
        ctxt: context.RequestContext,
        batch: Sequence[events.Event],
        *,
        ack_timeout: float,
        timeout: float,
    ) -> list[events.Outcome]:
        """Route a batch of this process; see :meth:`router.Router.route`."""
        return self._router.route(ctxt, batch, ack_timeout=ack_timeout, timeout=timeout)

    def refused(self, refusals: Sequence[Mapping[str, Any]]) -> None:
        """Record requests that the API of this process refused."""
        recording.record_refusals(self._journal, refusals)

    def stop(self) -> None:
        """Accept no more requests, finish the current requests, close connections.

        The deadlines of the requests limit the time: ``[delivery] ack_timeout``. If the broker does not
        take the replies, this is the longest wait for them.
        """
        servers = stopping.ServerStop([self._requests, self._reports])
        servers.start()
        if self._bindings is not None:
            self._bindings.stop(STOP_TIMEOUT)
        self._redelivery.stop()
        if not servers.wait(self._ack_timeout + STOP_TIMEOUT):
            LOG.warning('The RPC servers did not stop in time; unfinished requests get no reply')
        self._router.close()
        if self._forwarding is not None:
            self._forwarding.stop(STOP_TIMEOUT)
        self._host_states.stop(STOP_TIMEOUT)
        self._liveness.stop()
        self._deliverer.stop()
        self._recovery.close()
        self._hold.close()
        self._host_map.close()
        self._journal.stop()
        self._parts.stop()
        self._name.release()
        LOG.info('Resolver worker %s has stopped', self._name.name)


def _forwarding(conf: cfg.ConfigOpts) -> forwarding.Forwarding | None:
    broker = rpc.get_rabbit(conf)
    if broker is None:
        return None
    keys = {f'{broker.exchange}_{purpose}': key for purpose, key in rpcapi.AGENT_EXCHANGES.items()}
    return forwarding.Forwarding(broker, keys)
