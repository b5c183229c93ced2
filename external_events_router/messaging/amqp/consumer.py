"""Consumes: any number of queues on one connection, one thread, each message in its queue's order.

A queue is declared as oslo.messaging does it for a server of a topic, and a
message is acknowledged when it has been taken, before anything is done about it,
as there. What it is about is decided by who listens.

A queue that the broker refuses is tried again after a pause of its own; the
others are not affected (see ``declaring``). Exchange and bindings are declared
again from time to time, because an operator or a partition may remove them.
"""

from __future__ import annotations

import collections
from collections.abc import Callable
import dataclasses
import functools
import itertools
import math
import threading
import time
from typing import Protocol

from oslo_log import log

from external_events_router import exceptions
from external_events_router import rejected
from external_events_router.messaging.amqp import broker as brokers
from external_events_router.messaging.amqp import connection as links
from external_events_router.messaging.amqp import declaring
from external_events_router.messaging.amqp import envelope
from external_events_router.messaging.amqp import frames
from external_events_router.messaging.amqp import notices
from external_events_router.messaging.amqp import publisher

LOG = log.getLogger(__name__)

#: Messages that the broker sends ahead of their acknowledgement.
PREFETCH = 1000

#: Seconds in which exchange and bindings are declared again, a part of them every half second.
REBIND_INTERVAL = 20.0

#: Seconds before a refused queue is tried again: the first pause, the longest.
FIRST_PAUSE = 1.0
LONGEST_PAUSE = 30.0

Listener = Callable[[envelope.Call], None]


class Watcher(Protocol):
    """Is told whether messages can arrive from a queue. Called on the consumer's one thread."""

    def connected(self) -> None:
        """The broker sends from now on."""
        ...

    def disconnected(self, reason: str) -> None:
        """The connection or the queue is gone, or there could be none. May be told again."""
        ...


@dataclasses.dataclass(slots=True)
class _Queue:
    """A queue that is listened to.

    :ivar due: instant of ``time.monotonic()`` at which it is declared; None: that has begun
    :ivar channel: that it is consumed on, or is to be
    :ivar alone: on a channel of its own, because the broker refused its consumer before
    :ivar failures: since it was last consumed for a while
    :ivar since: the instant at which the broker began to send
    """

    listener: Listener
    listens: threading.Event
    watcher: Watcher | None = None
    due: float | None = 0.0
    channel: int | None = None
    alone: bool = False
    failures: int = 0
    since: float = 0.0


