"""Consumes any number of queues with one connection and one thread, in the order of each queue.

A queue is declared as oslo.messaging declares it for a server of a topic. As in oslo.messaging, a
message is acknowledged when it was received, before it is processed, with one frame for all messages of one
read. The listener decides what to do with a message.

NOTE: the broker can treat messages as acknowledged when it sends them, which saves this frame. Then messages
that it has sent, but the socket has not received, are lost with the connection. The queue of acknowledgements
uses it: a worker that loses its connection abandons all waits, and its events are held and sent again. The
queues of hosts do not use it: their events would be held and sent again too, but only after the wait of their
batch. A later event of the same server, sent on the next connection before that, would overtake them.

A queue that the broker refuses is tried again after a pause. Other queues are not affected (see
``declaring``). Exchange and bindings are declared again regularly, because an operator or a network partition
may remove them.
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
from external_events_router.messaging.amqp import loop as loops
from external_events_router.messaging.amqp import notices
from external_events_router.messaging.amqp import publisher
from external_events_router.process import parts

LOG = log.getLogger(__name__)

#: Maximum number of unacknowledged messages that the broker sends.
PREFETCH = 1000

#: Seconds in which all bindings and the exchange are declared again, a part of them every half second.
REBIND_INTERVAL = 20.0

#: Seconds before a refused queue is tried again: the first and the longest pause.
FIRST_PAUSE = 1.0
LONGEST_PAUSE = 30.0

Listener = Callable[[envelope.Call], None]

#: Seconds after which a queue without a consumer is a fault, if the connection works.
CONSUME_TIME = 15.0


class Watcher(Protocol):
    """Is informed whether messages can arrive from a queue. Called on the thread of the consumer."""

    def connected(self) -> None:
        """Called when the broker starts to send messages."""
        ...

    def disconnected(self, reason: str) -> None:
        """Called when the connection or the queue is lost, or cannot be opened. May be called repeatedly."""
        ...


@dataclasses.dataclass(slots=True)
class _Queue:
    """A consumed queue.

    :ivar due: instant of ``time.monotonic()`` at which it is declared; None: the declaration has started
    :ivar channel: channel of its consumer
    :ivar automatic: the broker treats its messages as acknowledged when it sends them
    :ivar alone: on a separate channel, because the broker has refused its consumer before
    :ivar failures: number of failures since it was last consumed for some time
    :ivar since: instant at which the broker started to send
    :ivar missing_since: instant since which it has had no consumer; None: it has one
    """

    listener: Listener
    listens: threading.Event
    watcher: Watcher | None = None
    due: float | None = 0.0
    channel: int | None = None
    automatic: bool = False
    alone: bool = False
    failures: int = 0
    since: float = 0.0
    missing_since: float | None = dataclasses.field(default_factory=lambda: time.monotonic())


class Consumer:
    """Passes messages of queues to their listeners. Thread-safe."""

    def __init__(self, broker: brokers.Broker, *, name: str, loop: loops.Loop | None = None) -> None:
        """:param name: name of the connection, in the log and in the tools of the broker
        :param loop: drives the connection; None: a separate loop
        """
        self._broker = broker
        self._link = links.Connection(broker, self, name=name, loop=loop)
        self._notices = notices.Notices(name, broker.virtual_host)
        # The following attributes are used only on the thread of the connection.
        # For each channel, the tag up to which all messages were received.
        self._taken: dict[int, int] = {}
        # Queues without acknowledgements, including cancelled queues, whose messages may still arrive.
        self._automatic: set[str] = set()
        self._declarer: declaring.Declarer | None = None
        # For each channel, the queues whose consumers the broker has not confirmed yet, in their order.
        self._unconfirmed: dict[int, collections.deque[str]] = {}
        # Numbers of channels for queues that need a separate one; numbers of closed channels.
        self._alone = itertools.count(1)
        self._free: list[int] = []
        self._next_due = math.inf
        self._round: list[str] = []
        self._share = 1
        self._round_at = self._rebind_at = 0.0
        # Guards the tables: queue to its entry; queues of other consumers whose bindings are kept.
        self._lock = threading.Lock()
        self._queues: dict[str, _Queue] = {}
        self._bound: set[str] = set()
        self._cancelled: list[tuple[str, int | None, threading.Event]] = []
        self._news = False

    def start(self) -> None:
        """Connect in the background."""
        parts.ALL.add(parts.Kind.QUEUES, self, Consumer.status)
        self._link.start()

    def status(self) -> parts.Status:
        """Return whether the queues of this process have a consumer; see ``process.parts``."""
        now = time.monotonic()
        with self._lock:
            missing = {
                name: entry.missing_since
                for name, entry in self._queues.items()
                if entry.missing_since is not None
            }
            details = {
                'queues': len(self._queues),
                'without_consumer': len(missing),
                'missing': [*missing][:20],
            }
        # NOTE: without a connection no queue has a consumer; this is a fault of the connection.
        failed = self._link.is_connected_for(CONSUME_TIME) and any(
            now - since > CONSUME_TIME for since in missing.values()
        )
        return parts.Status('queues', parts.State.FAILED if failed else parts.State.OK, details)

    def listen(
        self, queue: str, listener: Listener, *, watcher: Watcher | None = None, automatic: bool = False
    ) -> threading.Event:
        """Pass the messages of a queue to a listener, from now on and after every reconnect.

        :param queue: its name, which is also the routing key of its messages
        :param listener: called on the thread of the consumer, so it must be fast
        :param watcher: is informed whether messages can arrive; called on the same thread
        :param automatic: the broker treats messages as acknowledged when it sends them; messages that are
            on their way when the connection is lost are lost
        :returns: set when the broker starts to send messages
        """
        entry = _Queue(listener, threading.Event(), watcher, automatic=automatic)
        with self._lock:
            self._queues[queue] = entry
            self._news = True
        self._link.wake()
        return entry.listens

    def keep_bound(self, queue: str) -> None:
        """Keep the binding of a queue that oslo.messaging declares and consumes.

        :param queue: its name, which is also the routing key of its messages
        """
        with self._lock:
            self._bound.add(queue)

    def cancel(self, queue: str) -> threading.Event:
        """Stop consuming a queue. The queue and its messages stay on the broker.

        :returns: set when its listener will not be called any longer
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
        """Stop consuming all queues, and disconnect.

        :param timeout: seconds
        """
        parts.ALL.remove(self)
        self._link.stop(timeout)

    def refusals(self) -> dict[str, str]:
        """Return the queues that the broker refuses now, and the reason."""
        return self._notices.refused()

    def connected(self, link: links.Connection) -> None:
        """Start again on a new connection, on the thread of the connection."""
        publisher.declare_exchange(link, self._broker)
        link.channel.basic_qos(0, PREFETCH, False)
        self._taken.clear()
        self._unconfirmed.clear()
        # NOTE: py-amqp has opened this channel last. It is not always the first channel,
        # because the broker closes the channel on which a missing exchange was declared.
        self._alone, self._free = itertools.count(link.channel.channel_id + 1), []
        self._declarer = declaring.Declarer(next(self._alone), link.write)
        self._round, self._round_at = [], time.monotonic() + REBIND_INTERVAL
        with self._lock:
            self._news = True
            for entry in self._queues.values():
                entry.channel = None
                entry.missing_since = time.monotonic()
                # NOTE: the pause of a refused queue continues.
                entry.due = entry.due or 0.0

    def arrived(self, arrival: frames.Arrival) -> None:
        """Handle a received frame, on the thread of the connection."""
        if isinstance(arrival, frames.Delivered):
            if arrival.consumer not in self._automatic:
                self._taken[arrival.channel] = arrival.tag
            with self._lock:
                entry = self._queues.get(arrival.consumer)
            if arrival.too_large:
                problem = f'it is dropped, because it has {arrival.too_large} bytes'
                rejected.ALL.note('message', problem, arrival.consumer)
            elif entry is not None:
                _pass_on(entry.listener, arrival.body)
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
        """Acknowledge messages, and handle added and removed queues; on the thread of the connection."""
        if self._taken:
            self._link.write(b''.join(frames.acknowledge(*taken) for taken in self._taken.items()))
            self._taken.clear()
        now = time.monotonic()
        if self._news or now >= self._next_due:
            self._see_to_queues(now)
        if now >= self._rebind_at:
            self._rebind(now)

    def lost(self, reason: str) -> None:
        """Handle the loss of the connection. No message is lost: unacknowledged messages arrive again.

        But no messages arrive until the next connection, so the watchers are informed.
        """
        self._taken.clear()
        with self._lock:
            for entry in self._queues.values():
                _miss(entry)
            cancelled, self._cancelled = self._cancelled, []
            watchers = [entry.watcher for entry in self._queues.values() if entry.watcher is not None]
        for _name, _channel, ended in cancelled:
            ended.set()
        for watcher in watchers:
            try:
                watcher.disconnected(reason)
            except Exception:  # continue with the other watchers
                LOG.exception('A watcher failed while handling a lost connection; continuing')
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
            # NOTE: an error ends the connection, and therefore these consumers.
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
            # NOTE: a queue that is cancelled from now on has its channel, and the consumer is ended after
            # this. One that was cancelled before has none, and must not be consumed.
            if self._queues.get(name) is not entry:
                if entry.alone:
                    self._free.append(channel)
                return
            entry.channel = channel
        self._unconfirmed.setdefault(channel, collections.deque()).append(name)
        if entry.automatic:
            self._automatic.add(name)
        else:
            self._automatic.discard(name)
        self._link.write(frames.consume(channel, name, automatic=entry.automatic))

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
                entry.missing_since = None
        if entry is not None:
            entry.since = time.monotonic()
            if entry.watcher is not None:
                entry.watcher.connected()
            entry.listens.set()
            self._notices.settled(arrival.consumer)

    def _lost_queue(self, arrival: frames.Cancelled) -> None:
        """Handle the end of a consumer: its queue was deleted, or the node of the queue is down."""
        with self._lock:
            entry = self._queues.get(arrival.consumer)
        if entry is None or entry.channel != arrival.channel:
            return
        pause = self._pause(entry) if entry.failures else 0.0
        entry.failures += 1
        self._notices.deleted(arrival.consumer)
        self._again(entry, pause, 'the queue was deleted or is unavailable')

    def _closed(self, arrival: frames.Closed) -> None:
        """Handle a closed channel: the broker has refused one consumer, and ended all on this channel."""
        channel = arrival.channel
        self._taken.pop(channel, None)
        unconfirmed = self._unconfirmed.pop(channel, None)
        refused = unconfirmed[0] if unconfirmed and arrival.method == frames.CONSUME else None
        self._link.write(frames.method(channel, frames.CHANNEL_CLOSE_OK))
        with self._lock:
            ended = [(name, entry) for name, entry in self._queues.items() if entry.channel == channel]
            for _name, entry in ended:
                _miss(entry)
        if channel == self._link.channel.channel_id:
            self._open(channel)
        else:
            self._free.append(channel)
        for name, entry in ended:
            if name == refused or entry.alone:
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
        """Return the seconds until a queue is declared again, which grow with each failure."""
        if entry.since and time.monotonic() - entry.since > LONGEST_PAUSE:
            entry.failures = 0
        entry.since = 0.0
        return min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(entry.failures, 10))

    def _again(self, entry: _Queue, pause: float, reason: str) -> None:
        if entry.watcher is not None:
            entry.watcher.disconnected(reason)
        with self._lock:
            _miss(entry)
            entry.channel = None
            entry.due = time.monotonic() + pause
            self._next_due = min(self._next_due, entry.due)

    def _rebind(self, now: float) -> None:
        """Declare some bindings again, so that all are declared in each interval."""
        self._rebind_at = now + loops.INTERVAL
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
            self._share = math.ceil(len(self._round) * loops.INTERVAL / REBIND_INTERVAL)
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
        # NOTE: the broker also informs the consumer of a queue that does not exist.
        if entry is not None and refused.code != declaring.NOT_FOUND:
            self._notices.refuse(name, refused, REBIND_INTERVAL)


def _miss(entry: _Queue) -> None:
    """Record that a queue has no consumer from now on, unless it had none already."""
    if entry.missing_since is None:
        entry.missing_since = time.monotonic()


def _pass_on(listener: Listener, body: bytes) -> None:
    try:
        listener(envelope.decode(body))
    except exceptions.MalformedMessage as exc:
        rejected.ALL.note('message', 'it is dropped', str(exc))
    except Exception:  # the outermost frame of a message
        LOG.exception('A listener failed with a message; the message is dropped')
