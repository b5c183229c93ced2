"""The RPC endpoint of an agent. Its client is ``agent.rpcapi``.

It validates messages. An invalid event or delivery is dropped alone and not acknowledged; the others
in the same message are processed.
"""

from __future__ import annotations

from collections.abc import Sequence
import time
from typing import Any
from typing import Protocol

import oslo_messaging

from external_events_router import checks
from external_events_router import context
from external_events_router import events as router_events
from external_events_router import exceptions
from external_events_router import rejected
from external_events_router.agent import rpcapi
from external_events_router.messaging import rpc
from external_events_router.resolver import rpcapi as resolver_rpcapi

#: Maximum seconds from now, by this machine's clock, until the deadline of a delivery. Results are
#: kept and sent again until the deadline.
MAX_LIFETIME = 7 * 86400.0

_LONGEST_WORKER = checks.longest_host(resolver_rpcapi.ACK_TOPIC)
_MEMBERS = frozenset({'context', 'delivery_id', 'reply_to', 'deadline', 'events'})


class Receiver(Protocol):
    """Receives valid deliveries."""

    def receive(self, ctxt: context.Deferred, delivery: router_events.Delivery) -> None:
        """Process a delivery. Does not wait for the results."""
        ...

    def take_token(self, token: str) -> None:
        """Store the token that the reports of the host have to contain. Does not wait."""
        ...


class AgentEndpoint:
    """Server for ``AgentAPI``, which contains the version history."""

    target = oslo_messaging.Target(version=rpcapi.AgentAPI.VERSION)
    #: See ``rpc.listener``: only handlers and log messages need the context of a delivery.
    defers_contexts = True

    def __init__(self, receiver: Receiver, host: str) -> None:
        """:param host: whose queue the agent consumes; deliveries for other hosts are dropped"""
        self._receiver = receiver
        self._host = host

    @rpc.exposed()
    def deliver(
        self,
        ctxt: context.RequestContext | context.Deferred,
        delivery_id: str,
        reply_to: str,
        deadline: float,
        events: Sequence[Any],
        host: str | None = None,
    ) -> None:
        """See ``AgentAPI.cast``."""
        if self._is_for_another(host):
            return
        own = ctxt if isinstance(ctxt, context.Deferred) else context.Deferred(None, ctxt)
        self._receive(own, delivery_id=delivery_id, reply_to=reply_to, deadline=deadline, events=events)

    @rpc.exposed()
    def deliver_all(
        self,
        ctxt: context.RequestContext | context.Deferred,
        deliveries: Sequence[Any],
        host: str | None = None,
    ) -> None:
        """See ``AgentAPI.cast``."""
        if self._is_for_another(host):
            return
        if type(deliveries) is not list:
            raise exceptions.MalformedMessage(what='deliveries', value=deliveries)
        for each in deliveries:
            if type(each) is not dict or each.keys() != _MEMBERS:
                rejected.ALL.note('delivery', 'it is dropped and not acknowledged', each)
                continue
            try:
                self._receive(
                    context.Deferred(each['context']),
                    delivery_id=each['delivery_id'],
                    reply_to=each['reply_to'],
                    deadline=each['deadline'],
                    events=each['events'],
                )
            except exceptions.MalformedMessage as exc:
                rejected.ALL.note('delivery', 'it is dropped and not acknowledged', str(exc))

    @rpc.exposed()
    def take_token(self, ctxt: context.RequestContext | context.Deferred, token: str) -> None:
        """See ``AgentAPI.take_token``."""
        if not checks.is_id(token):
            raise exceptions.MalformedMessage(what='token', value=token)
        self._receiver.take_token(token)

    def _is_for_another(self, host: object) -> bool:
        """Return whether a message is for another host; it is counted and dropped.

        :param host: None: a resolver of version 1.2 does not send it
        """
        if host is None or host == self._host:
            return False
        problem = (
            f'it is dropped and not acknowledged, because this agent serves host {self._host}; check the '
            'bindings of its queue'
        )
        rejected.ALL.note('delivery for another host', problem, host)
        return True

    def _receive(
        self,
        ctxt: context.Deferred,
        *,
        delivery_id: str,
        reply_to: str,
        deadline: float,
        events: Sequence[Any],
    ) -> None:
        if not (
            checks.is_id(delivery_id)
            and checks.is_host(reply_to, _LONGEST_WORKER)
            and checks.is_number(deadline)
            and type(events) is list
            and len(events) <= router_events.MAX_EVENTS
        ):
            raise exceptions.MalformedMessage(what='delivery', value=(delivery_id, reply_to, deadline))
        delivery = router_events.Delivery(
            id=delivery_id,
            reply_to=reply_to,
            deadline=min(deadline, time.time() + MAX_LIFETIME),
            events=_events(events),
        )
        if delivery.events:
            self._receiver.receive(ctxt, delivery)


def _events(items: Sequence[Any]) -> tuple[router_events.Event, ...]:
    try:
        return tuple(map(router_events.Event.from_dict, items))
    except exceptions.MalformedMessage:
        return tuple(event for item in items if (event := _event(item)) is not None)


def _event(item: Any) -> router_events.Event | None:
    try:
        return router_events.Event.from_dict(item)
    except exceptions.MalformedMessage:
        rejected.ALL.note('event', 'it is dropped and not acknowledged', item)
        return None
