"""Publishes: any number on their way at the same time, each with its own end.

A message is confirmed once it is in a queue; one that the broker has no queue
for comes back. Nothing is sent again here: who publishes decides.
"""

from __future__ import annotations

import collections
from collections.abc import Callable
from collections.abc import Sequence
import dataclasses
import itertools
import threading
import time

from amqp import exceptions as amqp_exceptions
from oslo_log import log

from external_events_router import exceptions
from external_events_router.amqp import broker as brokers
from external_events_router.amqp import frames
from external_events_router.amqp import link as links

LOG = log.getLogger(__name__)

#: Seconds for which the broker may leave a publish unconfirmed before the
#: connection counts as broken.
CONFIRM_TIMEOUT = 5.0

#: Of one message: its place among those given together, and why it is in no
#: queue, or None. ``Unroutable``, or ``BrokerUnavailable``, after which it may
#: be in one all the same.
Done = Callable[[int, exceptions.RouterError | None], None]


class Unroutable(exceptions.RouterError):
    """The broker has no queue for the message."""

    template = 'the broker has no queue for {routing_key}'


@dataclasses.dataclass(slots=True)
class Message:
    """What is published: to the exchange of the broker's description."""

    routing_key: str
    body: bytes


@dataclasses.dataclass(slots=True)
class _Batch:
    messages: Sequence[Message]
    done: Done
    until: float


@dataclasses.dataclass(slots=True)
class _Sent:
    """One message on its way; ``at``: an instant of ``time.monotonic()``."""

    routing_key: str
    done: Done
    index: int
    at: float
    returned: bool = False


