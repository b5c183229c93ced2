"""How many consumers queues have, asked for many queues together.

A queue whose consumers are gone shows that the process behind it has ended: the broker
drops the consumers of a connection as soon as this is closed. The questions are passive
declarations on a connection of their own, which changes nothing at the broker.
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

LOG = log.getLogger(__name__)

#: Questions that are on their way at the same time.
WINDOW = 100

#: Queues that are asked about in a second, at most: a part of what a broker answers.
RATE = 2500.0

#: Seconds after which a connection that was not used is not used again.
IDLE = 10.0

#: What one read takes from the socket at most.
_READ = 64 * 1024

#: The broker's reply codes for a queue that is not there, or not to be declared.
_NOT_FOUND = 'NOT_FOUND'
_REFUSED = 'ACCESS_REFUSED'


class Refused(exceptions.BrokerUnavailable):
    """The broker does not allow the question."""


class ConsumerCounts:
    """Asks for the numbers of consumers. For one thread."""

    def __init__(self, broker: brokers.Broker, *, name: str) -> None:
        """:param name: of the connection, in the broker's tools"""
        self._broker = broker
        self._name = name
        self._connection: Any = None
        self._channel: Any = None
        self._used = 0.0

    def count(self, queues: Sequence[str], *, timeout: float) -> Mapping[str, int | None]:
        """Ask for the number of consumers of each queue.

        :param timeout: seconds for all
        :returns: for each queue that was answered in time; None: there is no such queue
        :raises Refused: the broker does not allow to ask
        :raises BrokerUnavailable: it could not be asked
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
        """Disconnect if nothing was asked for a while."""
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
                    # NOTE: answers come in the order of the questions.
                    counts[left.pop(0)] = None
        return counts

    def _after_end(self, reason: str) -> None:
        """The broker has ended the channel: at a queue that is not there, and for good otherwise."""
        if reason.startswith(_REFUSED):
            raise Refused(reason=reason)
        if not reason.startswith(_NOT_FOUND):
            raise exceptions.BrokerUnavailable(reason=reason)
        self._channel = self._connection.channel()

    def _ask(self, queues: Sequence[str], deadline: float) -> Iterator[frames.Declared | frames.Closed]:
        """Send a question for each queue, and give what comes, up to the last answer or the channel's end."""
        sock = self._connection.transport.sock
        channel = self._channel.channel_id
        sock.settimeout(max(0.01, min(brokers.IO_TIMEOUT, deadline - time.monotonic())))
        sock.sendall(b''.join(frames.declare_passively(channel, queue) for queue in queues))
        self._connection.bytes_sent += 1
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
