"""Casts to the agents of compute hosts. Its other half is ``agent.endpoint``."""

from __future__ import annotations

from oslo_config import cfg
import oslo_messaging as messaging

from external_events_router import context
from external_events_router import events
from external_events_router import rpc


class AgentAPI:
    """Client of the agents.

    Version history:

    * 1.0: ``deliver``
    """

    VERSION = '1.0'

    def __init__(
        self, transport: messaging.RPCTransport, *, topic: str, version_cap: str | None = None
    ) -> None:
        target = messaging.Target(topic=topic, version=self.VERSION)
        self._client = rpc.get_client(transport, target, version_cap=version_cap, routed=True)

    @classmethod
    def from_conf(cls, conf: cfg.ConfigOpts, transport: messaging.RPCTransport) -> AgentAPI:
        """The client that the configuration asks for."""
        return cls(transport, topic=conf.compute.topic, version_cap=conf.upgrade_levels.agent)

    def deliver(self, ctxt: context.RequestContext, host: str, delivery: events.Delivery) -> None:
        """Cast a delivery to a host.

        Returns when the broker has confirmed that it put the message into the
        host's queue, which says nothing about the agent behind it.

        :raises HostUnreachable: the host has no queue
        :raises BrokerUnavailable: the broker did not take the message
        """
        with rpc.translated(host=host):
            self._client.prepare(server=host).cast(
                ctxt,
                'deliver',
                delivery_id=delivery.id,
                reply_to=delivery.reply_to,
                deadline=delivery.deadline,
                events=[event.to_dict() for event in delivery.events],
            )
