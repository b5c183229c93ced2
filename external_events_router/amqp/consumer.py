"""Consuming: any number of queues on one connection, one thread, each message in its queue's order.

A queue is declared as oslo.messaging does it for a server of a topic, and a
message is acknowledged when it has been taken, before anything is done about it,
as there. What it is about is decided by who listens.
"""

from __future__ import annotations

from collections.abc import Callable
import dataclasses
import threading
from typing import Protocol

from oslo_log import log

from external_events_router import exceptions
from external_events_router.amqp import broker as brokers
from external_events_router.amqp import envelope
from external_events_router.amqp import frames
from external_events_router.amqp import link as links
from external_events_router.amqp import publisher

LOG = log.getLogger(__name__)

#: Messages that the broker sends ahead of their acknowledgement.
PREFETCH = 1000

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
    listener: Listener
    listens: threading.Event
    watcher: Watcher | None = None
    begun: bool = False


class Consumer:
    """Hands what comes into queues to their listeners. Thread-safe."""

    def __init__(self, broker: brokers.Broker, *, name: str) -> None:
        """:param name: of the connection, for the log and the broker's tools"""
        self._broker = broker
        self._link = links.Link(broker, self, name=name)
        # The tag up to which all is taken, of the link's thread.
        self._taken = 0
        # Guards the table: queue to who listens.
        self._lock = threading.Lock()
        self._queues: dict[str, _Queue] = {}
        self._cancelled: list[tuple[str, threading.Event]] = []
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
            self._cancelled.append((queue, cancelled))
            self._news = True
        self._link.wake()
        return cancelled

    def stop(self, timeout: float) -> None:
        """Take no more from any queue.

        :param timeout: seconds
        """
        self._link.stop(timeout)

    def connected(self, link: links.Link) -> None:
        """Begin anew on a new connection, on the link's thread."""
        publisher.declare_exchange(link, self._broker)
        link.channel.basic_qos(0, PREFETCH, False)
        self._taken = 0
        with self._lock:
            self._news = True
            for entry in self._queues.values():
                entry.begun = False

    def arrived(self, arrival: frames.Arrival) -> None:
        """Take a message, on the link's thread."""
        if isinstance(arrival, frames.Delivered):
            self._taken = arrival.tag
            with self._lock:
                entry = self._queues.get(arrival.consumer)
            if entry is not None:
                _hand_over(entry.listener, arrival.body)
        elif isinstance(arrival, frames.Consuming):
            with self._lock:
                entry = self._queues.get(arrival.consumer)
            if entry is not None:
                if entry.watcher is not None:
                    entry.watcher.connected()
                entry.listens.set()

    def turn(self) -> None:
        """Acknowledge what was taken, and see to queues that came or went; on the link's thread."""
        if self._taken:
            self._link.write(frames.acknowledge(self._link.channel.channel_id, self._taken))
            self._taken = 0
        if self._news:
            self._see_to_queues()

    def lost(self, reason: str) -> None:
        """Nothing is lost with a connection: what was not acknowledged comes again.

        But until there is another one nothing arrives, and who waits for it is told so.
        """
        self._taken = 0
        with self._lock:
            cancelled, self._cancelled = self._cancelled, []
            watchers = [entry.watcher for entry in self._queues.values() if entry.watcher is not None]
        for _name, ended in cancelled:
            ended.set()
        for watcher in watchers:
            watcher.disconnected(reason)

    def _see_to_queues(self) -> None:
        with self._lock:
            self._news = False
            cancelled, self._cancelled = self._cancelled, []
            new = [name for name, entry in self._queues.items() if not entry.begun]
            for name in new:
                self._queues[name].begun = True
        channel = self._link.channel
        for name, ended in cancelled:
            channel.basic_cancel(name, nowait=True)
            ended.set()
        for name in new:
            self._declare(name)

    def _declare(self, name: str) -> None:
        """Declare a queue and have the broker send; without a wait for any of it.

        What the broker does not like of it ends the channel, and the link.
        """
        broker, channel = self._broker, self._link.channel
        channel.queue_declare(
            name,
            durable=broker.durable,
            auto_delete=broker.auto_delete,
            arguments=dict(broker.queue_arguments) or None,
            nowait=True,
        )
        channel.queue_bind(name, broker.exchange, routing_key=name, nowait=True)
        # NOTE: py-amqp would wait for the answer, which says that the broker
        # sends from now on; it is seen in arrived().
        channel.send_method((60, 20), 'BssbbbbF', (0, name, name, False, False, False, False, {}))


def _hand_over(listener: Listener, body: bytes) -> None:
    try:
        listener(envelope.decode(body))
    except exceptions.MalformedMessage as exc:
        LOG.warning('A message is dropped: %s', exc)
    except Exception:  # the outermost frame of a message
        LOG.exception('A message could not be handed over')
