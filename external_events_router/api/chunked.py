"""Bodies in chunks, on a server that says nothing of a broken one.

granian ends a body at a chunk that is malformed or missing as it does at the last chunk, if the
body is read in parts; read in one call, such a body is empty. That call takes any amount of
memory. So while it runs, the sockets of this process that could be the one of the request are
watched, and reading from one that has received too much is ended. The kernel counts the bytes:
see ``connections``. The watch costs a thread for each body in chunks; no sender has any.
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

#: Seconds between two looks. A sender of 1 GB/s sends 5 MB in between.
INTERVAL = 0.005

#: Bytes on the wire for each byte of the largest body that is allowed: chunks have heads.
WIRE_FACTOR = 2

#: Bytes of chunk heads that a small body may have in any case.
WIRE_SPARE = 64 * 1024

# Members of the kernel's struct tcp_info, by their offsets.
_TCP_INFO_SIZE = 152
_AGES = struct.Struct('=44xI4xI')
_COUNTS = struct.Struct('=120xQQ')


def is_silent(environ: dict[str, Any]) -> bool:
    """Whether the server of a request hides the errors of a body in chunks."""
    return environ.get('SERVER_SOFTWARE') == 'Granian'


def can_watch() -> bool:
    """Whether this system tells the bytes that a socket has received."""
    return sys.platform == 'linux'


class Watch:
    """Bounds what is received while a body is read in one call.

    :ivar exceeded: whether a connection has received too much
    """

    def __init__(self, port: int, max_bytes: int) -> None:
        """:param port: of the server
        :param max_bytes: bytes that a body may have
        """
        self.exceeded = False
        self._port = port
        self._most = WIRE_FACTOR * max_bytes + WIRE_SPARE
        self._over = threading.Event()

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Watch during the block."""
        with contextlib.ExitStack() as stack:
            # Socket to the bytes that were acknowledged, and received, when it was last answered.
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
        """Whether a socket is a connection of the server whose request is not answered."""
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
                        # It was another request, which has its answer.
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
    """Copies of the sockets of this process."""
    for entry in os.listdir('/proc/self/fd'):
        with contextlib.suppress(OSError):
            if os.readlink(f'/proc/self/fd/{entry}').startswith('socket:'):
                yield socket.socket(fileno=os.dup(int(entry)))
