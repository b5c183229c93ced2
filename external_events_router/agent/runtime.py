"""Objects that all agents of one process share, for any number of hosts.

These are the threads that handle events, the acker, the thread that sends reports, and the clock of
the resolver. ``service`` contains the objects of one host.
"""

from __future__ import annotations

import time

from oslo_config import cfg
import oslo_messaging

from external_events_router.agent import acker
from external_events_router.agent import clock
from external_events_router.agent import dispatcher
from external_events_router.agent import reporter
from external_events_router.concurrency import keyed_pool
from external_events_router.messaging import transport as transports
from external_events_router.resolver import rpcapi


class AgentRuntime:
    """The common part of agents on one transport.

    :ivar transport: takes the casts to the hosts, and sends their acknowledgements
    """

    def __init__(
        self,
        transport: transports.Transport,
        host_map: reporter.ReportClient,
        *,
        workers: int = 64,
        report_interval: float = 60.0,
        ack_version: str | None = None,
    ) -> None:
        """Create the shared part.

        :param transport: publishes to ``resolver.rpcapi.ack_exchange``
        :param host_map: client for reports
        :param workers: servers whose events are handled at the same time
        :param report_interval: seconds between two reports of a host
        :param ack_version: version of the acknowledgements for the resolvers; None: the newest
        """
        self.transport = transport
        self.clock = clock.ResolverClock()
        self.messages = dispatcher.bounded_messages()
        self.acker = acker.Acker(
            rpcapi.AckAPI(transport, version_cap=ack_version), self.clock, run_soon=transport.run_soon
        )
        self.pool = keyed_pool.KeyedPool(workers)
        self.reporter = reporter.Reporter(host_map, self.clock, interval=report_interval)

    @classmethod
    def over(cls, oslo_transport: oslo_messaging.RPCTransport) -> AgentRuntime:
        """Build the common part on a transport of oslo.messaging, without a configuration."""
        exchange = rpcapi.ack_exchange(oslo_transport, None)
        transport = transports.OsloTransport(oslo_transport, exchange=exchange)
        return cls(transport, rpcapi.HostMapAPI(oslo_transport))

    @classmethod
    def from_conf(cls, conf: cfg.ConfigOpts, oslo_transport: oslo_messaging.RPCTransport) -> AgentRuntime:
        """Build the common part that the configuration describes."""
        ack_version = conf.upgrade_levels.acks
        transport = transports.from_conf(
            conf,
            oslo_transport,
            exchange=rpcapi.ack_exchange(oslo_transport, ack_version),
            keeps_bindings=True,
        )
        return cls(
            transport,
            rpcapi.HostMapAPI.from_conf(conf, oslo_transport),
            workers=conf.agent.workers,
            report_interval=conf.agent.report_interval,
            ack_version=ack_version,
        )

    def start(self) -> None:
        """Start the threads, and connect."""
        self.transport.start()
        self.reporter.start()

    def stop(self, timeout: float) -> None:
        """Finish the current work as far as the time allows; after the agents were stopped.

        :param timeout: seconds
        """
        until = time.monotonic() + timeout
        self.reporter.stop()
        self.pool.stop(timeout)
        self.acker.stop(max(0.0, until - time.monotonic()))
        self.messages.flush(now=True)
        self.transport.stop()
