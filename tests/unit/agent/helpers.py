"""Small real objects that replace the broker, the resolver and the clock in the tests of the agent."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Sequence
import threading
import time
from typing import Any
import uuid

import fixtures
from oslo_config import cfg
from oslo_config import fixture as config_fixture
import oslo_messaging
from oslo_messaging import conffixture
from oslo_messaging._drivers import impl_fake

from external_events_router import conf as router_conf
from external_events_router import context
from external_events_router import events
from external_events_router import exceptions
from external_events_router.agent import acker
from external_events_router.agent import clock
from external_events_router.concurrency import bounded_pool
from external_events_router.messaging import rpc
from external_events_router.resolver import rpcapi

#: Seconds. The longest wait of a test. A wait that succeeds is much shorter.
PATIENCE = 40.0

SERVER = '2c1f0e8c-6d0b-4f0e-9a0a-3c5a3f2f6f41'
OTHER_SERVER = '9d0e2b7a-0f51-4b7c-8d53-6a1d6b1a4f10'


def make_conf(case: fixtures.TestWithFixtures) -> cfg.ConfigOpts:
    """A configuration with the default values. Its overrides end with the test."""
    conf = cfg.ConfigOpts()
    router_conf.register_all(conf)
    # NOTE: the groups of all ConfigOpts share their overrides.
    case.useFixture(config_fixture.Config(conf))
    conf([], default_config_files=[], default_config_dirs=[])
    return conf


def event(
    name: str = 'network-changed', server: str = SERVER, *, tag: str | None = None, status: str = 'completed'
) -> events.Event:
    """Make an event with a unique id."""
    return events.Event(name, server, tag, status)


def delivery(*batch: events.Event, seconds: float = 60.0, reply_to: str = 'worker') -> events.Delivery:
    """Make a delivery whose deadline is ``seconds`` from now."""
    return events.Delivery(str(uuid.uuid4()), reply_to, time.time() + seconds, batch)


def receipt(delivery_id: str = 'd', *, seconds: float = 60.0) -> acker.Receipt:
    """Make a receipt for results that :class:`Acks` collects."""
    ctxt = context.Deferred(None, context.for_service())
    return acker.Receipt(ctxt, 'host-a', delivery_id, 'worker', time.time() + seconds)


def wait_until(condition: Callable[[], object]) -> None:
    """Wait until another thread makes the condition true."""
    until = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > until:
            raise AssertionError('the condition did not become true in time')
        time.sleep(0.002)


class Time:
    """A clock that the test sets."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class Acks:
    """Replaces the client for acknowledgements, and stores the results that it receives."""

    def __init__(self) -> None:
        self.casts: list[tuple[str, list[events.Result]]] = []
        #: Number of the next casts that fail because the broker is unavailable.
        self.failures = 0
        #: Casts block until this event is set.
        self.open = threading.Event()
        self.open.set()
        self.entered = threading.Semaphore(0)

    def acknowledge_all(self, reply_to: str, acknowledgements: Sequence[events.Acknowledgement]) -> None:
        self.entered.release()
        if not self.open.wait(PATIENCE):
            raise AssertionError('nobody opened')
        if self.failures:
            self.failures -= 1
            raise exceptions.BrokerUnavailable(reason='a test')
        self.casts += [(each.delivery_id, list(each.results)) for each in acknowledgements]

    def results(self) -> list[events.Result]:
        """All results of all casts."""
        return [result for _delivery_id, results in self.casts for result in results]

    def verdicts(self) -> dict[str, events.Verdict]:
        """By event id."""
        return {result.event_id: result.verdict for result in self.results()}


def make_acker(acks: Acks, **kwargs: Any) -> acker.Acker:
    """Make an acker that casts on its own thread."""
    resolver_clock = kwargs.pop('resolver_clock', None) or clock.ResolverClock()
    return acker.Acker(_OnThread(acks), resolver_clock, **kwargs)


class _OnThread:
    """A client whose casts return before they are done."""

    def __init__(self, acks: Acks) -> None:
        self._acks = acks
        self._pool = bounded_pool.BoundedPool(1, 'acks')

    def acknowledge_all(
        self, reply_to: str, acknowledgements: Sequence[events.Acknowledgement], done: acker.Done
    ) -> None:
        def cast() -> None:
            try:
                self._acks.acknowledge_all(reply_to, acknowledgements)
            except Exception as exc:
                done(exc)
            else:
                done(None)

        self._pool.submit(cast)


class Resolver(fixtures.Fixture):
    """A resolver on ``fake://``, as agents see it: it accepts acknowledgements and reports.

    :param away: accept neither
    """

    def __init__(self, *, away: bool = False) -> None:
        super().__init__()
        self._away = away

    def _setUp(self) -> None:
        # NOTE: the executor threads of an oslo.messaging server check once per
        # second whether they should end, so a stop takes up to one second.
        self.useFixture(fixtures.MonkeyPatch('futurist._thread.ThreadWorker.MAX_IDLE_FOR', 0.02))
        self.conf = cfg.CONF
        router_conf.register_all(self.conf)
        messaging = self.useFixture(conffixture.ConfFixture(self.conf))
        messaging.transport_url = 'fake://'
        self.conf([], default_config_files=[], default_config_dirs=[])
        self.addCleanup(self.conf.reset)
        self.addCleanup(impl_fake.FakeExchangeManager._exchanges.clear)
        self.transport = rpc.get_transport(self.conf)
        self.acks = Acks()
        self.reports: list[tuple[str, list[str] | None]] = []
        #: Seconds by which the clock of this resolver is ahead.
        self.ahead = 0.0
        self.name = str(uuid.uuid4())
        if self._away:
            return
        self._serve(oslo_messaging.Target(topic=rpcapi.ACK_TOPIC, server=self.name), _AckEndpoint(self))
        self._serve(
            oslo_messaging.Target(topic=rpcapi.REPORT_TOPIC, server=self.name), _HostMapEndpoint(self)
        )

    def delivery(self, *batch: events.Event, seconds: float = 60.0) -> events.Delivery:
        """Make a delivery whose acknowledgements this resolver receives."""
        return delivery(*batch, seconds=seconds + self.ahead, reply_to=self.name)

    def _serve(self, target: oslo_messaging.Target, endpoint: object) -> None:
        server = rpc.get_server(self.transport, target, [endpoint])
        server.start()
        self.addCleanup(server.wait)
        self.addCleanup(server.stop)


class _AckEndpoint:
    target = oslo_messaging.Target(version=rpcapi.AckAPI.VERSION)

    def __init__(self, resolver: Resolver) -> None:
        self._acks = resolver.acks

    @rpc.exposed()
    def acknowledge_all(self, ctxt: context.RequestContext, acknowledgements: list[dict[str, Any]]) -> None:
        self._acks.acknowledge_all('', [events.Acknowledgement.from_dict(data) for data in acknowledgements])


class _HostMapEndpoint:
    target = oslo_messaging.Target(namespace=rpcapi.HOST_MAP_NAMESPACE, version=rpcapi.HostMapAPI.VERSION)

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver

    @rpc.exposed()
    def report(
        self, ctxt: context.RequestContext, host: str, server_uuids: Iterable[str] | None, token: str
    ) -> dict[str, float]:
        servers = None if server_uuids is None else list(server_uuids)
        self._resolver.reports.append((host, servers))
        return {'now': time.time() + self._resolver.ahead}
