"""Objects that all agents of one process share, for any number of hosts.

These are the threads that handle events, the acker, the thread that sends reports, and the clock of
the resolver. ``service`` contains the objects of one host.
"""

from __future__ import annotations

import dataclasses
import functools
import time

from oslo_config import cfg
import oslo_messaging

from external_events_router.agent import acker
from external_events_router.agent import clock
from external_events_router.agent import dispatcher
from external_events_router.agent import listening
from external_events_router.agent import reporter
from external_events_router.concurrency import keyed_pool
from external_events_router.messaging import rpc
from external_events_router.messaging.amqp import broker as brokers
from external_events_router.messaging.amqp import consumer
from external_events_router.messaging.amqp import publisher
from external_events_router.resolver import rpcapi

#: Maximum seconds for closing a connection.
STOP_TIMEOUT = 2.0


class AgentRuntime:
    """The shared part of the agents on one transport."""

    def __init__(
        self,
        transport: oslo_messaging.RPCTransport,
        *,
        workers: int = 64,
        report_interval: float = 60.0,
        acks: acker.BlockingClient | None = None,
        host_map: rpcapi.HostMapAPI | None = None,
        broker: brokers.Broker | None = None,
        ack_version: str | None = None,
        bindings: consumer.Consumer | None = None,
    ) -> None:
        """Create the shared part.

        :param workers: number of servers whose events are handled at the same time
        :param report_interval: seconds between two reports of a host
        :param acks: client for acknowledgements; None: a new one on the transport
        :param host_map: client for reports; None: a new one on the transport
        :param broker: result of ``rpc.get_broker``, to use direct AMQP for casts and acknowledgements
        :param bindings: result of ``rpc.get_bindings``, if casts are received through oslo.messaging
        :param ack_version: highest version of acknowledgements that all resolvers support; None: the newest
        """
        self._publisher = self._consumer = None
        self._bindings = bindings
        self.ear: listening.MakeEar = functools.partial(listening.PlainEar, transport, bindings)
        if broker is not None:
            exchange = rpcapi.ack_exchange(broker.exchange, ack_version)
            to_resolvers = dataclasses.replace(broker, exchange=exchange)
            self._publisher = publisher.Publisher(to_resolvers, name='acknowledgements')
            self._consumer = consumer.Consumer(broker, name='casts')
            self.ear = functools.partial(listening.FastEar, self._consumer)
        self.clock = clock.ResolverClock()
        self.messages = dispatcher.bounded_messages()
        self.acker = acker.Acker(self._casts(transport, acks, ack_version), self.clock)
        self.pool = keyed_pool.KeyedPool(workers, afterwards=self.acker.send)
        self.reporter = reporter.Reporter(
            host_map or rpcapi.HostMapAPI(transport), self.clock, interval=report_interval
        )

    @classmethod
    def from_conf(cls, conf: cfg.ConfigOpts, transport: oslo_messaging.RPCTransport) -> AgentRuntime:
        """Build the shared part from the configuration."""
        broker = rpc.get_broker(conf) if conf.compute.fast_road else None
        return cls(
            transport,
            workers=conf.agent.workers,
            report_interval=conf.agent.report_interval,
            broker=broker,
            bindings=rpc.get_bindings(conf) if broker is None else None,
            ack_version=conf.upgrade_levels.acks,
            host_map=rpcapi.HostMapAPI.from_conf(conf, transport),
        )

    def start(self) -> None:
        """Start the threads, and connect to the broker."""
        if self._publisher is not None and self._consumer is not None:
            self._publisher.start()
            self._consumer.start()
        if self._bindings is not None:
            self._bindings.start()
        self.reporter.start()

    def stop(self, timeout: float) -> None:
        """Finish the current work until the timeout. Call it after the agents were stopped.

        :param timeout: seconds
        """
        until = time.monotonic() + timeout
        self.reporter.stop()
        self.pool.stop(timeout)
        self.acker.stop(max(0.0, until - time.monotonic()))
        self.messages.flush(now=True)
        if self._publisher is not None and self._consumer is not None:
            self._consumer.stop(STOP_TIMEOUT)
        if self._bindings is not None:
            self._bindings.stop(STOP_TIMEOUT)
        if self._publisher is not None:
            self._publisher.stop(STOP_TIMEOUT)

    def _casts(
        self, transport: oslo_messaging.RPCTransport, acks: acker.BlockingClient | None, version: str | None
    ) -> acker.AckClient:
        if acks is None and self._publisher is not None:
            return rpcapi.FastAckAPI(self._publisher, version_cap=version)
        return acker.OnThread(acks or rpcapi.AckAPI(transport, version_cap=version))
