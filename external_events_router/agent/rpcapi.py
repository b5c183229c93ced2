"""Casts to the agents of compute hosts. Its other half is ``agent.endpoint``.

Over any transport one delivery is one cast (:class:`AgentAPI`). Over the fast road
(:class:`FastAgentAPI`) casts to many hosts are on their way at the same time, and
several deliveries to one host go in one.
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

#: Of one cast: its place among those given together, and why it is not with its host, or None.
Done = Callable[[int, exceptions.RouterError | None], None]


#: Seconds for which a token may wait until it is sent to the broker.
TOKEN_TIMEOUT = 5.0


class AgentAPI:
    """Client of the agents.

    Version history:

    * 1.0: ``deliver``
    * 1.1: ``deliver_all``, several deliveries in one cast (by :class:`FastAgentAPI`)
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
        """The client that the configuration asks for."""
        return cls(transport, topic=conf.compute.topic, version_cap=conf.upgrade_levels.agent)

    def deliver(self, ctxt: context.RequestContext, host: str, delivery: events.Delivery) -> None:
        """Cast a delivery to a host.

        Returns when the broker has confirmed that it put the message into the
        host's queue, which says nothing about the agent behind it.

        :raises HostUnreachable: the host has no queue
        :raises InvalidHost: it can have none
        :raises BrokerUnavailable: the broker did not take the message
        """
        if not checks.is_host(host, self._longest_host):
            raise exceptions.InvalidHost(host=host)
        with rpc.translated(host=host):
            self._client.prepare(server=host, version='1.0').cast(ctxt, 'deliver', **_arguments(delivery))

    def take_token(self, host: str, token: str) -> bool:
        """Cast to a host the token that its reports have to contain. Returns as :meth:`deliver`.

        :returns: False: agents do not know this message yet, and it was not sent
        :raises HostUnreachable: as :meth:`deliver`, which also lists the other errors
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
        self._longest_host = checks.longest_host(topic)
        self._together = version_cap is None or rpc.version_includes(version_cap, '1.1')
        self._sends_tokens = version_cap is None or rpc.version_includes(version_cap, '1.2')

    def cast(self, casts: Sequence[Cast], done: Done, *, until: float) -> None:
        """Cast to many hosts at once; does not wait.

        :param done: called once for each cast, mostly from another thread, when
            the broker has it in the host's queue or with ``HostUnreachable`` or
            ``BrokerUnavailable``; has to be quick
        :param until: an instant of ``time.monotonic()`` after which what was not sent is not sent
        """
        sent = _Sent(casts, done)
        messages: list[publisher.Message] = []
        contexts = _Contexts()
        for index, cast in enumerate(casts):
            try:
                made = self._messages(cast, contexts)
            except exceptions.RouterError as exc:
                sent.refuse(index, exc)
            except Exception as exc:  # one that cannot be encoded must not prevent the others
                LOG.exception('A delivery to host %s cannot be encoded', cast.host)
                sent.refuse(index, exceptions.Unsendable(reason=f'unexpected {type(exc).__name__}'))
            else:
                messages += made
                sent.add(index, len(made))
        if not messages:
            return
        try:
            self._publisher.publish(messages, sent.settle, until=until)
        except Exception as exc:
            LOG.exception('Deliveries cannot be published')
            sent.fail(exceptions.BrokerUnavailable(reason=f'unexpected {type(exc).__name__}'))

    def take_token(self, host: str, token: str) -> bool:
        """Cast as :meth:`AgentAPI.take_token` does, but do not wait, and only log what fails.

        :raises InvalidHost: the host can have no queue
        """
        if not checks.is_host(host, self._longest_host):
            raise exceptions.InvalidHost(host=host)
        if not self._sends_tokens:
            return False

        def done(_index: int, error: exceptions.RouterError | None) -> None:
            if error is not None:
                LOG.debug('Host %s was not sent a token for its reports: %s', host, error)

        body = envelope.encode(envelope.Call('take_token', '1.2', {'token': token}, {}))
        message = publisher.Message(f'{self._topic}.{host}', body)
        self._publisher.publish([message], done, until=time.monotonic() + TOKEN_TIMEOUT)
        return True

    def _messages(self, cast: Cast, contexts: _Contexts) -> list[publisher.Message]:
        """:raises InvalidHost: the host can have no queue"""
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
    """Contexts as they go over the wire: most of some casts have the same."""

    def __init__(self) -> None:
        self._last: context.RequestContext | None = None
        self._wire: dict[str, Any] = {}

    def of(self, ctxt: context.RequestContext) -> dict[str, Any]:
        if ctxt is not self._last:
            self._last, self._wire = ctxt, context.on_the_wire(ctxt)
        return self._wire


class _Sent:
    """Casts on their way: each is done when its last message is, or with its first error.

    What each message and each cast comes to is told once, even if the publisher raises after
    it has told some, see ``settling``.
    """

    def __init__(self, casts: Sequence[Cast], done: Done) -> None:
        self._casts = casts
        # Number of a message to its cast, and for each cast the messages that are not done.
        self._indexes: list[int] = []
        self._left = [0] * len(casts)
        self._once: settling.Once[exceptions.RouterError] = settling.Once(len(casts), done)

    def add(self, index: int, messages: int) -> None:
        """Note the messages of a cast, before any is published."""
        self._indexes += [index] * messages
        self._left[index] = messages

    def refuse(self, index: int, error: exceptions.RouterError) -> None:
        """Tell that a cast has no messages."""
        self._once.settle(index, error)

    def settle(self, number: int, error: exceptions.RouterError | None) -> None:
        """Tell that a message is done; always called from the same thread, or before any other."""
        index = self._indexes[number]
        self._left[index] -= 1
        if error is not None or self._left[index] == 0:
            self._once.settle(index, _for_host(error, self._casts[index].host))

    def fail(self, error: exceptions.RouterError) -> None:
        """Tell that nothing more is known of the casts that were not told yet."""
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
