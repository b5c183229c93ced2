"""Reads the number of consumers of many queues.

A queue without consumers shows that its process has ended, because the broker removes the consumers of
a closed connection. The queries are passive declarations on a separate connection, which change nothing
on the broker.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
import time
from typing import Any

import amqp
from oslo_log import log

from external_events_router import exceptions
from external_events_router.messaging.amqp import broker as brokers
from external_events_router.messaging.amqp import frames
from external_events_router.messaging.amqp import py_amqp

LOG = log.getLogger(__name__)

#: Maximum number of queries at the same time.
WINDOW = 100

#: Maximum number of queues per second, much lower than the capacity of a broker.
RATE = 2500.0

#: Seconds after which an unused connection is closed.
IDLE = 10.0

#: Maximum bytes of one read from the socket.
_READ = 64 * 1024

#: Reply codes of the broker for a queue that does not exist, or that this user may not declare.
_NOT_FOUND = 'NOT_FOUND'
_REFUSED = 'ACCESS_REFUSED'


class Refused(exceptions.BrokerUnavailable):
    """The broker does not permit the query."""


class ConsumerCounts:
    """Reads the number of consumers. Use it only on one thread."""

    def __init__(self, broker: brokers.Broker, *, name: str) -> None:
        """:param name: name of the connection in the tools of the broker"""
        self._broker = broker
        self._name = name
        self._connection: Any = None
        self._channel: Any = None
        self._used = 0.0

    def count(self, queues: Sequence[str], *, timeout: float) -> Mapping[str, int | None]:
        """Return the number of consumers of each queue.

        :param timeout: seconds for all queues
        :returns: the number for each queue that was answered in time; None: the queue does not exist
        :raises Refused: the broker does not permit the query
        :raises BrokerUnavailable: the broker is unavailable
        """
        deadline = time.monotonic() + timeout
        try:
            self._connect(timeout)
            counts: dict[str, int | None] = {}
            for start in range(0, len(queues), WINDOW):
                began = time.monotonic()
                if began >= deadline:
                    break
                window = queues[start : start + WINDOW]
                counts.update(self._count(window, deadline))
                if start + WINDOW < len(queues):
                    time.sleep(max(0.0, began + len(window) / RATE - time.monotonic()))
            self._used = time.monotonic()
            return counts
        except (amqp.AMQPError, OSError) as exc:
            self.close()
            raise exceptions.BrokerUnavailable(reason=str(exc) or type(exc).__name__) from exc
        except exceptions.BrokerUnavailable:
            self.close()
            raise

    def close_idle(self) -> None:
        """Disconnect if there was no query for some time."""
        if self._connection is not None and time.monotonic() - self._used > IDLE:
            self.close()

    def close(self) -> None:
        """Disconnect."""
        connection, self._connection, self._channel = self._connection, None, None
        if connection is not None:
            with contextlib.suppress(amqp.AMQPError, OSError):
                connection.collect()

    def _connect(self, timeout: float) -> None:
        self.close_idle()
        if self._connection is None:
            self._connection = self._broker.connect(name=self._name, timeout=timeout)
            self._channel = self._connection.channel()

    def _count(self, queues: Sequence[str], deadline: float) -> Mapping[str, int | None]:
        counts: dict[str, int | None] = {}
        left = list(queues)
        while left:
            ended = None
            for arrival in self._ask(left, deadline):
                if isinstance(arrival, frames.Declared):
                    counts[arrival.queue] = arrival.consumers
                else:
                    ended = arrival.text
            left = [queue for queue in left if queue not in counts]
            if ended is not None:
                self._after_end(ended)
                if left:
                    # NOTE: answers have the order of the queries.
                    counts[left.pop(0)] = None
        return counts

    def _after_end(self, reason: str) -> None:
        """Open the channel again if a queue did not exist; raise an exception if it was closed otherwise."""
        if reason.startswith(_REFUSED):
            raise Refused(reason=reason)
        if not reason.startswith(_NOT_FOUND):
            raise exceptions.BrokerUnavailable(reason=reason)
        self._channel = self._connection.channel()

    def _ask(self, queues: Sequence[str], deadline: float) -> Iterator[frames.Declared | frames.Closed]:
        """Send a query for each queue, and yield frames until the last answer or the end of the channel."""
        sock = py_amqp.socket_of(self._connection)
        channel = self._channel.channel_id
        sock.settimeout(max(0.01, min(brokers.IO_TIMEOUT, deadline - time.monotonic())))
        sock.sendall(b''.join(frames.declare_passively(channel, queue) for queue in queues))
        py_amqp.count_sent(self._connection)
        reader, missing = frames.Reader(), len(queues)
        while missing:
            data = sock.recv(_READ)
            if not data:
                raise ConnectionResetError('the broker has closed the connection')
            for arrival in reader.feed(data):
                if isinstance(arrival, frames.Declared):
                    missing -= 1
                    yield arrival
                elif isinstance(arrival, frames.Closed):
                    sock.sendall(frames.channel_close_ok(channel))
                    yield arrival
                    return
                elif (
                    isinstance(arrival, frames.Other)
                    and arrival.frame[0] == frames.METHOD
                    and not arrival.frame[1]
                ):
                    raise ConnectionAbortedError('the broker ends the connection')
