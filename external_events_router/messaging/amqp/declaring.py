"""Declarations of queues and bindings on a separate channel of a connection in use.

The broker closes a channel when it refuses one of its methods. So declarations do not share the channel
of the consumers: a refused queue does not affect other queues. The work for one queue is a
:data:`Procedure`, a generator of requests. Several procedures run at the same time, and no call waits for
the broker.
"""

from __future__ import annotations

import collections
from collections.abc import Callable
from collections.abc import Generator
import dataclasses
from typing import Any

from external_events_router import exceptions
from external_events_router.messaging.amqp import broker as brokers
from external_events_router.messaging.amqp import frames

#: Maximum number of unanswered requests. All of them are sent again after a refusal.
WINDOW = 64

#: Codes of AMQP 0-9-1.
ACCESS_REFUSED, NOT_FOUND, RESOURCE_LOCKED, PRECONDITION_FAILED, INTERNAL_ERROR = 403, 404, 405, 406, 541


class Refused(exceptions.RouterError):
    """The broker refused a request.

    :ivar code: reply code of AMQP
    :ivar text: explanation of the broker
    """

    template = 'the broker refused it: {text}'

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text=text)
        self.code = code
        self.text = text


@dataclasses.dataclass(frozen=True, slots=True)
class Request:
    """One method that the broker answers."""

    method: tuple[int, int]
    layout: str
    values: tuple[Any, ...]


#: Yields requests. Each yield returns after the answer, or raises :class:`Refused`.
Procedure = Generator[Request, None, str | None]

#: Receives the result of a procedure, or the reason why it has failed.
Done = Callable[[str | None, Refused | None], None]


def declare_queue(broker: brokers.Broker, name: str) -> Procedure:
    """Declare a queue and bind it to the exchange.

    A queue with other arguments is used as it is, because messages arrive nevertheless. A transient
    queue that should be durable was declared by an older release. It is replaced if it has no
    consumers and is empty.

    :returns: the broker's description of the difference, or None
    """
    difference = None
    try:
        yield _declare(broker, name)
    except Refused as refused:
        if refused.code != PRECONDITION_FAILED:
            raise
        difference = refused.text
        if is_transient(refused.text) and (yield from _replaced(broker, name)):
            difference = None
        else:
            yield Request(frames.QUEUE_DECLARE, 'BsbbbbbF', (0, name, True, False, False, False, False, {}))
    yield from bind_queue(broker, name)
    return difference


def _declare(broker: brokers.Broker, name: str) -> Request:
    flags = (False, broker.durable, False, broker.auto_delete, False)
    return Request(frames.QUEUE_DECLARE, 'BsbbbbbF', (0, name, *flags, dict(broker.queue_arguments)))


def _replaced(broker: brokers.Broker, name: str) -> Generator[Request, None, bool]:
    try:
        # NOTE: only if it is unused and empty. A transient queue is always a classic queue. With a quorum
        # queue, the broker would close the connection here.
        yield Request(frames.QUEUE_DELETE, 'Bsbbb', (0, name, True, True, False))
        yield _declare(broker, name)
    except Refused:
        return False
    return True


def bind_queue(broker: brokers.Broker, name: str) -> Procedure:
    """Bind a queue to the exchange, with its name as routing key; declare the exchange if it is missing."""
    bind = Request(frames.QUEUE_BIND, 'BsssbF', (0, name, broker.exchange, name, False, {}))
    try:
        yield bind
    except Refused as refused:
        if refused.code != NOT_FOUND or 'no exchange' not in refused.text:
            raise
        yield from declare_exchange(broker)
        yield bind
    return None


def declare_exchange(broker: brokers.Broker) -> Procedure:
    """Declare the exchange if it does not exist. An existing exchange may have any arguments."""
    values = (0, broker.exchange, 'topic')
    try:
        # NOTE: a passive declaration needs no permission.
        yield Request(frames.EXCHANGE_DECLARE, 'BssbbbbbF', (*values, True, False, False, False, False, {}))
    except Refused as refused:
        if refused.code != NOT_FOUND:
            raise
        flags = (False, broker.durable, broker.auto_delete, False, False)
        yield Request(frames.EXCHANGE_DECLARE, 'BssbbbbbF', (*values, *flags, {}))
    return None


