"""Serves the metrics over HTTP: only ``GET /metrics``, for few clients at a time, each for a limited time."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
import errno
import http.server
import logging
import socket
import socketserver
import threading
import time
from typing import Any

from prometheus_client import core
from prometheus_client import exposition

from external_events_router import exceptions
from external_events_router.process import essential
from external_events_router.process import slots

LOG = logging.getLogger(__name__)

PATH = '/metrics'

#: Maximum number of connections; a further connection is closed at once.
MAX_CONNECTIONS = 8

#: Seconds that one connection may take.
TIMEOUT = 10.0

#: Seconds between two checks for connections that are too old, and seconds until a port in use is tried
#: again.
CHECK_INTERVAL = 0.5
RETRY = 2.0


class Exporter:
    """The HTTP server and its thread."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        collect: Callable[[], Iterable[core.Metric]],
        claim: Callable[[], slots.Claim | None],
        wait: bool = False,
    ) -> None:
        """:param collect: called for each request, by one thread at a time
        :param claim: claims the folder for this process; None: another process serves its metrics
        :param wait: while another process serves, try again; else :meth:`start` raises
        """
        self._address = (host, port)
        self._claim = claim
        self._claimed: slots.Claim | None = None
        self._collect = collect
        self._wait = wait
        self._server: _Server | None = None
        self._stopping = threading.Event()
        self._thread = essential.EssentialThread(self._run, name='metrics', is_stopped=self._stopping.is_set)

    @property
    def port(self) -> int:
        """The port on which it listens; 0 while it does not listen."""
        return int(self._server.server_address[1]) if self._server else 0

    def start(self) -> None:
        """Listen, and answer on a thread.

        :raises ConfigurationError: the address cannot be used
        """
        if not self._wait:
            self._server = self._listen()
        self._thread.start()

    def stop(self) -> None:
        """Close the connections and end the thread."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(TIMEOUT)

    def _listen(self) -> _Server:
        if self._claimed is None:
            self._claimed = self._claim()
        if self._claimed is None:
            raise exceptions.ConfigurationError(
                option='[metrics] directory',
                reason='another service of this kind uses it, so both would report the sums of both: use '
                'different values',
            )
        return _Server(self._address, self._collect)

    def _run(self) -> None:
        while self._server is None and not self._stopping.is_set():
            try:
                self._server = self._listen()
            except (exceptions.ConfigurationError, OSError) as exc:
                LOG.debug('Metrics are not served by this process now: %s', exc)
                self._stopping.wait(RETRY)
        if self._server is not None:
            with self._server as server:
                server.run(self._stopping)
        if self._claimed is not None:
            self._claimed.close()


def check(host: str, port: int) -> None:
    """Make sure that the address can be used.

    :raises ConfigurationError: it cannot
    """
    _Server((host, port), list).server_close()


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = MAX_CONNECTIONS
    timeout = CHECK_INTERVAL

    def __init__(self, address: tuple[str, int], collect: Callable[[], Iterable[core.Metric]]) -> None:
        self.collect = collect
        #: Held during a collection: only one runs at a time.
        self.collecting = threading.Lock()
        # Guards _open: connection to the instant at which it is closed.
        self._lock = threading.Lock()
        self._open: dict[socket.socket, float] = {}
        try:
            self.address_family, _, _, _, found = socket.getaddrinfo(
                *address, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            super().__init__(found[:2], _Handler)  # type: ignore[arg-type]
        except (OSError, UnicodeError) as exc:
            raise exceptions.ConfigurationError(
                option='[metrics] bind_host, bind_port', reason=_problem(address, exc)
            ) from exc

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
            self._open[request] = time.monotonic() + TIMEOUT
            return True

    def shutdown_request(self, request: Any) -> None:
        """Close a connection."""
        with self._lock:
            self._open.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log that a client closed its connection, or was too slow."""
        LOG.debug('The connection of %s for metrics ended early', client_address, exc_info=True)

    def server_close(self) -> None:
        """Close everything."""
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
    server: _Server
    server_version = 'external-events-metrics'
    sys_version = ''
    timeout = TIMEOUT

    def do_GET(self) -> None:
        """Answer with the metrics."""
        if self.path.partition('?')[0] != PATH:
            self._answer(404, 'text/plain; charset=utf-8', f'The only path is {PATH}\n'.encode())
            return
        with self.server.collecting:
            body = exposition.generate_latest(_Once(self.server.collect))
        self._answer(200, exposition.CONTENT_TYPE_LATEST, body)

    def _answer(self, status: int, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header('Content-Type', content_type)
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Log a request at level DEBUG; the method of the parent writes to the standard error."""
        LOG.debug('Request for metrics of %s: %s', self.client_address[0], format % args)


class _Once(core.CollectorRegistry):
    """The registry that prometheus-client encodes for one answer."""

    def __init__(self, collect: Callable[[], Iterable[core.Metric]]) -> None:
        super().__init__()
        self._collect = collect

    def collect(self) -> Any:
        return self._collect()


def _problem(address: tuple[str, int], exc: Exception) -> str:
    text = f'cannot listen on {address[0]} port {address[1]}: {exc}'
    if isinstance(exc, OSError) and exc.errno == errno.EADDRINUSE:
        text += (
            '. Services on one machine need different ports: set each in a file of its service, for '
            'example /etc/external-events-router/external-events-resolver.conf.d/metrics.conf'
        )
    return text
