"""A connection to the broker that is made again whenever it is lost.

The purpose of a connection is its :class:`ConnectionHandler`: see ``publisher``, ``consumer`` and
``forwarding``. A ``loop.Loop`` drives it, alone or together with others. It is opened on a separate thread,
because a login blocks; after that only the thread of the loop uses it. No read or write blocks.
"""

from __future__ import annotations

import collections
from collections.abc import Iterator
import contextlib
import math
import select
import socket
import ssl
import threading
import time
from typing import Any
from typing import Protocol

import amqp
from oslo_log import log

from external_events_router import exceptions
from external_events_router.messaging.amqp import broker as brokers
from external_events_router.messaging.amqp import frames
from external_events_router.messaging.amqp import loop as loops
from external_events_router.messaging.amqp import py_amqp
from external_events_router.process import parts

LOG = log.getLogger(__name__)

#: Seconds between attempts to connect: the first, the longest.
FIRST_PAUSE = 0.1
LONGEST_PAUSE = 2.0

#: Seconds after which a connection counts as stable, and the pauses begin with the first again.
STABLE = 5.0

#: Number of losses in a minute with which a connection counts as flapping.
FLAPPING = 3

#: Maximum number of bytes in one read from a socket.
_READ = 64 * 1024

#: Number of heartbeat checks in one heartbeat interval.
_HEARTBEAT_RATE = 2

#: The socket cannot be read or written now.
_WAIT = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class ConnectionHandler(Protocol):
    """The purpose of a connection. Called on one thread at a time, and never during a call."""

    def connected(self, link: Connection) -> None:
        """Prepare a new connection; may block and raise as py-amqp does."""
        ...

    def arrived(self, arrival: frames.Arrival) -> None:
        """Process a frame or message; must not block."""
        ...

    def on_ready(self) -> None:
        """Write waiting data. Called after each arrival and :meth:`Connection.wake`, and at intervals.

        Must not block.

        :raises BrokerUnavailable: the connection is lost
        """
        ...

    def lost(self, reason: str) -> None:
        """Handle a lost connection, or a failed attempt to connect; must not block."""
        ...


class _Opening(threading.Thread):
    """Opens a connection once.

    :ivar connection: the connection of py-amqp, or None
    :ivar reason: the reason for a missing connection
    :ivar is_ended: whether both are final
    """

    def __init__(self, link: Connection, broker: brokers.Broker, role: ConnectionHandler, name: str) -> None:
        super().__init__(name=f'connect-{name}', daemon=True)
        self.connection: Any = None
        self.reason = ''
        self.is_ended = False
        self._link = link
        self._broker = broker
        self._role = role

    def run(self) -> None:
        try:
            self.connection = self._link.open(self._broker, self._role)
        except (exceptions.BrokerUnavailable, amqp.AMQPError, OSError) as exc:
            self.reason = _error_text(exc)
        except Exception as exc:  # the outermost frame of this thread
            LOG.exception('%s: unexpected error', self.name)
            self.reason = f'unexpected {type(exc).__name__}'
        finally:
            self.is_ended = True
            self._link.wake()