def bind_exchange(broker: brokers.Broker, source: str, key: str) -> Procedure:
    """Forward messages of another exchange to the exchange; declare both if they are missing.

    :param source: name of the other exchange
    :param key: routing key of these messages
    """
    yield from declare_exchange(broker)
    yield from declare_exchange(dataclasses.replace(broker, exchange=source))
    yield Request(frames.EXCHANGE_BIND, 'BsssbF', (0, broker.exchange, source, key, False, {}))
    return None


def is_transient(text: str) -> bool:
    """Return whether the broker's explanation is that a queue is transient but should be durable."""
    return "inequivalent arg 'durable' for queue" in text and "current is 'false'" in text


def _opened(arrival: frames.Answered | frames.Declared) -> bool:
    return isinstance(arrival, frames.Answered) and arrival.method == frames.CHANNEL_OPEN_OK


@dataclasses.dataclass(slots=True)
class _Task:
    procedure: Procedure
    done: Done
    request: Request


class Declarer:
    """Runs procedures on a channel. Use it only on the thread of the connection."""

    def __init__(self, channel: int, write: Callable[[bytes], None]) -> None:
        """Open the channel.

        :param channel: its number, which must not be used elsewhere
        :param write: sends frames
        """
        self.channel = channel
        self._write = write
        self._waiting: collections.deque[_Task] = collections.deque()
        # In the order of their requests, which is also the order of the answers.
        self._sent: collections.deque[_Task] = collections.deque()
        write(frames.method(channel, frames.CHANNEL_OPEN, 's', ('',)))

    def run(self, procedure: Procedure, done: Done) -> None:
        """Start a procedure.

        :param done: called at its end. Also called if the broker has closed the connection because of this
            procedure, but not if the connection has ended for another reason
        """
        self._waiting.append(_Task(procedure, done, next(procedure)))
        self._send()

    def arrived(self, arrival: frames.Answered | frames.Declared | frames.Closed) -> None:
        """Handle a frame of this channel."""
        if isinstance(arrival, frames.Closed):
            self._closed(arrival)
        elif self._sent and not _opened(arrival):
            task = self._sent.popleft()
            self._advance(task, lambda: task.procedure.send(None))
        self._send()

    def lost(self, reason: str) -> None:
        """Handle the loss of the connection. If a declaration was the cause, its procedure ends."""
        # NOTE: this is the format of py-amqp: 'Queue.declare: (541) INTERNAL_ERROR - ...'.
        if self._sent and reason.startswith('Queue.'):
            self._sent.popleft().done(None, Refused(INTERNAL_ERROR, reason))
        self._sent.clear()
        self._waiting.clear()

    def _closed(self, arrival: frames.Closed) -> None:
        self._write(
            frames.method(self.channel, frames.CHANNEL_CLOSE_OK)
            + frames.method(self.channel, frames.CHANNEL_OPEN, 's', ('',))
        )
        unanswered, self._sent = self._sent, collections.deque()
        if unanswered:
            refused, task = Refused(arrival.code, arrival.text), unanswered.popleft()
            # NOTE: the broker has ignored requests after the refused one.
            self._waiting.extendleft(reversed(unanswered))
            self._advance(task, lambda: task.procedure.throw(refused))

    def _advance(self, task: _Task, step: Callable[[], Request]) -> None:
        try:
            task.request = step()
        except StopIteration as end:
            task.done(end.value, None)
        except Refused as refused:
            task.done(None, refused)
        else:
            self._waiting.appendleft(task)

    def _send(self) -> None:
        parts = []
        while self._waiting and len(self._sent) < WINDOW:
            task = self._waiting.popleft()
            request = task.request
            parts.append(frames.method(self.channel, request.method, request.layout, request.values))
            self._sent.append(task)
        if parts:
            self._write(b''.join(parts))
