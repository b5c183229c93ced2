"""Casts to the agents of compute hosts. The server is ``agent.endpoint``.

Casts to many hosts are in flight at the same time, and several deliveries to a host go in one message.
"""

from __future__ import annotations

from collections.abc import Sequence
import dataclasses
import logging
import time
from typing import Any

from external_events_router import checks
from external_events_router import context
from external_events_router import events
from external_events_router import exceptions
from external_events_router.messaging import rpc
from external_events_router.messaging import transport as transports
from external_events_router.messaging.amqp import envelope

LOG = logging.getLogger(__name__)

#: Seconds for which a token may wait until it is sent to the broker.
TOKEN_TIMEOUT = 5.0


@dataclasses.dataclass(slots=True)
class Cast:
    """The content of one message to a host: deliveries in their order, each with its context.

    :ivar messages: set by :meth:`AgentAPI.cast`; None: not known
    """

    host: str
    deliveries: Sequence[tuple[context.RequestContext, events.Delivery]]
    messages: Sequence[transports.Message] | None = None

    @property
    def is_sent(self) -> bool:
        """Whether one of its messages was given to a connection, as far as is known."""
        return self.messages is None or any(message.is_sent for message in self.messages)


class AgentAPI:
    """Client of the agents.

    Version history:

    * 1.0: ``deliver``
    * 1.1: ``deliver_all``, several deliveries in one cast
    * 1.2: ``take_token``
    * 1.3: ``deliver`` and ``deliver_all`` contain the host, so that an agent does not handle the events of
      another host whose queue was bound to more routing keys
    """

    VERSION = '1.3'

    def __init__(
        self, transport: transports.Transport, *, topic: str, version_cap: str | None = None
    ) -> None:
        """:param version_cap: the highest version that the agents understand; None: the newest"""
        self._transport = transport
        self._topic = topic
        self._longest_host = checks.longest_host(topic)
        newest = version_cap or self.VERSION
        self._together = rpc.version_includes(newest, '1.1')
        self._sends_tokens = rpc.version_includes(newest, '1.2')
        self._names_host = rpc.version_includes(newest, '1.3')

    def cast(self, casts: Sequence[Cast], done: transports.Done, *, until: float) -> None:
        """Cast to many hosts at once, without waiting.

        :param done: called once for each cast, usually from another thread. None: the broker has put its
            messages into the queue of the host; the agent has not necessarily received them. Otherwise
            ``HostUnreachable`` (there is no queue), ``InvalidHost`` (the name is not valid),
            ``Unsendable`` or ``BrokerUnavailable``. It must not block
        :param until: instant of ``time.monotonic()`` after which nothing is sent
        """
        groups = transports.Groups(len(casts), lambda index, error: done(index, _for(casts[index], error)))
        contexts = _Contexts()
        for index, cast in enumerate(casts):
            try:
                groups.add(index, self._messages(cast, contexts))
            except exceptions.RouterError as exc:
                groups.settle(index, exc)
            except Exception as exc:  # a cast that cannot be encoded must not affect other casts
                LOG.exception('A delivery to host %s cannot be encoded', cast.host)
                groups.settle(index, exceptions.Unsendable(reason=f'unexpected {type(exc).__name__}'))
        groups.cast(self._transport, until=until)

    def take_token(self, host: str, token: str) -> bool:
        """Cast to a host the token that its reports have to contain. A failure is only logged.

        :returns: False: agents do not know this message yet, and it was not sent
        :raises InvalidHost: the host can have no queue
        """
        self._check(host)
        if not self._sends_tokens:
            return False

        def done(_index: int, error: exceptions.RouterError | None) -> None:
            if error is not None:
                LOG.debug('Could not send a token for reports to host %s: %s', host, error)

        message = transports.Message(
            self._topic, host, envelope.Call('take_token', '1.2', {'token': token}, {})
        )
        self._transport.cast([message], done, until=time.monotonic() + TOKEN_TIMEOUT)
        return True

    def _check(self, host: str) -> None:
        """:raises InvalidHost: the host can have no queue"""
        if not checks.is_host(host, self._longest_host):
            raise exceptions.InvalidHost(host=host)

    def _messages(self, cast: Cast, contexts: _Contexts) -> list[transports.Message]:
        """:raises InvalidHost: the host can have no queue"""
        self._check(cast.host)
        cast.messages = messages = [
            transports.Message(self._topic, cast.host, call) for call in self._calls(cast, contexts)
        ]
        return messages

    def _calls(self, cast: Cast, contexts: _Contexts) -> Sequence[envelope.Call]:
        host = {'host': cast.host} if self._names_host else {}
        if len(cast.deliveries) == 1 or not self._together:
            version = '1.3' if self._names_host else '1.0'
            return [
                envelope.Call('deliver', version, {**_arguments(delivery), **host}, contexts.of(ctxt))
                for ctxt, delivery in cast.deliveries
            ]
        arguments = {
            'deliveries': [
                {**_arguments(delivery), 'context': contexts.of(ctxt)} for ctxt, delivery in cast.deliveries
            ],
            **host,
        }
        version = '1.3' if self._names_host else '1.1'
        return [envelope.Call('deliver_all', version, arguments, contexts.of(cast.deliveries[0][0]))]


class _Contexts:
    """Caches the encoded form of the last context: most deliveries of a cast have the same context."""

    def __init__(self) -> None:
        self._last: context.RequestContext | None = None
        self._wire: dict[str, Any] = {}

    def of(self, ctxt: context.RequestContext) -> dict[str, Any]:
        if ctxt is not self._last:
            self._last, self._wire = ctxt, context.on_the_wire(ctxt)
        return self._wire


def _arguments(delivery: events.Delivery) -> dict[str, Any]:
    return {
        'delivery_id': delivery.id,
        'reply_to': delivery.reply_to,
        'deadline': delivery.deadline,
        'events': [event.to_dict() for event in delivery.events],
    }


def _for(cast: Cast, error: exceptions.RouterError | None) -> exceptions.RouterError | None:
    return exceptions.HostUnreachable(host=cast.host) if isinstance(error, transports.Unroutable) else error
