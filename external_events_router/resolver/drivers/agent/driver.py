"""The agents of this project, over the transport of the configuration."""

from __future__ import annotations

from oslo_config import cfg
import oslo_messaging as messaging

from external_events_router.agent import rpcapi as agent_rpcapi
from external_events_router.messaging import gate
from external_events_router.messaging import rpc
from external_events_router.messaging import transport as transports
from external_events_router.resolver import rpcapi
from external_events_router.resolver.drivers import base
from external_events_router.resolver.drivers.agent import acks
from external_events_router.resolver.drivers.agent import coalescing_sender
from external_events_router.resolver.drivers.agent import deliverer
from external_events_router.resolver.drivers.agent import endpoint
from external_events_router.resolver.drivers.agent import host_queues

#: Number of threads that receive acknowledgements with oslo.messaging. Each acknowledgement takes a few
#: microseconds with a lock, so more threads would only wait for each other.
ACK_THREADS = 2


class AgentDriver:
    """See ``drivers.base.Driver``."""

    def __init__(
        self,
        transport: transports.Transport,
        client: agent_rpcapi.AgentAPI,
        *,
        queues: base.Queues | None,
        together: bool = True,
    ) -> None:
        """:param queues: queues of the agents; None: they cannot be checked
        :param together: whether deliveries to a host may share a message
        """
        self._transport = transport
        self._client = client
        self._together = together
        self._collector = acks.Collector()
        self.rounds: base.Rounds | None = self._collector
        self.queues = queues
        self.tokens: base.TokenSender | None = client

    @classmethod
    def from_conf(cls, conf: cfg.ConfigOpts, oslo_transport: messaging.RPCTransport) -> AgentDriver:
        """Build the driver from the configuration."""
        transport = transports.from_conf(
            conf,
            oslo_transport,
            threads=conf.resolver.publishers,
            broker_gate=gate.BrokerGate('The message broker'),
        )
        broker = rpc.get_broker(conf) if conf.compute.direct_amqp else None
        topic = conf.compute.topic
        return cls(
            transport,
            agent_rpcapi.AgentAPI(transport, topic=topic, version_cap=conf.upgrade_levels.agent),
            queues=None if broker is None else host_queues.HostQueues(broker, topic=topic),
            together=conf.compute.coalesce,
        )

    def deliverer(self, name: str, observer: base.HostObserver) -> base.Deliverer:
        """See ``drivers.base.Driver``."""
        listener = self._transport.listener(
            rpcapi.ACK_TOPIC,
            name,
            endpoint.AckEndpoint(self._collector, observer),
            threads=ACK_THREADS,
            watcher=self._collector,
            # NOTE: the waits for acknowledgements that are lost with the connection are abandoned anyway.
            automatic=True,
        )
        return deliverer.AgentDeliverer(
            coalescing_sender.CoalescingSender(
                self._client, together=self._together, run_soon=self._transport.run_soon
            ),
            self._collector,
            observer,
            reply_to=name,
            transport=self._transport,
            listener=listener,
        )
