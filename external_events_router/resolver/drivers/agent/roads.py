"""How a resolver worker's casts go to hosts, and their acknowledgements come back.

Over RabbitMQ that is the fast road, over any other transport the plain one, which
is oslo.messaging's own. Which it is, is decided here once; what travels is the
same, and hosts may be on either.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
from typing import Protocol

from oslo_config import cfg
import oslo_messaging as messaging

from external_events_router.agent import rpcapi as agent_rpcapi
from external_events_router.messaging import rpc
from external_events_router.messaging.amqp import broker as brokers
from external_events_router.messaging.amqp import consumer
from external_events_router.messaging.amqp import publisher
from external_events_router.messaging.amqp import queues as amqp_queues
from external_events_router.resolver import endpoint
from external_events_router.resolver import proofs
from external_events_router.resolver import rpcapi
from external_events_router.resolver.drivers.agent import coalescing_sender
from external_events_router.resolver.drivers.agent import delivery
from external_events_router.resolver.drivers.agent import dispatch
from external_events_router.resolver.health import liveness

#: Threads that take acknowledgements off the wire on the plain road. Taking one is
#: a few microseconds' work under a lock, so more would only wait for each other.
ACK_THREADS = 2

#: Seconds in which the broker lets a worker hear its acknowledgements, or will later.
LISTEN_TIMEOUT = 5.0

#: Seconds that ending a connection may take.
STOP_TIMEOUT = 2.0


class Road(Protocol):
    """Both directions between one worker and the hosts.

    :ivar casts: sends deliveries
    :ivar queues: of the hosts; None: they cannot be looked at
    :ivar tokens: sends hosts the tokens for their reports
    """

    casts: delivery.Casts
    queues: liveness.Queues | None
    tokens: proofs.Sender

    def hear(self, name: str, acks: endpoint.AckEndpoint, watcher: consumer.Watcher) -> None:
        """Say who takes the acknowledgements for a worker's name; before the start.

        :param watcher: is told whether acknowledgements can arrive, where that is known
        """
        ...

    def start(self) -> None:
        """Begin to hear and to send."""
        ...

    def stop(self) -> None:
        """Hear and send no more."""
        ...


def from_conf(conf: cfg.ConfigOpts, transport: messaging.RPCTransport) -> Road:
    """The road of the configuration's transport."""
    broker = rpc.get_broker(conf) if conf.compute.fast_road else None
    if broker is None:
        sender = agent_rpcapi.AgentAPI.from_conf(conf, transport)
        return PlainRoad(transport, sender, publishers=conf.resolver.publishers)
    return FastRoad(
        broker,
        topic=conf.compute.topic,
        version_cap=conf.upgrade_levels.agent,
        together=conf.compute.coalesce,
    )


class PlainRoad:
    """Over oslo.messaging; acknowledgements have an RPC server of their own: see ``rpcapi``."""

    def __init__(
        self, transport: messaging.RPCTransport, sender: agent_rpcapi.AgentAPI, *, publishers: int
    ) -> None:
        """:param publishers: casts that may be on their way at the same time"""
        self.casts: delivery.Casts = dispatch.Dispatcher(sender, publishers=publishers)
        self.queues: liveness.Queues | None = None
        self.tokens: proofs.Sender = sender
        self._transport = transport
        self._server: messaging.MessageHandlingServer | None = None

    def hear(self, name: str, acks: endpoint.AckEndpoint, watcher: consumer.Watcher) -> None:
        """See :class:`Road`. oslo.messaging tells nobody that a connection is lost."""
        target = messaging.Target(topic=rpcapi.ACK_TOPIC, server=name)
        self._server = rpc.get_server(self._transport, target, [acks], replies=False)

    def start(self) -> None:
        """See :class:`Road`. Blocks for as long as the broker is away."""
        if self._server is not None:
            self._server.start(override_pool_size=ACK_THREADS)

    def stop(self) -> None:
        """See :class:`Road`."""
        if self._server is not None:
            self._server.stop()
            self._server.wait()
        self.casts.close()


class FastRoad:
    """Over two connections to RabbitMQ: a broker in alarm reads nothing from one that publishes."""

    def __init__(
        self, broker: brokers.Broker, *, topic: str, version_cap: str | None = None, together: bool = True
    ) -> None:
        """:param together: see :class:`coalescing_sender.CoalescingSender`"""
        self._publisher = publisher.Publisher(broker, name='casts')
        self._consumer = consumer.Consumer(broker, name='acknowledgements')
        sender = agent_rpcapi.FastAgentAPI(self._publisher, topic=topic, version_cap=version_cap)
        self.casts: delivery.Casts = coalescing_sender.CoalescingSender(sender, together=together)
        self.tokens: proofs.Sender = sender
        self._host_queues = HostQueues(broker, topic=topic)
        self.queues: liveness.Queues | None = self._host_queues
        self._queue = ''
        self._acks: endpoint.AckEndpoint | None = None
        self._watcher: consumer.Watcher | None = None

    def hear(self, name: str, acks: endpoint.AckEndpoint, watcher: consumer.Watcher) -> None:
        """See :class:`Road`."""
        self._queue, self._acks, self._watcher = f'{rpcapi.ACK_TOPIC}.{name}', acks, watcher

    def start(self) -> None:
        """See :class:`Road`. Waits for the broker no longer than :data:`LISTEN_TIMEOUT`."""
        self._publisher.start()
        self._consumer.start()
        listens = self._consumer.listen(self._queue, rpc.listener(self._acks), watcher=self._watcher)
        listens.wait(LISTEN_TIMEOUT)

    def stop(self) -> None:
        """See :class:`Road`."""
        self._host_queues.close()
        self._publisher.stop(STOP_TIMEOUT)
        self._consumer.stop(STOP_TIMEOUT)


class HostQueues:
    """The queues of hosts on RabbitMQ; see ``liveness.Queues``."""

    def __init__(self, broker: brokers.Broker, *, topic: str) -> None:
        self._prefix = f'{topic}.'
        self._counts = amqp_queues.ConsumerCounts(broker, name='host-liveness')

    def consumers(self, hosts: Sequence[str], *, timeout: float) -> Mapping[str, int | None]:
        """See :class:`liveness.Queues`."""
        counts = self._counts.count([self._prefix + host for host in hosts], timeout=timeout)
        return {queue.removeprefix(self._prefix): number for queue, number in counts.items()}

    def rest(self) -> None:
        """See :class:`liveness.Queues`."""
        self._counts.close_idle()

    def close(self) -> None:
        """Disconnect."""
        self._counts.close()
