"""Publishes messages, any number at the same time, and reports the result of each message.

The broker confirms a message when it is in a queue, and returns a message for which it has no queue. This
module does not send a message again: the caller decides.

The result of each message is reported exactly once, whatever exceptions occur. A message without a
reported result is always in exactly one place: in the queue, among the messages that are being encoded,
or among the sent messages. An exception ends the connection, and then the results of all messages in
these places are reported.
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
from external_events_router.messaging.amqp import loop as loops

LOG = log.getLogger(__name__)

#: Maximum seconds until the broker confirms a publish. After it the connection counts as broken.
CONFIRM_TIMEOUT = 5.0

#: Receives the result of one message: its index in the argument, and the error, or None. The error is
#: ``Unroutable``, ``Unsendable`` or ``BrokerUnavailable``. After the last one, the message may
#: nevertheless be in a queue.
Done = Callable[[int, exceptions.RouterError | None], None]


class Unroutable(exceptions.RouterError):
    """The broker has no queue for the message."""

    template = 'the broker has no queue for {routing_key}'


@dataclasses.dataclass(slots=True)
class Message:
    """A message to the exchange of the broker's description.

    :ivar is_sent: whether it was given to a connection; then the broker may have it
    """

    routing_key: str
    body: bytes
    is_sent: bool = False


@dataclasses.dataclass(slots=True)
class _Batch:
    """Messages to be sent. ``next``: index of the first unsent message."""

    messages: Sequence[Message]
    done: Done
    until: float
    next: int = 0


@dataclasses.dataclass(slots=True)
class _Sent:
    """One message in flight. ``at``: an instant of ``time.monotonic()``."""

    routing_key: str
    done: Done
    index: int
    at: float
    returned: bool = False


class Publisher:
    """Publishes on a separate connection. Thread-safe; no call waits."""

    def __init__(self, broker: brokers.Broker, *, name: str, loop: loops.Loop | None = None) -> None:
        """:param name: name of the connection, in the log and in the tools of the broker
        :param loop: drives the connection; None: a separate loop
        """
        self._broker = broker
        self._name = name
        self._link = links.Connection(broker, self, name=name, loop=loop)
        # Used only on the thread of the connection: tag of the next publish, batches that are being encoded,
        # and sent messages.
        self._tag = 1
        self._taken: collections.deque[_Batch] = collections.deque()
        self._sent: collections.OrderedDict[int, _Sent] = collections.OrderedDict()
        # Guards the attributes below. _problem: why there is no connection, if this is known.
        self._lock = threading.Lock()
        self._queue: list[_Batch] = []
        self._problem: str | None = None

    def start(self) -> None:
        """Connect in the background. Messages wait until the first attempt has succeeded or failed."""
        self._link.start()

    def publish(self, messages: Sequence[Message], done: Done, *, until: float) -> None:
        """Publish messages in their order.

        :param done: called once for each message, usually from another thread; must be fast
        :param until: an instant of ``time.monotonic()``; after it, unsent messages are not sent
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
        """Disconnect. Unconfirmed messages are reported as failed.

        :param timeout: seconds
        """
        self._link.stop(timeout)

    def connected(self, link: links.Connection) -> None:
        """Start on a new connection, on the thread of the connection."""
        declare_exchange(link, self._broker)
        link.channel.confirm_select()
        self._tag = 1
        with self._lock:
            self._problem = None

    def on_ready(self) -> None:
        """Send waiting messages, on the thread of the connection."""
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
        """Check the time of the oldest unconfirmed message.

        :raises BrokerUnavailable: the broker has not confirmed it in time, although it is not in alarm
        """
        blocked, since = self._link.blocked, time.monotonic() - CONFIRM_TIMEOUT
        if blocked is None and next(iter(self._sent.values())).at < since:
            raise exceptions.BrokerUnavailable(reason='the broker confirms nothing')
        # NOTE: a broker in alarm may have read a message or not. It confirms the message after the alarm,
        # perhaps in an hour, when no caller waits for it any longer.
        while blocked is not None and self._sent and next(iter(self._sent.values())).at < since:
            _tag, sent = self._sent.popitem(last=False)
            self._fail([sent.index], sent.done, blocked)

    def arrived(self, arrival: frames.Arrival) -> None:
        """Handle the answers of the broker to sent messages, on the thread of the connection."""
        if isinstance(arrival, frames.Confirmed):
            tags = [arrival.tag]
            if arrival.multiple:
                # NOTE: it covers all tags up to its own; some of them may have been reported before.
                tags = list(itertools.takewhile(lambda tag: tag <= arrival.tag, self._sent))
            for tag in tags:
                if (sent := self._sent.pop(tag, None)) is not None:
                    self._settle(sent, ok=arrival.ok)
        elif isinstance(arrival, frames.Returned) and int(arrival.message_id) in self._sent:
            self._sent[int(arrival.message_id)].returned = True
        elif isinstance(arrival, frames.Closed):
            # NOTE: usually the exchange is missing; it is declared with the next connection.
            raise ConnectionAbortedError(arrival.text)

    def lost(self, reason: str) -> None:
        """Report all messages in flight as failed; they may be in a queue or not."""
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
        except Exception:  # the message is in the queue, and is sent at the next regular check
            LOG.exception(
                '%s: could not wake the thread of the connection; sending a little later', self._name
            )

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
                except Exception as exc:  # only this message
                    batch.next += 1
                    self._refuse(batch.done, index, message, exc)
                    continue
                parts.append(encoded)
                message.is_sent = True
                self._sent[self._tag] = _Sent(message.routing_key, batch.done, index, now)
                self._tag += 1
                batch.next += 1
            self._taken.popleft()
        if parts:
            self._link.write(b''.join(parts))

    def _refuse(self, done: Done, index: int, message: Message, exc: Exception) -> None:
        reason = f'{type(exc).__name__}: {exc}'
        rejected.ALL.note('message to send', f'it is not sent, because of {reason}', message.routing_key)
        self._report(done, index, exceptions.Unsendable(reason=reason))

    def _fail_taken(self, reason: str) -> None:
        while self._taken:
            batch = self._taken.popleft()
            self._fail(range(batch.next, len(batch.messages)), batch.done, reason)

    def _settle(self, sent: _Sent, *, ok: bool) -> None:
        if not ok:
            self._fail([sent.index], sent.done, 'the broker refused it')
        elif sent.returned:
            self._report(sent.done, sent.index, Unroutable(routing_key=sent.routing_key))
        else:
            self._report(sent.done, sent.index, None)

    def _fail(self, indexes: Sequence[int], done: Done, reason: str) -> None:
        for index in indexes:
            self._report(done, index, exceptions.BrokerUnavailable(reason=reason))

    def _report(self, done: Done, index: int, error: exceptions.RouterError | None) -> None:
        try:
            done(index, error)
        except Exception:  # continue with the other messages
            LOG.exception('A callback failed after a publish; continuing with other messages')


def declare_exchange(link: links.Connection, broker: brokers.Broker) -> None:
    """Declare the exchange as oslo.messaging would, if it does not exist; on the thread of the connection.

    An existing exchange with other arguments is used as it is.

    :raises BrokerUnavailable: it does not exist, and this user may not declare it
    """
    # NOTE: first a passive declaration, which needs no permission. A user who may declare an exchange may
    # also delete it, so agents should not have this permission.
    try:
        link.channel.exchange_declare(broker.exchange, 'topic', passive=True)
    except amqp_exceptions.NotFound:
        # NOTE: py-amqp opens the channel again with the same number. With a new channel, its number would be
        # the number that the consumer uses for declarations.
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
