"""Casts to the agents of compute hosts. Its other half is ``agent.endpoint``.

Over any transport one delivery is one cast (:class:`AgentAPI`). Over the fast road
(:class:`FastAgentAPI`) casts to many hosts are on their way at the same time, and
several deliveries to one host go in one.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
import dataclasses
from typing import Any

from oslo_config import cfg
import oslo_messaging as messaging

from external_events_router import context
from external_events_router import events
from external_events_router import exceptions
from external_events_router import rpc
from external_events_router.amqp import envelope
from external_events_router.amqp import publisher

#: Of one cast: its place among those given together, and why it is not with its host, or None.
Done = Callable[[int, exceptions.RouterError | None], None]


class AgentAPI:
    """Client of the agents.

    Version history:

    * 1.0: ``deliver``
    * 1.1: ``deliver_all``, several deliveries in one cast (by :class:`FastAgentAPI`)
    """

    VERSION = '1.1'

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
            self._client.prepare(server=host, version='1.0').cast(ctxt, 'deliver', **_arguments(delivery))


@dataclasses.dataclass(slots=True)
class Cast:
    """What goes to a host in one message: deliveries in their order, each with its context."""

    host: str
    deliveries: Sequence[tuple[context.RequestContext, events.Delivery]]


class FastAgentAPI:
    """Client of the agents over the fast road; versions as :class:`AgentAPI`."""

    def __init__(
        self, publishing: publisher.Publisher, *, topic: str, version_cap: str | None = None
    ) -> None:
        """:param version_cap: the highest version the agents understand; None: the newest"""
        self._publisher = publishing
        self._topic = topic
        self._together = version_cap is None or rpc.version_includes(version_cap, '1.1')

    def cast(self, casts: Sequence[Cast], done: Done, *, until: float) -> None:
        """Cast to many hosts at once; does not wait.

        :param done: called once for each cast, mostly from another thread, when
            the broker has it in the host's queue or with ``HostUnreachable`` or
            ``BrokerUnavailable``; has to be quick
        :param until: an instant of ``time.monotonic()`` after which what was not sent is not sent
        """
        indexes: list[int] = []
        messages: list[publisher.Message] = []
        contexts = _Contexts()
        for index, cast in enumerate(casts):
            for body in self._bodies(cast.deliveries, contexts):
                indexes.append(index)
                messages.append(publisher.Message(f'{self._topic}.{cast.host}', body))
        if len(messages) == len(casts):

            def settle(number: int, error: exceptions.RouterError | None) -> None:
                done(number, _for_host(error, casts[number].host))
        else:
            settle = _Gathered(casts, indexes, done).settle
        self._publisher.publish(messages, settle, until=until)

    def _bodies(
        self, deliveries: Sequence[tuple[context.RequestContext, events.Delivery]], contexts: _Contexts
    ) -> Sequence[bytes]:
        if len(deliveries) == 1 or not self._together:
            return [
                envelope.encode(envelope.Call('deliver', '1.0', _arguments(delivery), contexts.of(ctxt)))
                for ctxt, delivery in deliveries
            ]
        arguments = {
            'deliveries': [
                {**_arguments(delivery), 'context': contexts.of(ctxt)} for ctxt, delivery in deliveries
            ]
        }
        first = contexts.of(deliveries[0][0])
        return [envelope.encode(envelope.Call('deliver_all', '1.1', arguments, first))]


class _Contexts:
    """Contexts as they go over the wire: most of some casts have the same."""

    def __init__(self) -> None:
        self._last: context.RequestContext | None = None
        self._wire: dict[str, Any] = {}

    def of(self, ctxt: context.RequestContext) -> dict[str, Any]:
        if ctxt is not self._last:
            self._last, self._wire = ctxt, context.on_the_wire(ctxt)
        return self._wire


class _Gathered:
    """Casts of which some are several messages: each is done when its last message is, or one fails."""

    def __init__(self, casts: Sequence[Cast], indexes: Sequence[int], done: Done) -> None:
        self._casts = casts
        self._indexes = indexes
        self._left = [indexes.count(index) for index in range(len(casts))]
        self._done = done

    def settle(self, number: int, error: exceptions.RouterError | None) -> None:
        """One message is done; always called from the same thread, or before any other."""
        index = self._indexes[number]
        self._left[index] = 0 if error is not None and self._left[index] > 0 else self._left[index] - 1
        if self._left[index] == 0:
            self._done(index, _for_host(error, self._casts[index].host))


def _arguments(delivery: events.Delivery) -> dict[str, Any]:
    return {
        'delivery_id': delivery.id,
        'reply_to': delivery.reply_to,
        'deadline': delivery.deadline,
        'events': [event.to_dict() for event in delivery.events],
    }


def _for_host(error: exceptions.RouterError | None, host: str) -> exceptions.RouterError | None:
    return exceptions.HostUnreachable(host=host) if isinstance(error, publisher.Unroutable) else error
