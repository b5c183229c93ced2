"""The agent of one host: built, started, drained.

What happens to an event is in ``dispatcher``; many hosts in one process are a
``fleet``.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
import functools
import logging
import threading
import time
from typing import overload

from oslo_config import cfg
import oslo_messaging

from external_events_router import checks
from external_events_router import context
from external_events_router import events
from external_events_router import exceptions
from external_events_router.agent import deduplicator
from external_events_router.agent import dispatcher
from external_events_router.agent import handlers as agent_handlers
from external_events_router.agent import runtime as agent_runtime
from external_events_router.agent import sources
from external_events_router.agent import waiters

LOG = logging.getLogger(__name__)


class Agent:
    """Receives the events of a host, hands them on and acknowledges them."""

    def __init__(
        self,
        transport: oslo_messaging.RPCTransport,
        host: str,
        *,
        topic: str = 'compute',
        handlers: agent_handlers.Handlers | None = None,
        source: sources.Source | None = None,
        shared: agent_runtime.AgentRuntime | None = None,
        remembered_events: int = 100_000,
        remembered_seconds: float = 900.0,
    ) -> None:
        """Make an agent; :meth:`start` starts it.

        :raises ConfigurationError: the name is none that a host can have
        :param transport: of ``rpc.get_transport``; stays the caller's to clean up
        :param host: the name under which the resolver knows this host
        :param topic: as ``[compute] topic`` of the resolver
        :param handlers: None: none but those of :meth:`on`
        :param source: which servers are here; None: it is not known. The
            agent closes it when it stops, unless it has a ``shared``
        :param shared: what it has in common with the other agents of this
            process, started and stopped by the caller; None: its own
        :param remembered_events: how many handled events it knows again
        :param remembered_seconds: for how long
        """
        if not checks.is_host(host, checks.longest_host(topic)):
            raise exceptions.ConfigurationError(
                option='--host, [agent] hosts or [DEFAULT] host',
                reason=f'{checks.shown(host)} cannot be the name of a host: 1 to '
                f'{checks.longest_host(topic)} letters, digits and characters of .-_:@ are allowed',
            )
        self.host = host
        self._owns_shared = shared is None
        self._runtime = shared or agent_runtime.AgentRuntime(transport)
        self._handlers = handlers or agent_handlers.Handlers()
        self._source = source or sources.NoSource()
        self._waiters = waiters.Waiters()
        self._dispatcher = dispatcher.Dispatcher(
            host,
            pool=self._runtime.pool,
            results=self._runtime.acker,
            resolver_clock=self._runtime.clock,
            waiting=self._waiters,
            handling=self._handlers,
            source=self._source,
            messages=self._runtime.messages,
            memory=deduplicator.Deduplicator(
                remembered_events=remembered_events, remembered_seconds=remembered_seconds
            ),
        )
        self._ear = self._runtime.ear(topic, host, self)
        self._stopped = threading.Event()

    @classmethod
    def from_conf(
        cls,
        conf: cfg.ConfigOpts,
        transport: oslo_messaging.RPCTransport,
        host: str,
        *,
        handlers: agent_handlers.Handlers | None = None,
        source: sources.Source | None = None,
        shared: agent_runtime.AgentRuntime | None = None,
    ) -> Agent:
        """The agent that the configuration asks for.

        :param handlers: in place of those of ``[agent] handlers``
        :param source: in place of that of ``[agent] source``
        :raises ConfigurationError: a handler or the source cannot be made
        """
        own = agent_runtime.AgentRuntime.from_conf(conf, transport) if shared is None else shared
        agent = cls(
            transport,
            host,
            topic=conf.compute.topic,
            handlers=handlers or agent_handlers.Handlers(agent_handlers.load(conf)),
            source=source or sources.load(conf, [host]),
            shared=own,
            remembered_events=conf.agent.remembered_events,
            remembered_seconds=conf.agent.remembered_seconds,
        )
        agent._owns_shared = shared is None
        return agent

    @overload
    def on(self, name: str) -> Callable[[agent_handlers.Handler], agent_handlers.Handler]: ...

    @overload
    def on(self, name: str, handler: agent_handlers.Handler) -> agent_handlers.Handler: ...

    def on(
        self, name: str, handler: agent_handlers.Handler | None = None
    ) -> agent_handlers.Handler | Callable[[agent_handlers.Handler], agent_handlers.Handler]:
        """Register a handler for events of a name; see :meth:`Handlers.on`."""
        if handler is None:
            return self._handlers.on(name)
        return self._handlers.on(name, handler)

    def expect(
        self, server_uuid: str, keys: Iterable[waiters.Key], *, timeout: float = 300.0
    ) -> waiters.Expected:
        """Events to wait for around an action; see :meth:`Waiters.expect`."""
        return self._waiters.expect(server_uuid, keys, timeout=timeout)

    def receive(self, ctxt: context.RequestContext, delivery: events.Delivery) -> None:
        """Take a delivery; for the endpoint."""
        self._dispatcher.receive(ctxt, delivery)

    def take_token(self, token: str) -> None:
        """Take the token for the reports of this host; for the endpoint."""
        self._runtime.reporter.take_token(self.host, token)

    def start(self) -> None:
        """Listen, and report the host.

        Blocks for as long as the broker is away (``rpc.check_broker`` tells that
        beforehand), but not for the resolver.
        """
        if self._owns_shared:
            self._runtime.start()
        self._ear.start()
        self._source.watch(functools.partial(self._runtime.reporter.changed, self.host))
        self._runtime.reporter.add(self.host, self._source)
        LOG.info('Agent of host %s started', self.host)

    def stop(self, timeout: float = 30.0) -> None:
        """Drain: take no more deliveries, finish what is in hand, send acknowledgements.

        Whoever waits for events is woken with ``AgentStopped``. What is not
        finished in time is not acknowledged.

        :param timeout: seconds
        """
        until = time.monotonic() + timeout
        self._runtime.reporter.remove(self.host)
        if not self._ear.stop(timeout):
            LOG.warning('Host %s: the listener did not end in %s s', self.host, timeout)
        self._waiters.stop()
        left = self._dispatcher.drain(_left(until))
        if left:
            LOG.warning('Host %s: %d events were still in hand at the end', self.host, left)
        if self._owns_shared:
            self._source.close()
            self._runtime.stop(_left(until))
            self._handlers.close()
        else:
            self._runtime.acker.flush(_left(until))
        LOG.info('Agent of host %s stopped', self.host)
        self._stopped.set()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it was stopped.

        :returns: whether it was, in time
        """
        return self._stopped.wait(timeout)


def _left(until: float) -> float:
    return max(0.0, until - time.monotonic())
