"""What the agents of one process have in common, whatever the number of their hosts.

The threads that handle events, the one that acknowledges, the one that reports,
and the resolver's time. What is one host's own is in ``service``.
"""

from __future__ import annotations

import time

from oslo_config import cfg
import oslo_messaging

from external_events_router.agent import acker
from external_events_router.agent import clock
from external_events_router.agent import ordering
from external_events_router.agent import reporter
from external_events_router.resolver import rpcapi


class Shared:
    """The common part of agents on one transport."""

    def __init__(
        self,
        transport: oslo_messaging.RPCTransport,
        *,
        workers: int = 64,
        report_interval: float = 60.0,
        acks: rpcapi.AckAPI | None = None,
        host_map: rpcapi.HostMapAPI | None = None,
    ) -> None:
        """Make the common part.

        :param workers: servers whose events are handled at the same time
        :param report_interval: seconds between two reports of a host
        :param acks: client for acknowledgements; None: one on the transport
        :param host_map: client for reports; None: one on the transport
        """
        self.clock = clock.ResolverClock()
        self.pool = ordering.OrderedPool(workers)
        self.acker = acker.Acker(acks or rpcapi.AckAPI(transport), self.clock)
        self.reporter = reporter.Reporter(
            host_map or rpcapi.HostMapAPI(transport), self.clock, interval=report_interval
        )

    @classmethod
    def from_conf(cls, conf: cfg.ConfigOpts, transport: oslo_messaging.RPCTransport) -> Shared:
        """The common part that the configuration asks for."""
        return cls(
            transport,
            workers=conf.agent.workers,
            report_interval=conf.agent.report_interval,
            acks=rpcapi.AckAPI.from_conf(conf, transport),
            host_map=rpcapi.HostMapAPI.from_conf(conf, transport),
        )

    def start(self) -> None:
        """Start the threads."""
        self.acker.start()
        self.reporter.start()

    def stop(self, timeout: float) -> None:
        """Finish what is in hand as far as the time allows; after the agents were stopped.

        :param timeout: seconds
        """
        until = time.monotonic() + timeout
        self.reporter.stop()
        self.pool.stop(timeout)
        self.acker.stop(max(0.0, until - time.monotonic()))
