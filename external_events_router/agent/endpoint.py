"""The RPC endpoint of an agent. Its other half is ``agent.rpcapi``."""

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
        self._receive(ctxt, delivery_id=delivery_id, reply_to=reply_to, deadline=deadline, events=events)

    @rpc.exposed()
    def deliver_all(self, ctxt: context.RequestContext, deliveries: Iterable[Mapping[str, Any]]) -> None:
        """See ``FastAgentAPI.cast``."""
        for each in deliveries:
            arguments = dict(each)
            own = context.RequestContext.from_dict(arguments.pop('context'))
            self._receive(own, **arguments)

    def _receive(
        self,
        ctxt: context.RequestContext,
        *,
        delivery_id: str,
        reply_to: str,
        deadline: float,
        events: Iterable[Mapping[str, Any]],
    ) -> None:
        delivery = router_events.Delivery(
            id=delivery_id,
            reply_to=reply_to,
            deadline=deadline,
            events=tuple(map(router_events.Event.from_dict, events)),
        )
        self._receiver.receive(ctxt, delivery)
