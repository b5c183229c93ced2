"""The agents of many hosts in one process.

They share threads, handlers and the source. With RabbitMQ they also share connections. With another
transport each agent has its own connection, because oslo.messaging gives one to each server.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
import concurrent.futures
import functools
import logging
import threading
import time

from oslo_config import cfg
import oslo_messaging

from external_events_router import exceptions
from external_events_router.agent import handlers as agent_handlers
from external_events_router.agent import runtime as agent_runtime
from external_events_router.agent import service
from external_events_router.agent import sources

LOG = logging.getLogger(__name__)

#: Number of agents that start at the same time. With more, they only wait for each other.
STARTERS = 4


class Fleet:
    """A group of agents that start and stop together."""

    def __init__(
        self,
        agents: Sequence[service.Agent],
        *,
        shared: agent_runtime.AgentRuntime,
        handlers: agent_handlers.Handlers,
        source: sources.Source,
    ) -> None:
        """Combine agents with the three objects with which they were created."""
        self.agents = tuple(agents)
        self._runtime = shared
        self._handlers = handlers
        self._source = source
        self._stopped = threading.Event()

    @classmethod
    def from_conf(
        cls,
        conf: cfg.ConfigOpts,
        transport: oslo_messaging.RPCTransport,
        hosts: Sequence[str],
        *,
        handlers: agent_handlers.Handlers | None = None,
        source: sources.Source | None = None,
    ) -> Fleet:
        """Build the agents from the configuration.

        :param handlers: replaces the handlers of ``[agent] handlers``
        :param source: replaces the source of ``[agent] source``
        :raises ConfigurationError: a handler or the source cannot be created
        """
        handlers = handlers or agent_handlers.Handlers(agent_handlers.load(conf))
        source = source or sources.load(conf, hosts)
        shared = agent_runtime.AgentRuntime.from_conf(conf, transport)
        agents = [
            service.Agent.from_conf(conf, transport, host, handlers=handlers, source=source, shared=shared)
            for host in dict.fromkeys(hosts)
        ]
        return cls(agents, shared=shared, handlers=handlers, source=source)

    def start(self) -> None:
        """Start all agents; see :meth:`Agent.start`."""
        self._runtime.start()
        with concurrent.futures.ThreadPoolExecutor(STARTERS, 'start') as starters:
            list(starters.map(service.Agent.start, self.agents))

    def reload(self, conf: cfg.ConfigOpts) -> None:
        """Create the handlers again from a configuration that was read again.

        The previous handlers finish their current events. If a handler cannot be created, the
        previous handlers stay in effect, and the reason is logged.
        """
        problem = self._configure_handlers(conf)
        if problem:
            LOG.error('Configuration not reloaded: %s; the previous handlers stay in effect', problem)
        else:
            LOG.info('Handlers: %s', ', '.join(conf.agent.handlers) or 'none')

    def stop(self, timeout: float = 30.0) -> None:
        """Stop all agents at the same time; see :meth:`Agent.stop`.

        :param timeout: seconds
        """
        until = time.monotonic() + timeout
        self._source.close()
        _in_parallel([functools.partial(agent.stop, timeout) for agent in self.agents], until)
        self._runtime.stop(max(0.0, until - time.monotonic()))
        self._handlers.close()
        self._stopped.set()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the agents are stopped.

        :returns: whether they were stopped in time
        """
        return self._stopped.wait(timeout)

    def _configure_handlers(self, conf: cfg.ConfigOpts) -> str | None:
        try:
            self._handlers.configure(agent_handlers.load(conf))
        except (exceptions.ConfigurationError, cfg.Error, ValueError) as exc:
            # NOTE: a value is validated when it is used, not when its file is read.
            return str(exc)
        return None


def _in_parallel(functions: Sequence[Callable[[], None]], until: float) -> None:
    threads = [threading.Thread(target=function, daemon=True) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
