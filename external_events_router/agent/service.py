"""The agent of one host: creation, start, stop.

``dispatcher`` processes events; ``fleet`` runs many hosts in one process.
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
from external_events_router.agent import endpoint
from external_events_router.agent import handlers as agent_handlers
from external_events_router.agent import runtime as agent_runtime
from external_events_router.agent import sources
from external_events_router.agent import waiters

LOG = logging.getLogger(__name__)


class Agent:
    """Receives the events of a host, processes them and acknowledges them."""

    def __init__(
        self,
        transport: oslo_messaging.RPCTransport,
        host: str,
        *,
        topic: str = 'compute',
        handlers: agent_handlers.Handlers | None = None,
        source: sources.Source | None = None,
        shared: agent_runtime.AgentRuntime | None = None,
        owns_shared: bool = False,
        remembered_events: int = 100_000,
        remembered_seconds: float = 900.0,
    ) -> None:
        """Create an agent; :meth:`start` starts it.

        :raises ConfigurationError: the name of the host is not valid
        :param transport: result of ``rpc.get_transport``; the caller has to clean it up
        :param host: name of this host in the host map
        :param topic: ``[compute] topic`` of the resolver
        :param handlers: None: only the handlers registered with :meth:`on`
        :param source: the servers on this host; None: unknown. The agent closes the source when it
            stops, unless it shares ``shared`` with other agents
        :param shared: objects that it shares with other agents of this process; None: new ones for
            this agent
        :param owns_shared: no other agent uses ``shared``: start and stop it with this agent
        :param remembered_events: maximum number of handled events that it remembers
        :param remembered_seconds: maximum seconds for which it remembers them
        """
        if not checks.is_host(host, checks.longest_host(topic)):
            raise exceptions.ConfigurationError(
                option='--host, [agent] hosts or [DEFAULT] host',
                reason=f'{checks.shown(host)} is not a valid host name: use 1 to '
                f'{checks.longest_host(topic)} letters, digits and characters of .-_:@',
            )
        self.host = host
        self._owns_shared = owns_shared or shared is None
        self._runtime = shared or agent_runtime.AgentRuntime.over(transport)
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
        self._listener = self._runtime.transport.listener(topic, host, endpoint.AgentEndpoint(self, host))
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
        """Build the agent from the configuration.

        :param handlers: replaces the handlers of ``[agent] handlers``
        :param source: replaces the source of ``[agent] source``
        :raises ConfigurationError: a handler or the source cannot be created
        """
        own = agent_runtime.AgentRuntime.from_conf(conf, transport) if shared is None else shared
        return cls(
            transport,
            host,
            topic=conf.compute.topic,
            handlers=handlers or agent_handlers.Handlers(agent_handlers.load(conf)),
            source=source or sources.load(conf, [host]),
            shared=own,
            owns_shared=shared is None,
            remembered_events=conf.agent.remembered_events,
            remembered_seconds=conf.agent.remembered_seconds,
        )

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
        """Wait for events during an action; see :meth:`Waiters.expect`."""
        return self._waiters.expect(server_uuid, keys, timeout=timeout)

    def receive(self, ctxt: context.Deferred, delivery: events.Delivery) -> None:
        """Process a delivery; called by the endpoint."""
        self._dispatcher.receive(ctxt, delivery)

    def take_token(self, token: str) -> None:
        """Store the token for the reports of this host; called by the endpoint."""
        self._runtime.reporter.take_token(self.host, token)

    def start(self) -> None:
        """Receive events, and report the host.

        Blocks while the broker is unavailable (``rpc.check_broker`` detects this before), but does
        not wait for the resolver.
        """
        if self._owns_shared:
            self._runtime.start()
        self._listener.start()
        self._source.watch(functools.partial(self._runtime.reporter.changed, self.host))
        self._runtime.reporter.add(self.host, self._source)
        LOG.info('Agent of host %s started', self.host)

    def stop(self, timeout: float = 30.0) -> None:
        """Accept no more deliveries, finish the current events, send acknowledgements, then stop.

        Threads that wait for events get ``AgentStopped``. Events that are not finished in time are
        not acknowledged.

        :param timeout: seconds
        """
        until = time.monotonic() + timeout
        self._runtime.reporter.remove(self.host)
        if not self._listener.stop(timeout):
            LOG.warning('Host %s: the listener did not stop within %s s', self.host, timeout)
        self._waiters.stop()
        left = self._dispatcher.drain(_left(until))
        if left:
            LOG.warning(
                'Host %s: stopping with %d unfinished events; they are not acknowledged and are sent again',
                self.host,
                left,
            )
        if self._owns_shared:
            self._source.close()
            self._runtime.stop(_left(until))
            self._handlers.close()
        else:
            self._runtime.acker.flush(_left(until))
        LOG.info('Agent of host %s stopped', self.host)
        self._stopped.set()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the agent is stopped.

        :returns: whether it was stopped in time
        """
        return self._stopped.wait(timeout)


def _left(until: float) -> float:
    return max(0.0, until - time.monotonic())