class Consumer:
    """Hands what comes into queues to their listeners. Thread-safe."""

    def __init__(self, broker: brokers.Broker, *, name: str) -> None:
        """:param name: of the connection, for the log and the broker's tools"""
        self._broker = broker
        self._link = links.Connection(broker, self, name=name)
        self._notices = notices.Notices(name, broker.virtual_host)
        # What follows is of the link's thread.
        # Channel to the tag up to which all is taken.
        self._taken: dict[int, int] = {}
        self._declarer: declaring.Declarer | None = None
        # Channel to the queues whose consumers the broker has not confirmed, in their order.
        self._unconfirmed: dict[int, collections.deque[str]] = {}
        # Numbers of channels for queues that are alone on one; those that are closed again.
        self._alone = itertools.count(1)
        self._free: list[int] = []
        self._next_due = math.inf
        self._round: list[str] = []
        self._share = 1
        self._round_at = self._rebind_at = 0.0
        # Guards the tables: queue to who listens; queues of others whose bindings are kept.
        self._lock = threading.Lock()
        self._queues: dict[str, _Queue] = {}
        self._bound: set[str] = set()
        self._cancelled: list[tuple[str, int | None, threading.Event]] = []
        self._news = False

    def start(self) -> None:
        """Connect, in the background."""
        self._link.start()

    def listen(self, queue: str, listener: Listener, *, watcher: Watcher | None = None) -> threading.Event:
        """Have what comes into a queue handed to a listener, from now on and after every reconnect.

        :param queue: its name, and the routing key of what goes there
        :param listener: called on the consumer's one thread, so it has to be quick
        :param watcher: likewise; is told whether messages can arrive
        :returns: is set once the broker sends
        """
        entry = _Queue(listener, threading.Event(), watcher)
        with self._lock:
            self._queues[queue] = entry
            self._news = True
        self._link.wake()
        return entry.listens

    def keep_bound(self, queue: str) -> None:
        """Keep the binding of a queue that somebody else declares and consumes.

        :param queue: its name, and the routing key of what goes there
        """
        with self._lock:
            self._bound.add(queue)

    def cancel(self, queue: str) -> threading.Event:
        """Take no more from a queue, which stays with what is in it.

        :returns: is set once its listener is called no more
        """
        cancelled = threading.Event()
        with self._lock:
            entry = self._queues.pop(queue, None)
            if entry is None:
                cancelled.set()
                return cancelled
            self._cancelled.append((queue, entry.channel, cancelled))
            self._news = True
        self._link.wake()
        return cancelled

    def stop(self, timeout: float) -> None:
        """Take no more from any queue.

        :param timeout: seconds
        """
        self._link.stop(timeout)

    def refusals(self) -> dict[str, str]:
        """Queues that the broker refuses at present, and why."""
        return self._notices.refused()

    def connected(self, link: links.Connection) -> None:
        """Begin anew on a new connection, on the link's thread."""
        publisher.declare_exchange(link, self._broker)
        link.channel.basic_qos(0, PREFETCH, False)
        self._taken.clear()
        self._unconfirmed.clear()
        # NOTE: the link's channel is the last that py-amqp has opened. It is not always the first one,
        # because the broker closes the channel on which an exchange is missed.
        self._alone, self._free = itertools.count(link.channel.channel_id + 1), []
        self._declarer = declaring.Declarer(next(self._alone), link.write)
        self._round, self._round_at = [], time.monotonic() + REBIND_INTERVAL
        with self._lock:
            self._news = True
            for entry in self._queues.values():
                entry.channel = None
                # NOTE: a refused queue keeps its pause.
                entry.due = entry.due or 0.0

    def arrived(self, arrival: frames.Arrival) -> None:
        """Take what came, on the link's thread."""
        if isinstance(arrival, frames.Delivered):
            self._taken[arrival.channel] = arrival.tag
            with self._lock:
                entry = self._queues.get(arrival.consumer)
            if arrival.too_large:
                problem = f'it is dropped, because it has {arrival.too_large} bytes'
                rejected.ALL.note('message', problem, arrival.consumer)
            elif entry is not None:
                _hand_over(entry.listener, arrival.body)
        elif isinstance(arrival, frames.Consuming):
            self._confirmed(arrival)
        elif isinstance(arrival, frames.Cancelled):
            self._lost_queue(arrival)
        elif (
            isinstance(arrival, frames.Answered | frames.Declared | frames.Closed)
            and self._declarer is not None
        ):
            if arrival.channel == self._declarer.channel:
                self._declarer.arrived(arrival)
            elif isinstance(arrival, frames.Closed):
                self._closed(arrival)

    def on_ready(self) -> None:
        """Acknowledge what was taken, and see to queues that came or went; on the link's thread."""
        if self._taken:
            self._link.write(b''.join(frames.acknowledge(*taken) for taken in self._taken.items()))
            self._taken.clear()
        now = time.monotonic()
        if self._news or now >= self._next_due:
            self._see_to_queues(now)
        if now >= self._rebind_at:
            self._rebind(now)

    def lost(self, reason: str) -> None:
        """Nothing is lost with a connection: what was not acknowledged comes again.

        But nothing arrives until the next connection, so the watchers are notified.
        """
        self._taken.clear()
        with self._lock:
            cancelled, self._cancelled = self._cancelled, []
            watchers = [entry.watcher for entry in self._queues.values() if entry.watcher is not None]
        for _name, _channel, ended in cancelled:
            ended.set()
        for watcher in watchers:
            try:
                watcher.disconnected(reason)
            except Exception:  # whose it is must not prevent the others
                LOG.exception('One that waits for messages could not be told that none can arrive')
        declarer, self._declarer = self._declarer, None
        if declarer is not None:
            declarer.lost(reason)

    def _see_to_queues(self, now: float) -> None:
        with self._lock:
            self._news, self._next_due = False, math.inf
            cancelled, self._cancelled = self._cancelled, []
            new = []
            for name, entry in self._queues.items():
                if entry.due is None:
                    continue
                if entry.due <= now:
                    new.append((name, entry))
                    entry.due = None
                else:
                    self._next_due = min(self._next_due, entry.due)
        try:
            for name, channel, _ended in cancelled:
                if channel is not None:
                    self._link.write(frames.cancel(channel, name))
                self._notices.settled(name)
        finally:
            # NOTE: an error ends the connection, and so these consumers.
            for _name, _channel, ended in cancelled:
                ended.set()
        declarer = self._declarer
        if declarer is not None:
            for name, entry in new:
                done = functools.partial(self._declared, name, entry)
                declarer.run(declaring.declare_queue(self._broker, name), done)

    def _declared(
        self, name: str, entry: _Queue, difference: str | None, refused: declaring.Refused | None
    ) -> None:
        if not self._is_current(name, entry):
            return
        if refused is not None:
            self._refused(name, entry, refused)
            return
        if difference is not None:
            self._notices.differs(name, difference)
        self._consume(name, entry)

    def _is_current(self, name: str, entry: _Queue) -> bool:
        with self._lock:
            return self._queues.get(name) is entry

    def _consume(self, name: str, entry: _Queue) -> None:
        if entry.alone:
            channel = self._free.pop() if self._free else next(self._alone)
            self._open(channel)
        else:
            channel = self._link.channel.channel_id
        with self._lock:
            entry.channel = channel
        self._unconfirmed.setdefault(channel, collections.deque()).append(name)
        self._link.write(frames.consume(channel, name))

    def _open(self, channel: int) -> None:
        self._link.write(
            frames.method(channel, frames.CHANNEL_OPEN, 's', ('',))
            + frames.method(channel, frames.QOS, 'lBb', (0, PREFETCH, False))
        )

    def _confirmed(self, arrival: frames.Consuming) -> None:
        unconfirmed = self._unconfirmed.get(arrival.channel)
        if unconfirmed and unconfirmed[0] == arrival.consumer:
            unconfirmed.popleft()
        with self._lock:
            entry = self._queues.get(arrival.consumer)
        if entry is not None:
            entry.since = time.monotonic()
            if entry.watcher is not None:
                entry.watcher.connected()
            entry.listens.set()
            self._notices.settled(arrival.consumer)

    def _lost_queue(self, arrival: frames.Cancelled) -> None:
        """The broker has ended a consumer: its queue was deleted, or its node is down."""
        with self._lock:
            entry = self._queues.get(arrival.consumer)
        if entry is None or entry.channel != arrival.channel:
            return
        pause = self._pause(entry) if entry.failures else 0.0
        entry.failures += 1
        self._notices.deleted(arrival.consumer)
        self._again(entry, pause, 'the queue is gone')

    def _closed(self, arrival: frames.Closed) -> None:
        """The broker has closed a channel of consumers: it refused one, and ended the others."""
        channel = arrival.channel
        self._taken.pop(channel, None)
        unconfirmed = self._unconfirmed.pop(channel, None)
        culprit = unconfirmed[0] if unconfirmed and arrival.method == frames.CONSUME else None
        self._link.write(frames.method(channel, frames.CHANNEL_CLOSE_OK))
        with self._lock:
            ended = [(name, entry) for name, entry in self._queues.items() if entry.channel == channel]
        if channel == self._link.channel.channel_id:
            self._open(channel)
        else:
            self._free.append(channel)
        for name, entry in ended:
            if name == culprit or entry.alone:
                entry.alone = True
                self._refused(name, entry, declaring.Refused(arrival.code, arrival.text))
            else:
                self._consume(name, entry)

    def _refused(self, name: str, entry: _Queue, refused: declaring.Refused) -> None:
        pause = self._pause(entry)
        entry.failures += 1
        self._notices.refuse(name, refused, pause)
        self._again(entry, pause, refused.text)

    def _pause(self, entry: _Queue) -> float:
        """Seconds until a queue is declared again, longer with each failure."""
        if entry.since and time.monotonic() - entry.since > LONGEST_PAUSE:
            entry.failures = 0
        entry.since = 0.0
        return min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(entry.failures, 10))

    def _again(self, entry: _Queue, pause: float, reason: str) -> None:
        if entry.watcher is not None:
            entry.watcher.disconnected(reason)
        with self._lock:
            entry.channel = None
            entry.due = time.monotonic() + pause
            self._next_due = min(self._next_due, entry.due)

    def _rebind(self, now: float) -> None:
        """Declare some bindings again, so that all are within the interval."""
        self._rebind_at = now + links.TURN
        self._notices.log()
        declarer = self._declarer
        if declarer is None:
            return
        if not self._round:
            if now < self._round_at:
                return
            self._round_at = now + REBIND_INTERVAL
            with self._lock:
                consumed = [name for name, entry in self._queues.items() if entry.channel is not None]
                self._round = [*self._bound, *consumed]
            self._share = math.ceil(len(self._round) * links.TURN / REBIND_INTERVAL)
            declarer.run(declaring.declare_exchange(self._broker), self._exchange_checked)
        for _ in range(min(self._share, len(self._round))):
            name = self._round.pop()
            declarer.run(declaring.bind_queue(self._broker, name), functools.partial(self._bound_again, name))

    def _exchange_checked(self, _result: str | None, refused: declaring.Refused | None) -> None:
        if refused is not None:
            self._notices.exchange(self._broker.exchange, refused)

    def _bound_again(self, name: str, _result: str | None, refused: declaring.Refused | None) -> None:
        if refused is None:
            return
        with self._lock:
            entry = self._queues.get(name)
        # NOTE: of a queue that is not there the broker tells its consumer, too.
        if entry is not None and refused.code != declaring.NOT_FOUND:
            self._notices.refuse(name, refused, REBIND_INTERVAL)


def _hand_over(listener: Listener, body: bytes) -> None:
    try:
        listener(envelope.decode(body))
    except exceptions.MalformedMessage as exc:
        rejected.ALL.note('message', 'it is dropped', str(exc))
    except Exception:  # the outermost frame of a message
        LOG.exception('A message could not be handed over')
