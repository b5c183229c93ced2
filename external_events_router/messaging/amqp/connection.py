"""A connection to the broker that a separate thread opens again after each failure.

Only this thread uses the connection. A :class:`ConnectionHandler` defines its purpose: see ``publisher`` and
``consumer``. Other threads pass work to the handler, and call :meth:`Connection.wake`.
"""

from __future__ import annotations

import collections
import contextlib
import os
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
from external_events_router.process import essential
from external_events_router.process import parts

LOG = log.getLogger(__name__)

#: Seconds between attempts to connect: the first and the longest pause.
FIRST_PAUSE = 0.1
LONGEST_PAUSE = 2.0

#: Seconds after which a connection counts as stable, so that the pauses start with the first again.
STABLE = 5.0

#: Number of losses in a minute with which a connection counts as flapping.
FLAPPING = 3

#: Maximum seconds until the thread calls its handler, even if nothing has happened.
TURN = 0.5

#: Maximum bytes of one read from the socket.
_READ = 64 * 1024

#: Number of checks per heartbeat interval.
_HEARTBEAT_RATE = 2


class ConnectionHandler(Protocol):
    """The purpose of a connection. Its methods are called only on the thread of the connection."""

    def connected(self, link: Connection) -> None:
        """Declare and start on a new connection. May raise exceptions of py-amqp."""
        ...

    def arrived(self, arrival: frames.Arrival) -> None:
        """Handle a received frame."""
        ...

    def on_ready(self) -> None:
        """Write waiting data; called after received frames, after a wake-up, and regularly.

        :raises BrokerUnavailable: the connection cannot be used any longer
        """
        ...

    def lost(self, reason: str) -> None:
        """Handle the loss of the connection, or a failed attempt to connect."""
        ...