class Publisher:
    """Publishes on a connection of its own. Thread-safe; no call waits."""

    def __init__(self, broker: brokers.Broker, *, name: str) -> None:
        """:param name: of the connection, for the log and the broker's tools"""
        self._broker = broker
        self._link = links.Link(broker, self, name=name)
        self._tags = itertools.count(1)
        # The link's thread's own.
        self._sent: collections.OrderedDict[int, _Sent] = collections.OrderedDict()
        # Guards what follows. _problem: why there is no connection, once that is known.
        self._lock = threading.Lock()
        self._queue: list[_Batch] = []
        self._problem: str | None = None

    def start(self) -> None:
        """Connect, in the background. Until it is known whether that works, what is published waits."""
        self._link.start()

    def publish(self, messages: Sequence[Message], done: Done, *, until: float) -> None:
        """Publish messages, in their order.

        :param done: called once for each, mostly from another thread; has to be quick
        :param until: an instant of ``time.monotonic()`` after which one that
            has not been sent yet is not sent any more
        """
        with self._lock:
            problem = self._problem or self._link.blocked
            if problem is None:
                first = not self._queue
                self._queue.append(_Batch(messages, done, until))
        if problem is not None:
            self._fail(range(len(messages)), done, problem)
        elif first:
            self._link.wake()

    def stop(self, timeout: float) -> None:
        """Disconnect; what is not confirmed by then is told so.

        :param timeout: seconds
        """
        self._link.stop(timeout)

    def connected(self, link: links.Link) -> None:
        """Take a new connection, on the link's thread."""
        declare_exchange(link, self._broker)
        link.channel.confirm_select()
        self._tags = itertools.count(1)
        with self._lock:
            self._problem = None

    def turn(self) -> None:
        """Send what there is, on the link's thread."""
        if self._sent:
            self._look_for_confirms()
        with self._lock:
            if not self._queue:
                return
            batches, self._queue = self._queue, []
        if self._link.blocked is not None:
            for batch in batches:
                self._fail(range(len(batch.messages)), batch.done, self._link.blocked)
            return
        self._send(batches)

    def _look_for_confirms(self) -> None:
        """Wait for none longer than its time.

        :raises BrokerUnavailable: though the broker is not in alarm
        """
        blocked, since = self._link.blocked, time.monotonic() - CONFIRM_TIMEOUT
        if blocked is None and next(iter(self._sent.values())).at < since:
            raise exceptions.BrokerUnavailable(reason='the broker confirms nothing')
        # NOTE: in an alarm it may have read a message or not, and confirms when that is
        # over, perhaps in an hour. Then nobody asks for it any more.
        while blocked is not None and self._sent and next(iter(self._sent.values())).at < since:
            _tag, sent = self._sent.popitem(last=False)
            self._fail([sent.index], sent.done, blocked)

    def arrived(self, arrival: frames.Arrival) -> None:
        """Take the broker's word on what was sent, on the link's thread."""
        if isinstance(arrival, frames.Confirmed):
            tags = [arrival.tag]
            if arrival.multiple:
                # NOTE: it covers all up to its own, of which some may have been told before.
                tags = list(itertools.takewhile(lambda tag: tag <= arrival.tag, self._sent))
            for tag in tags:
                if (sent := self._sent.pop(tag, None)) is not None:
                    self._settle(sent, ok=arrival.ok)
        elif isinstance(arrival, frames.Returned) and int(arrival.message_id) in self._sent:
            self._sent[int(arrival.message_id)].returned = True
        elif isinstance(arrival, frames.Closed):
            # NOTE: the exchange is missing, as a rule; it is declared with the next connection.
            raise ConnectionAbortedError(arrival.text)

    def lost(self, reason: str) -> None:
        """Whatever is on its way may be in a queue or not; the link's thread says so."""
        with self._lock:
            self._problem = reason
            batches, self._queue = self._queue, []
        sent, self._sent = self._sent, collections.OrderedDict()
        for each in sent.values():
            self._fail([each.index], each.done, reason)
        for batch in batches:
            self._fail(range(len(batch.messages)), batch.done, reason)

    def _send(self, batches: Sequence[_Batch]) -> None:
        now, parts, frame_max = time.monotonic(), [], self._link.frame_max
        for batch in batches:
            if now >= batch.until:
                self._fail(range(len(batch.messages)), batch.done, 'not sent in time')
                continue
            for index, message in enumerate(batch.messages):
                tag = next(self._tags)
                self._sent[tag] = _Sent(message.routing_key, batch.done, index, now)
                parts.append(
                    frames.publish(
                        self._link.channel.channel_id,
                        self._broker.exchange,
                        message.routing_key,
                        message.body,
                        str(tag),
                        frame_max=frame_max,
                    )
                )
        self._link.write(b''.join(parts))

    def _settle(self, sent: _Sent, *, ok: bool) -> None:
        if not ok:
            self._fail([sent.index], sent.done, 'the broker refused it')
        elif sent.returned:
            self._tell(sent.done, sent.index, Unroutable(routing_key=sent.routing_key))
        else:
            self._tell(sent.done, sent.index, None)

    def _fail(self, indexes: Sequence[int], done: Done, reason: str) -> None:
        for index in indexes:
            self._tell(done, index, exceptions.BrokerUnavailable(reason=reason))

    def _tell(self, done: Done, index: int, error: exceptions.RouterError | None) -> None:
        try:
            done(index, error)
        except Exception:  # whose it is must not end the others'
            LOG.exception('unexpected error after a publish')


def declare_exchange(link: links.Link, broker: brokers.Broker) -> None:
    """Have the exchange there, as oslo.messaging would declare it; on the link's thread.

    One that has other arguments is used as it is.

    :raises BrokerUnavailable: it is not there, and this user may not declare it
    """
    # NOTE: first a passive declaration, which needs no permission. A user with the
    # permission to declare an exchange may also delete it, so agents need not have it.
    try:
        link.channel.exchange_declare(broker.exchange, 'topic', passive=True)
    except amqp_exceptions.NotFound:
        link.channel = link.channel.connection.channel()
    else:
        return
    try:
        link.channel.exchange_declare(
            broker.exchange, 'topic', durable=broker.durable, auto_delete=broker.auto_delete
        )
    except amqp_exceptions.PreconditionFailed:
        # NOTE: another service has just declared it with other arguments.
        link.channel = link.channel.connection.channel()
    except amqp_exceptions.AccessRefused as exc:
        raise exceptions.BrokerUnavailable(
            reason=f'exchange {broker.exchange} does not exist, and this user may not declare it; '
            'start a resolver first'
        ) from exc
