"""Publishes: any number on their way at the same time, each with its own end.

A message is confirmed once it is in a queue; one that the broker has no queue
for comes back. Nothing is sent again here: who publishes decides.

The result of each message is told exactly once, whatever raises. At each moment a message
that was not told yet is in exactly one place: in the queue, among those that are being
encoded, or among those that were sent. An exception ends the connection, and what is in any
of these places is told then.
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
from external_events_router import rejected
from external_events_router.messaging.amqp import broker as brokers
from external_events_router.messaging.amqp import connection as links
from external_events_router.messaging.amqp import frames

LOG = log.getLogger(__name__)

#: Seconds for which the broker may leave a publish unconfirmed before the
#: connection counts as broken.
CONFIRM_TIMEOUT = 5.0

#: Of one message: its place among those given together, and why it is in no
#: queue, or None. ``Unroutable``, ``Unsendable``, or ``BrokerUnavailable``, after
#: which it may be in one all the same.
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
    """Messages to be sent; ``next``: the place of the first that is not among those sent."""

    messages: Sequence[Message]
    done: Done
    until: float
    next: int = 0


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
        self._name = name
        self._link = links.Connection(broker, self, name=name)
        # The link's thread's own: the tag of the next publish, batches that are being
        # encoded, and what was sent.
        self._tag = 1
        self._taken: collections.deque[_Batch] = collections.deque()
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
            self._wake()

    def stop(self, timeout: float) -> None:
        """Disconnect; what is not confirmed by then is told so.

        :param timeout: seconds
        """
        self._link.stop(timeout)

    def connected(self, link: links.Connection) -> None:
        """Take a new connection, on the link's thread."""
        declare_exchange(link, self._broker)
        link.channel.confirm_select()
        self._tag = 1
        with self._lock:
            self._problem = None

    def on_ready(self) -> None:
        """Send what there is, on the link's thread."""
        if self._sent:
            self._look_for_confirms()
        with self._lock:
            if not self._queue:
                return
            self._taken += self._queue
            self._queue = []
        blocked = self._link.blocked
        if blocked is None:
            self._send()
        else:
            self._fail_taken(blocked)

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
            self._taken += self._queue
            self._queue = []
        while self._sent:
            _tag, each = self._sent.popitem(last=False)
            self._fail([each.index], each.done, reason)
        self._fail_taken(reason)

    def _wake(self) -> None:
        try:
            self._link.wake()
        except Exception:  # the message is in the queue, and sent with the next turn
            LOG.exception('%s: the thread of the connection cannot be woken', self._name)

    def _send(self) -> None:
        now, parts = time.monotonic(), list[bytes]()
        channel, frame_max = self._link.channel.channel_id, self._link.frame_max
        while self._taken:
            batch = self._taken[0]
            if now >= batch.until:
                self._taken.popleft()
                self._fail(range(len(batch.messages)), batch.done, 'not sent in time')
                continue
            while batch.next < len(batch.messages):
                index = batch.next
                message = batch.messages[index]
                try:
                    encoded = frames.publish(
                        channel,
                        self._broker.exchange,
                        message.routing_key,
                        message.body,
                        str(self._tag),
                        frame_max=frame_max,
                    )
                except Exception as exc:  # this message alone
                    batch.next += 1
                    self._refuse(batch.done, index, message, exc)
                    continue
                parts.append(encoded)
                self._sent[self._tag] = _Sent(message.routing_key, batch.done, index, now)
                self._tag += 1
                batch.next += 1
            self._taken.popleft()
        if parts:
            self._link.write(b''.join(parts))

    def _refuse(self, done: Done, index: int, message: Message, exc: Exception) -> None:
        reason = f'{type(exc).__name__}: {exc}'
        rejected.ALL.note('message to send', f'it is not sent, because of {reason}', message.routing_key)
        self._tell(done, index, exceptions.Unsendable(reason=reason))

    def _fail_taken(self, reason: str) -> None:
        while self._taken:
            batch = self._taken.popleft()
            self._fail(range(batch.next, len(batch.messages)), batch.done, reason)

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


def declare_exchange(link: links.Connection, broker: brokers.Broker) -> None:
    """Have the exchange there, as oslo.messaging would declare it; on the link's thread.

    One that has other arguments is used as it is.

    :raises BrokerUnavailable: it is not there, and this user may not declare it
    """
    # NOTE: first a passive declaration, which needs no permission. A user with the
    # permission to declare an exchange may also delete it, so agents need not have it.
    try:
        link.channel.exchange_declare(broker.exchange, 'topic', passive=True)
    except amqp_exceptions.NotFound:
        # NOTE: py-amqp opens the channel again, with its number. Another one would have the number that
        # the consumer gives to the channel of its declarations.
        pass
    else:
        return
    try:
        link.channel.exchange_declare(
            broker.exchange, 'topic', durable=broker.durable, auto_delete=broker.auto_delete
        )
    except amqp_exceptions.PreconditionFailed:
        # NOTE: another service has just declared it with other arguments; the channel is open again.
        pass
    except amqp_exceptions.AccessRefused as exc:
        raise exceptions.BrokerUnavailable(
            reason=f'exchange {broker.exchange} does not exist, and this user may not declare it; '
            'start a resolver first'
        ) from exc
