"""The RPC endpoint of an agent. Its other half is ``agent.rpcapi.AgentAPI``."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Mapping
from typing import Any
from typing import Protocol

import oslo_messaging

from external_events_router import context
from external_events_router import events as router_events
from external_events_router import rpc
from external_events_router.agent import rpcapi


class Receiver(Protocol):
    """What takes deliveries."""

    def receive(self, ctxt: context.RequestContext, delivery: router_events.Delivery) -> None:
        """Take a delivery without waiting for what becomes of it."""
        ...


class AgentEndpoint:
    """Server of ``AgentAPI``; its version history is there."""

    target = oslo_messaging.Target(version=rpcapi.AgentAPI.VERSION)

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver

    @rpc.exposed()
    def deliver(
        self,
        ctxt: context.RequestContext,
        delivery_id: str,
        reply_to: str,
        deadline: float,
        events: Iterable[Mapping[str, Any]],
    ) -> None:
        """See ``AgentAPI.deliver``."""
        delivery = router_events.Delivery(
            id=delivery_id,
            reply_to=reply_to,
            deadline=deadline,
            events=tuple(router_events.Event.from_dict(event) for event in events),
        )
        self._receiver.receive(ctxt, delivery)
