"""Access to internals of py-amqp, which has no interface for connections that do not block.

py-amqp opens a connection and handles rare frames. The socket is read and written by this package, so
these functions replace how py-amqp writes, pass frames to it, and update what it derives heartbeats
from. No other module uses internals of py-amqp. ``setup.cfg`` limits its version, and
``test_py_amqp`` fails if the internals change.
"""

from __future__ import annotations

from collections.abc import Callable
import socket
from typing import Any

#: Class and method of the frame that closes a connection, with the types of its values: reply code and
#: text, and the class and method that caused it.
_CLOSE = (10, 50)
_CLOSE_LAYOUT = 'BsBB'
_CLOSE_VALUES = (200, 'bye', 0, 0)


class _Pipe:
    """Takes the frames that py-amqp writes to a transport."""

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write = write

    def write(self, data: bytes | memoryview) -> None:
        # NOTE: py-amqp uses the buffer again.
        self._write(bytes(data))


def socket_of(connection: Any) -> socket.socket:
    """Return the socket of an open connection."""
    sock: socket.socket = connection.transport.sock
    return sock


def write_with(connection: Any, write: Callable[[bytes], object]) -> None:
    """Make py-amqp write its own frames with a function, such as the answer to the end of a connection."""
    connection.frame_writer = connection.frame_writer_cls(connection, _Pipe(write))


def knows_channel(connection: Any, channel: int) -> bool:
    """Return whether py-amqp has opened a channel; further ones can be opened without it."""
    return channel in connection.channels


def handle_frame(connection: Any, kind: int, channel: int, payload: bytes) -> None:
    """Pass a received frame to py-amqp.

    :raises AMQPError: the broker ends the connection or the channel
    """
    connection.on_inbound_frame((kind, channel, payload))


def count_sent(connection: Any) -> None:
    """Record that data were sent: no heartbeat is due."""
    connection.bytes_sent += 1


def count_received(connection: Any) -> None:
    """Record that data were received: the broker is alive."""
    connection.bytes_recv += 1


def send_close(connection: Any, sock: socket.socket) -> None:
    """Tell the broker that the connection ends, without waiting for its answer."""
    write_with(connection, sock.sendall)
    connection.send_method(_CLOSE, _CLOSE_LAYOUT, _CLOSE_VALUES)