class Connection:
    """The connection.

    :ivar channel: py-amqp's channel; only the handler may call it, when it is connected
    :ivar blocked: why the broker blocks messages (its memory or disk is short); None if it does not
    """

    def __init__(
        self, broker: brokers.Broker, role: ConnectionHandler, *, name: str, loop: loops.Loop | None = None
    ) -> None:
        """:param name: the name of the connection, in the log and in the tools of the broker
        :param loop: drives the connection; None: a separate loop
        """
        self.channel: Any = None
        self.blocked: str | None = None
        self._broker = broker
        self._role = role
        self._name = name
        self.loop = loop or loops.Loop(name=name)
        self._stopping = threading.Event()
        self._started = False
        self._ended = threading.Event()
        # Attributes for the thread of the loop and for the thread that opens a connection.
        self._opening: _Opening | None = None
        self._connection: Any = None
        self._socket: Any = None
        self._descriptor: int | None = None
        self._reader = frames.Reader()
        self._buffer = bytearray(_READ)
        # Data that the socket has not taken yet, and since when it has taken none.
        self._unsent: collections.deque[memoryview] = collections.deque()
        self._unsent_since = 0.0
        # Instants of time.monotonic(): of the connection, the next heartbeat, the next attempt.
        self._connected_at: float | None = None
        self._next_heartbeat = math.inf
        self._next_attempt = 0.0
        self._pause = FIRST_PAUSE
        # The number of failures, and the reason of the last one.
        self._losses = 0
        self._lost_at: collections.deque[float] = collections.deque(maxlen=FLAPPING)
        self._last_loss: str | None = None

    def start(self) -> None:
        """Connect in the background."""
        parts.ALL.add(parts.Kind.CONNECTION, self, Connection.status)
        self._started = True
        self.loop.add(self)

    def status(self) -> parts.Status:
        """Return whether the connection is open, and since when; see ``process.parts``."""
        since = self._connected_at
        details: dict[str, Any] = {
            'connected': since is not None,
            'seconds': None if since is None else round(time.monotonic() - since, 1),
            'blocked': self.blocked,
            'lost': self._losses,
            'last_loss': self._last_loss,
        }
        details['flapping'] = flapping = self.is_flapping()
        details['hangs'] = hangs = self.loop.hangs()
        if hangs:
            return parts.Status(self._name, parts.State.FAILED, details)
        works = since is not None and self.blocked is None and not flapping
        return parts.Status(self._name, parts.State.OK if works else parts.State.DEGRADED, details)

    def is_flapping(self) -> bool:
        """Return whether the connection was lost :data:`FLAPPING` times in the last minute."""
        return len(self._lost_at) == FLAPPING and time.monotonic() - self._lost_at[0] < 60.0

    def is_connected_for(self, seconds: float) -> bool:
        """Return whether the connection has been open for some seconds."""
        since = self._connected_at
        return since is not None and time.monotonic() - since > seconds

    def wake(self) -> None:
        """Request a call of :meth:`ConnectionHandler.on_ready`."""
        self.loop.wake()

    def stop(self, timeout: float) -> None:
        """Disconnect; wait for it no longer than the timeout.

        :param timeout: seconds
        """
        self._stopping.set()
        self.wake()
        if self._started:
            self._ended.wait(timeout)
        parts.ALL.remove(self)

    def write(self, data: bytes) -> None:
        """Send frames; send the rest later if the socket is full. On the thread of the loop.

        :raises OSError: the connection is broken
        """
        if self._unsent:
            self._unsent.append(memoryview(data))
        else:
            sent = self._send(data)
            if sent < len(data):
                self._unsent.append(memoryview(data)[sent:])
                self._unsent_since = time.monotonic()
        py_amqp.count_sent(self._connection)

    @property
    def frame_max(self) -> int:
        """Bytes that a frame may have."""
        return int(self._connection.frame_max)

    def open(self, broker: brokers.Broker, role: ConnectionHandler) -> Any:
        """Open a connection of py-amqp, and have the handler prepare it; blocks. For :class:`_Opening`.

        :raises BrokerUnavailable: no node accepts it
        """
        connection = broker.connect(
            name=self._name, on_blocked=self._on_blocked, on_unblocked=self._on_unblocked
        )
        try:
            self._connection = connection
            self.channel = connection.channel()
            self._socket = py_amqp.socket_of(connection)
            self._unsent.clear()
            self._reader = frames.Reader()
            role.connected(self)
        except BaseException:
            self._connection = self.channel = self._socket = None
            with contextlib.suppress(amqp.AMQPError, OSError, ValueError):
                connection.collect()
            raise
        return connection

    # The following methods are called on the thread of the loop.

    def descriptor(self) -> int | None:
        """See ``loop.Member``."""
        return self._descriptor

    def wants_to_write(self) -> bool:
        """See ``loop.Member``."""
        return bool(self._unsent)

    def on_events(self, events: int) -> None:
        """See ``loop.Member``."""
        if self._descriptor is None:
            return
        with self._guarded():
            if events & select.POLLOUT:
                self._flush()
            if events & ~select.POLLOUT:
                self._read()

    def on_interval(self, now: float) -> bool:
        """See ``loop.Member``."""
        if self._opening is not None:
            if self._opening.is_ended:
                self._take(self._opening, now)
        elif self._descriptor is None and not self._stopping.is_set() and now >= self._next_attempt:
            self._begin_opening()
        if self._descriptor is not None:
            with self._guarded():
                self._serve(now)
        if (self._stopping.is_set() and self._descriptor is not None) or (
            self._stopping.is_set() and self._opening is None and not self._ended.is_set()
        ):
            self._end('stopped')
        return not self._ended.is_set()

    def _begin_opening(self) -> None:
        self._opening = _Opening(self, self._broker, self._role, self._name)
        try:
            self._opening.start()
        except RuntimeError as exc:
            self._opening.reason = str(exc)
            self._opening.is_ended = True

    def _take(self, opening: _Opening, now: float) -> None:
        """Take the result of an attempt to connect."""
        self._opening = None
        if opening.connection is None:
            self._end(opening.reason)
            return
        connection = opening.connection
        py_amqp.write_with(connection, self.write)
        self._socket.setblocking(False)
        self._descriptor = self._socket.fileno()
        self._connected_at = now
        every = connection.heartbeat / (2 * _HEARTBEAT_RATE)
        self._next_heartbeat = now + every if every else math.inf
        self._broker.availability.connected(self)
        # NOTE: what TLS has decrypted already is not seen by poll().
        if isinstance(self._socket, ssl.SSLSocket):
            with self._guarded():
                self._read()

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        """End the connection at any error within the block."""
        try:
            yield
        except (exceptions.BrokerUnavailable, amqp.AMQPError, OSError) as exc:
            self._end(_error_text(exc))
        except Exception as exc:  # one connection must not end the thread
            LOG.exception('%s: unexpected error', self._name)
            self._end(f'unexpected {type(exc).__name__}')

    def _serve(self, now: float) -> None:
        if self._unsent and now - self._unsent_since > brokers.IO_TIMEOUT:
            raise TimeoutError('the broker takes no data')
        self._role.on_ready()
        if now >= self._next_heartbeat:
            self._next_heartbeat = now + self._connection.heartbeat / (2 * _HEARTBEAT_RATE)
            self._connection.heartbeat_tick(rate=_HEARTBEAT_RATE)

    def _send(self, data: bytes | memoryview) -> int:
        try:
            return int(self._socket.send(data))
        except _WAIT:
            return 0

    def _flush(self) -> None:
        while self._unsent:
            data = self._unsent[0]
            sent = self._send(data)
            if sent:
                self._unsent_since = time.monotonic()
            if sent < len(data):
                # NOTE: with TLS, the same data have to be given again.
                self._unsent[0] = data[sent:]
                return
            self._unsent.popleft()

    def _read(self) -> None:
        while True:
            try:
                size = self._socket.recv_into(self._buffer)
            except _WAIT:
                return
            if not size:
                raise ConnectionResetError('the broker has closed the connection')
            for arrival in self._reader.feed(bytes(self._buffer[:size])):
                if isinstance(arrival, frames.Other):
                    kind, channel, payload = arrival.frame
                    # NOTE: a handler opens further channels, which py-amqp does not know.
                    if py_amqp.knows_channel(self._connection, channel):
                        py_amqp.handle_frame(self._connection, kind, channel, bytes(payload))
                else:
                    py_amqp.count_received(self._connection)
                    self._role.arrived(arrival)
            # NOTE: what TLS has decrypted already is not seen by poll().
            if not (isinstance(self._socket, ssl.SSLSocket) and self._socket.pending()):
                return

    def _on_blocked(self, reason: str) -> None:
        self._broker.availability.alarm.add(self, reason)
        self.blocked = reason

    def _on_unblocked(self) -> None:
        self._broker.availability.alarm.remove(self)
        self.blocked = None

    def _end(self, reason: str) -> None:
        """Handle the loss, the failed opening, or the stop of the connection."""
        now = time.monotonic()
        self._close()
        if self._connected_at is not None:
            self._lost_at.append(now)
        self._losses, self._last_loss = self._losses + 1, reason
        # NOTE: a broker that ends each new connection at once must not be called without a pause.
        if self._connected_at is not None and now - self._connected_at > STABLE:
            self._pause = FIRST_PAUSE
        self._connected_at = None
        self._next_attempt, self._pause = now + self._pause, min(self._pause * 2, LONGEST_PAUSE)
        stopped = self._stopping.is_set()
        if stopped:
            self._broker.availability.closed(self)
        else:
            self._broker.availability.lost(self, f'{self._name}: {reason}')
            LOG.debug('%s: no connection to the broker: %s', self._name, reason)
        self._report_lost(reason)
        if stopped:
            self._ended.set()

    def _close(self) -> None:
        connection, self._connection, self.channel, self.blocked = self._connection, None, None, None
        sock, self._socket, self._descriptor = self._socket, None, None
        if connection is None:
            return
        # NOTE: close() of py-amqp is not used, because it waits for the answer of the broker.
        if sock is not None:
            self._close_both(connection, sock)
        self._unsent.clear()
        # NOTE: ValueError is raised if TLS was ended before.
        with contextlib.suppress(amqp.AMQPError, OSError, ValueError):
            connection.collect()

    def _close_both(self, connection: Any, sock: Any) -> None:
        """Close the socket. At the end of the process, also inform the broker, which takes a moment."""
        with contextlib.suppress(amqp.AMQPError, OSError, ValueError):
            if not self._stopping.is_set():
                if isinstance(sock, ssl.SSLSocket):
                    # NOTE: collect() would wait for an answer of a broker that does not respond.
                    sock.close()
                return
            sock.settimeout(1.0)
            for data in self._unsent:
                sock.sendall(data)
            py_amqp.send_close(connection, sock)
            if not isinstance(sock, ssl.SSLSocket):
                sock.shutdown(socket.SHUT_WR)

    def _report_lost(self, reason: str) -> None:
        try:
            self._role.lost(reason)
        except Exception:  # one handler must not end the thread
            LOG.exception('%s: unexpected error', self._name)


def _error_text(exc: BaseException) -> str:
    if isinstance(exc, exceptions.BrokerUnavailable):
        return str(exc.kwargs['reason'])
    return str(exc) or type(exc).__name__