class Connection:
    """The connection and its thread.

    :ivar channel: channel of py-amqp, for the thread of the connection
    :ivar blocked: reason of the broker while it accepts no messages (low memory or disk space); else None
    """

    def __init__(self, broker: brokers.Broker, role: ConnectionHandler, *, name: str) -> None:
        """:param name: name of the thread, and of the connection in the tools of the broker"""
        self.channel: Any = None
        self.blocked: str | None = None
        self._broker = broker
        self._role = role
        self._name = name
        self._connection: Any = None
        self._socket: Any = None
        # The same socket for the many small reads and writes. It never blocks, so it needs one system call
        # instead of two. None with TLS, which has a state.
        self._plain: socket.socket | None = None
        self._buffer = bytearray(_READ)
        self._wakes = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._stopping = threading.Event()
        # The instant of time.monotonic() at which the present connection was opened.
        self._connected_at: float | None = None
        # The number of failures, and the reason of the last one.
        self._losses = 0
        self._lost_at: collections.deque[float] = collections.deque(maxlen=FLAPPING)
        self._last_loss: str | None = None
        self._thread = essential.EssentialThread(self._run, name=name, is_stopped=self._stopping.is_set)

    def start(self) -> None:
        """Connect in the background."""
        parts.ALL.add(parts.Kind.CONNECTION, self, Connection.status)
        self._thread.start()

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
        """Make the thread call its handler."""
        os.eventfd_write(self._wakes, 1)

    def stop(self, timeout: float) -> None:
        """Disconnect, and wait for it until the timeout.

        :param timeout: seconds
        """
        self._stopping.set()
        self.wake()
        if self._thread.is_alive():
            self._thread.join(timeout)
        parts.ALL.remove(self)

    def write(self, data: bytes) -> None:
        """Send frames; call it on the thread of the connection.

        :raises OSError: the connection is broken, or the broker does not read
        """
        sent = 0
        if self._plain is not None:
            with contextlib.suppress(BlockingIOError):
                sent = self._plain.send(data)
        if sent < len(data):
            self._socket.sendall(data[sent:])
        # NOTE: py-amqp uses this counter to decide whether a heartbeat is due.
        self._connection.bytes_sent += 1

    @property
    def frame_max(self) -> int:
        """The maximum bytes of a frame."""
        return int(self._connection.frame_max)

    def _run(self) -> None:
        pause = FIRST_PAUSE
        while not self._stopping.is_set():
            try:
                self._connect()
                self._connected_at = time.monotonic()
                self._broker.availability.connected(self)
                self._serve()
            except (exceptions.BrokerUnavailable, amqp.AMQPError, OSError) as exc:
                reason = exc.kwargs['reason'] if isinstance(exc, exceptions.BrokerUnavailable) else _said(exc)
            except Exception as exc:  # the outermost loop of the thread
                LOG.exception('%s: unexpected error; connecting again', self._name)
                reason = f'unexpected {type(exc).__name__}'
            else:
                reason = 'stopped'
            self._close()
            if self._connected_at is not None:
                self._lost_at.append(time.monotonic())
            self._losses, self._last_loss = self._losses + 1, reason
            # NOTE: a broker that closes each new connection immediately must not be called without a pause.
            if self._was_stable():
                pause = FIRST_PAUSE
            self._connected_at = None
            self._report_lost(reason)
            self._tell_lost(reason)
            self._stopping.wait(pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    def _was_stable(self) -> bool:
        return self._connected_at is not None and time.monotonic() - self._connected_at > STABLE

    def _report_lost(self, reason: str) -> None:
        if self._stopping.is_set():
            self._broker.availability.closed(self)
            return
        self._broker.availability.lost(self, f'{self._name}: {reason}')
        LOG.debug('%s: no connection to the broker: %s; connecting again', self._name, reason)

    def _connect(self) -> None:
        self._connection = self._broker.connect(
            name=self._name, on_blocked=self._on_blocked, on_unblocked=self._on_unblocked
        )
        self.channel = self._connection.channel()
        self._socket = self._connection.transport.sock
        if not isinstance(self._socket, ssl.SSLSocket):
            self._plain = socket.socket(fileno=os.dup(self._socket.fileno()))
            self._plain.setblocking(False)
        self._role.connected(self)

    def _serve(self) -> None:
        reader = frames.Reader()
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        poll.register(self._wakes, select.POLLIN)
        heartbeat_every = (
            self._connection.heartbeat / (2 * _HEARTBEAT_RATE) if self._connection.heartbeat else 0
        )
        next_heartbeat = time.monotonic() + heartbeat_every
        self._role.on_ready()
        while not self._stopping.is_set():
            for fd, _events in poll.poll(TURN * 1000):
                if fd == self._wakes:
                    os.eventfd_read(self._wakes)
                else:
                    self._read(reader)
            self._role.on_ready()
            if heartbeat_every and time.monotonic() >= next_heartbeat:
                next_heartbeat = time.monotonic() + heartbeat_every
                self._connection.heartbeat_tick(rate=_HEARTBEAT_RATE)

    def _read(self, reader: frames.Reader) -> None:
        while True:
            try:
                size = (self._plain or self._socket).recv_into(self._buffer)
            except BlockingIOError:
                return
            if not size:
                raise ConnectionResetError('the broker has closed the connection')
            for arrival in reader.feed(bytes(self._buffer[:size])):
                if isinstance(arrival, frames.Other):
                    kind, channel, payload = arrival.frame
                    # NOTE: a handler opens further channels, which py-amqp does not know.
                    if channel in self._connection.channels:
                        self._connection.on_inbound_frame((kind, channel, bytes(payload)))
                else:
                    self._connection.bytes_recv += 1
                    self._role.arrived(arrival)
            # NOTE: poll() does not detect data that TLS has already decrypted.
            if not (hasattr(self._socket, 'pending') and self._socket.pending()):
                return

    def _on_blocked(self, reason: str) -> None:
        self._broker.availability.alarm.add(self, reason)
        self.blocked = reason

    def _on_unblocked(self) -> None:
        self._broker.availability.alarm.remove(self)
        self.blocked = None

    def _close(self) -> None:
        connection, self._connection, self.channel, self.blocked = self._connection, None, None, None
        if connection is None:
            return
        # NOTE: its method close() would wait for an answer of the broker.
        sock, self._socket = self._socket, None
        plain, self._plain = self._plain, None
        if plain is not None:
            plain.close()
        if sock is not None:
            self._say_goodbye(connection, sock)
        # NOTE: ValueError is raised if TLS was ended before.
        with contextlib.suppress(amqp.AMQPError, OSError, ValueError):
            connection.collect()

    def _say_goodbye(self, connection: Any, sock: Any) -> None:
        with contextlib.suppress(amqp.AMQPError, OSError, ValueError):
            if not self._stopping.is_set():
                if isinstance(sock, ssl.SSLSocket):
                    # NOTE: collect() would wait for an answer of a broker that does not respond.
                    sock.close()
                return
            sock.settimeout(1.0)
            connection.send_method((10, 50), 'BsBB', (200, 'bye', 0, 0))
            if not isinstance(sock, ssl.SSLSocket):
                sock.shutdown(socket.SHUT_WR)

    def _tell_lost(self, reason: str) -> None:
        try:
            self._role.lost(reason)
        except Exception:  # the outermost loop of the thread
            LOG.exception('%s: unexpected error while handling a lost connection', self._name)


def _said(exc: BaseException) -> str:
    return str(exc) or type(exc).__name__
