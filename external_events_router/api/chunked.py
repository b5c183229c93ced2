"""Chunked bodies, on a server that hides errors in them (granian).

If the body is read in parts, granian treats a malformed or missing chunk as the last chunk. If the
body is read in one call, granian returns an empty body for such a body, but this call uses an
unlimited amount of memory. So during the call a thread watches all sockets of this process that
could belong to the request, and shuts down reading from a socket that has received too much. The
kernel counts the bytes: see ``connections``. This costs a thread for each chunked body. No known
sender uses chunked bodies.
"""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import os
import socket
import struct
import sys
import threading
from typing import Any

#: Seconds between two checks. In this time a sender of 1 GB/s sends 5 MB.
INTERVAL = 0.005

#: Permitted bytes on the wire per byte of the maximum body, because chunks have heads.
WIRE_FACTOR = 2

#: Bytes for chunk heads that are permitted in addition, for small bodies.
WIRE_SPARE = 64 * 1024

# Members of the kernel's struct tcp_info, by their offsets.
_TCP_INFO_SIZE = 152
_AGES = struct.Struct('=44xI4xI')
_COUNTS = struct.Struct('=120xQQ')


def is_silent(environ: dict[str, Any]) -> bool:
    """Return whether the server of a request hides errors of chunked bodies."""
    return environ.get('SERVER_SOFTWARE') == 'Granian'


def can_watch() -> bool:
    """Return whether this system reports the number of bytes that a socket has received."""
    return sys.platform == 'linux'


class Watch:
    """Limits the received bytes while a body is read in one call.

    :ivar exceeded: a connection has received too many bytes
    """

    def __init__(self, port: int, max_bytes: int) -> None:
        """:param port: port of the server
        :param max_bytes: maximum bytes of a body
        """
        self.exceeded = False
        self._port = port
        self._most = WIRE_FACTOR * max_bytes + WIRE_SPARE
        self._over = threading.Event()

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Watch the sockets during the block."""
        with contextlib.ExitStack() as stack:
            # For each socket, the acknowledged and the received bytes after its last response.
            counted = {
                stack.enter_context(sock): _counts(sock) for sock in _open_sockets() if self._asks(sock)
            }
            thread = threading.Thread(target=self._run, args=(counted,), name='chunks', daemon=True)
            thread.start()
            try:
                yield
            finally:
                self._over.set()
                thread.join()

    def _asks(self, sock: socket.socket) -> bool:
        """Return whether a socket is a connection of the server with an unanswered request."""
        try:
            sock.getpeername()
            if sock.getsockname()[1] == self._port:
                info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_SIZE)
                sent_ago, received_ago = _AGES.unpack_from(info)
                if received_ago <= sent_ago:
                    return True
        except (OSError, IndexError, struct.error):
            pass
        sock.close()
        return False

    def _run(self, counted: dict[socket.socket, tuple[int, int]]) -> None:
        while not self._over.wait(INTERVAL):
            for sock, (acked, received) in counted.items():
                with contextlib.suppress(OSError, struct.error):
                    acked_now, received_now = _counts(sock)
                    if acked_now != acked:
                        # Another request on this connection was answered. Start counting again.
                        counted[sock] = acked_now, received_now
                    elif received_now - received > self._most:
                        self.exceeded = True
                        sock.shutdown(socket.SHUT_RD)


def _counts(sock: socket.socket) -> tuple[int, int]:
    acked, received = _COUNTS.unpack_from(
        sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_SIZE)
    )
    return acked, received


def _open_sockets() -> Iterator[socket.socket]:
    """Return copies of the sockets of this process."""
    for entry in os.listdir('/proc/self/fd'):
        with contextlib.suppress(OSError):
            if os.readlink(f'/proc/self/fd/{entry}').startswith('socket:'):
                yield socket.socket(fileno=os.dup(int(entry)))
