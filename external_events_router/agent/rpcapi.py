"""Casts to the agents of compute hosts. The server is ``agent.endpoint``.

With oslo.messaging, one delivery is one cast (:class:`AgentAPI`). With direct AMQP
(:class:`FastAgentAPI`), casts to many hosts are in flight at the same time, and several deliveries
to one host can go in one cast.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
import dataclasses
import logging
import time
from typing import Any

from oslo_config import cfg
import oslo_messaging as messaging

from external_events_router import checks
from external_events_router import context
from external_events_router import events
from external_events_router import exceptions
from external_events_router import settling
from external_events_router.messaging import rpc
from external_events_router.messaging.amqp import envelope
from external_events_router.messaging.amqp import publisher

LOG = logging.getLogger(__name__)

#: Receives the end of one cast: its index in the argument, and the error, or None.
Done = Callable[[int, exceptions.RouterError | None], None]


#: Maximum seconds until a token is sent to the broker.
TOKEN_TIMEOUT = 5.0


class AgentAPI:
    """Client for agents.

    Version history:

    * 1.0: ``deliver``
    * 1.1: ``deliver_all``, several deliveries in one cast (sent by :class:`FastAgentAPI`)
    * 1.2: ``take_token``
    """

    VERSION = '1.2'

    def __init__(
        self, transport: messaging.RPCTransport, *, topic: str, version_cap: str | None = None
    ) -> None:
        target = messaging.Target(topic=topic, version=self.VERSION)
        self._client = rpc.get_client(transport, target, version_cap=version_cap, routed=True)
        self._longest_host = checks.longest_host(topic)

    @classmethod
    def from_conf(cls, conf: cfg.ConfigOpts, transport: messaging.RPCTransport) -> AgentAPI:
        """Build the client from the configuration."""
        return cls(transport, topic=conf.compute.topic, version_cap=conf.upgrade_levels.agent)

    def deliver(self, ctxt: context.RequestContext, host: str, delivery: events.Delivery) -> None:
        """Cast a delivery to a host.

        Returns when the broker has confirmed that the message is in the queue of the host. The
        agent has not necessarily received it.

        :raises HostUnreachable: the host has no queue
        :raises InvalidHost: the name of the host is not valid
        :raises BrokerUnavailable: the broker did not accept the message
        """
        if not checks.is_host(host, self._longest_host):
            raise exceptions.InvalidHost(host=host)
        with rpc.translated(host=host):
            self._client.prepare(server=host, version='1.0').cast(ctxt, 'deliver', **_arguments(delivery))

    def take_token(self, host: str, token: str) -> bool:
        """Cast the token for reports to a host. Returns as :meth:`deliver`.

        :returns: False if the version cap excludes this message; it was not sent
        :raises HostUnreachable: see :meth:`deliver`, also for other errors
        """
        if not checks.is_host(host, self._longest_host):
            raise exceptions.InvalidHost(host=host)
        if not self._client.can_send_version('1.2'):
            return False
        with rpc.translated(host=host):
            client = self._client.prepare(server=host, version='1.2')
            client.cast(context.for_service(), 'take_token', token=token)
        return True


@dataclasses.dataclass(slots=True)
class Cast:
    """The content of one message to a host: deliveries in their order, each with its context."""

    host: str
    deliveries: Sequence[tuple[context.RequestContext, events.Delivery]]


class FastAgentAPI:
    """Client for agents with direct AMQP; same versions as :class:`AgentAPI`."""

    def __init__(
        self, publishing: publisher.Publisher, *, topic: str, version_cap: str | None = None
    ) -> None:
        """:param version_cap: highest version that all agents support; None: the newest"""
        self._publisher = publishing
        self._topic = topic
        self._longest_host = checks.longest_host(topic)
        self._together = version_cap is None or rpc.version_includes(version_cap, '1.1')
        self._sends_tokens = version_cap is None or rpc.version_includes(version_cap, '1.2')

    def cast(self, casts: Sequence[Cast], done: Done, *, until: float) -> None:
        """Cast to many hosts at the same time; does not wait.

        :param done: called once for each cast, usually from another thread, when the message is in
            the queue of the host, or with ``HostUnreachable`` or ``BrokerUnavailable``; must be fast
        :param until: an instant of ``time.monotonic()``; after it, unsent messages are not sent
        """
        sent = _Sent(casts, done)
        messages: list[publisher.Message] = []
        contexts = _Contexts()
        for index, cast in enumerate(casts):
            try:
                made = self._messages(cast, contexts)
            except exceptions.RouterError as exc:
                sent.refuse(index, exc)
            except Exception as exc:  # a cast that cannot be encoded must not affect the others
                LOG.exception('Could not encode a delivery to host %s; its events are held', cast.host)
                sent.refuse(index, exceptions.Unsendable(reason=f'unexpected {type(exc).__name__}'))
            else:
                messages += made
                sent.add(index, len(made))
        if not messages:
            return
        try:
            self._publisher.publish(messages, sent.settle, until=until)
        except Exception as exc:
            LOG.exception('Could not publish deliveries; their events are held')
            sent.fail(exceptions.BrokerUnavailable(reason=f'unexpected {type(exc).__name__}'))

    def take_token(self, host: str, token: str) -> bool:
        """Cast the token as :meth:`AgentAPI.take_token`, but do not wait, and only log errors.

        :raises InvalidHost: the name of the host is not valid
        """
        if not checks.is_host(host, self._longest_host):
            raise exceptions.InvalidHost(host=host)
        if not self._sends_tokens:
            return False

        def done(_index: int, error: exceptions.RouterError | None) -> None:
            if error is not None:
                LOG.debug('Could not send a token for reports to host %s: %s', host, error)

        body = envelope.encode(envelope.Call('take_token', '1.2', {'token': token}, {}))
        message = publisher.Message(f'{self._topic}.{host}', body)
        self._publisher.publish([message], done, until=time.monotonic() + TOKEN_TIMEOUT)
        return True

    def _messages(self, cast: Cast, contexts: _Contexts) -> list[publisher.Message]:
        """:raises InvalidHost: the name of the host is not valid"""
        if not checks.is_host(cast.host, self._longest_host):
            raise exceptions.InvalidHost(host=cast.host)
        routing_key = f'{self._topic}.{cast.host}'
        return [publisher.Message(routing_key, body) for body in self._bodies(cast.deliveries, contexts)]

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
    """Caches the encoded form of the last context: most deliveries of a cast have the same context."""

    def __init__(self) -> None:
        self._last: context.RequestContext | None = None
        self._wire: dict[str, Any] = {}

    def of(self, ctxt: context.RequestContext) -> dict[str, Any]:
        if ctxt is not self._last:
            self._last, self._wire = ctxt, context.on_the_wire(ctxt)
        return self._wire


class _Sent:
    """Casts in flight. A cast is done when its last message is done, or with its first error.

    The end of each cast is reported once, even if the publisher raises after it has reported some;
    see ``settling``.
    """

    def __init__(self, casts: Sequence[Cast], done: Done) -> None:
        self._casts = casts
        # The cast of each message, by number, and for each cast the number of unfinished messages.
        self._indexes: list[int] = []
        self._left = [0] * len(casts)
        self._once: settling.Once[exceptions.RouterError] = settling.Once(len(casts), done)

    def add(self, index: int, messages: int) -> None:
        """Record the messages of a cast, before any is published."""
        self._indexes += [index] * messages
        self._left[index] = messages

    def refuse(self, index: int, error: exceptions.RouterError) -> None:
        """Report that a cast has no messages."""
        self._once.settle(index, error)

    def settle(self, number: int, error: exceptions.RouterError | None) -> None:
        """Handle the end of a message; always called from the same thread, or before any other thread."""
        index = self._indexes[number]
        self._left[index] -= 1
        if error is not None or self._left[index] == 0:
            self._once.settle(index, _for_host(error, self._casts[index].host))

    def fail(self, error: exceptions.RouterError) -> None:
        """Report an error for all casts whose end was not reported."""
        self._once.settle_rest(error)


def _arguments(delivery: events.Delivery) -> dict[str, Any]:
    return {
        'delivery_id': delivery.id,
        'reply_to': delivery.reply_to,
        'deadline': delivery.deadline,
        'events': [event.to_dict() for event in delivery.events],
    }


def _for_host(error: exceptions.RouterError | None, host: str) -> exceptions.RouterError | None:
    return exceptions.HostUnreachable(host=host) if isinstance(error, publisher.Unroutable) else error
