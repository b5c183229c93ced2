"""An HTTP server for monitoring: only GET, for few clients at a time, each for a limited time."""

from __future__ import annotations

from collections.abc import Callable
import dataclasses
import http.server
import logging
import socket
import socketserver
import threading
import time
from typing import Any

LOG = logging.getLogger(__name__)

#: Maximum number of connections; a further connection is closed at once.
MAX_CONNECTIONS = 8

#: Seconds between two checks of the ages of connections.
CHECK_INTERVAL = 0.5


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a request."""

    status: int
    content_type: str
    body: bytes


class Server(socketserver.ThreadingTCPServer):
    """Answers each request on a thread, so that a slow client delays no other. Thread-safe."""

    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = MAX_CONNECTIONS
    timeout = CHECK_INTERVAL

    def __init__(
        self, address: tuple[str, int], answer: Callable[[str], Answer], *, name: str, timeout: float
    ) -> None:
        """:param answer: called with the path of a request, without its query, on several threads
        :param name: the name of the server, for its answers and for the log
        :param timeout: seconds that one connection may take, from its beginning
        :raises OSError: it cannot listen on the address, as ``OverflowError`` and ``UnicodeError``
        """
        self.answer = answer
        self.name = name
        self.limit = timeout
        # Guards _open: connection to the instant at which it is closed.
        self._lock = threading.Lock()
        self._open: dict[socket.socket, float] = {}
        self.address_family, _, _, _, found = socket.getaddrinfo(
            *address, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        super().__init__((str(found[0]), int(found[1])), _Handler)

    @property
    def port(self) -> int:
        """The port on which it listens."""
        return int(self.server_address[1])

    def run(self, stopping: threading.Event) -> None:
        """Answer until the stop."""
        while not stopping.is_set():
            self.handle_request()
            self._close_overdue()

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Refuse connections beyond the limit."""
        with self._lock:
            if len(self._open) >= MAX_CONNECTIONS:
                return False
            self._open[request] = time.monotonic() + self.limit
            return True

    def shutdown_request(self, request: Any) -> None:
        """Close a connection."""
        with self._lock:
            self._open.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log a client that ended the connection, or that was too slow."""
        LOG.debug('%s: a request of %s ended early', self.name, client_address, exc_info=True)

    def server_close(self) -> None:
        """Close the socket and all connections."""
        super().server_close()
        self._close_overdue(before=float('inf'))

    def _close_overdue(self, before: float | None = None) -> None:
        now = time.monotonic() if before is None else before
        with self._lock:
            overdue = [request for request, until in self._open.items() if until <= now]
        for request in overdue:
            # NOTE: this wakes the thread that uses the connection, and the thread closes it.
            try:
                request.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def setup(self) -> None:
        super().setup()
        self.connection.settimeout(self.server.limit)

    def version_string(self) -> str:
        """Return the name of the server, without the version of Python."""
        return self.server.name

    def do_GET(self) -> None:
        """Answer the request."""
        answer = self.server.answer(self.path.partition('?')[0])
        self.send_response(answer.status)
        self.send_header('Content-Type', answer.content_type)
        self.send_header('Content-Length', str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body)

    def log_message(self, format: str, *args: Any) -> None:
        """Log a request at DEBUG, not on the standard error."""
        LOG.debug('%s: request of %s: %s', self.server.name, self.client_address[0], format % args)
