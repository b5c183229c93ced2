"""Serves ``GET /healthcheck`` and ``GET /readiness`` of a resolver worker or an agent."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Collection
import errno
import http.server
import json
import logging
import socket
import threading
import time

from oslo_config import cfg

from external_events_router import exceptions
from external_events_router.process import essential
from external_events_router.process import readiness

LOG = logging.getLogger(__name__)

#: Maximum seconds of one request, and seconds between two checks whether to stop.
TIMEOUT = 2.0
CHECK_INTERVAL = 0.5

#: Seconds to wait for a port that the predecessor of this process still uses.
BIND_WAIT = 10.0


class HealthServer:
    """The HTTP server and its thread, which answers one request at a time."""

    def __init__(self, server: _Server) -> None:
        self._server = server
        self._stopping = threading.Event()
        self._thread = essential.EssentialThread(self._run, name='health', is_stopped=self._stopping.is_set)

    @property
    def port(self) -> int:
        """The port on which it listens."""
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Answer requests on a thread."""
        self._thread.start()

    def stop(self) -> None:
        """Answer no more requests."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(TIMEOUT + CHECK_INTERVAL)
        self._server.server_close()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._server.handle_request()


def from_conf(
    conf: cfg.ConfigOpts, unhealthy: Callable[[], str | None], *, worker: int = 0
) -> HealthServer | None:
    """Return the server of ``[health] bind_port``; None: it is not set.

    :param unhealthy: see :class:`readiness.Readiness`
    :param worker: number of the worker, which is added to the port
    :raises ConfigurationError: the process cannot listen on the address
    """
    if conf.health.bind_port is None:
        return None
    answers = readiness.Readiness(unhealthy, drain_file=conf.health.disable_by_file)
    address = (conf.health.bind_host, conf.health.bind_port + worker)
    return HealthServer(_listen(address, answers, time.monotonic() + BIND_WAIT))


def addresses(conf: cfg.ConfigOpts, workers: int) -> frozenset[tuple[str, int]]:
    """Return the host and the port of each worker; none if ``[health] bind_port`` is not set."""
    if conf.health.bind_port is None:
        return frozenset()
    return frozenset((conf.health.bind_host, conf.health.bind_port + worker) for worker in range(workers))


def check(wanted: Collection[tuple[str, int]]) -> None:
    """Check that addresses can be used, before any worker starts.

    Waits up to :data:`BIND_WAIT`, because workers of a killed parent may still use them.

    :raises ConfigurationError: an address cannot be used
    """
    deadline = time.monotonic() + BIND_WAIT
    for address in sorted(wanted):
        _listen(address, readiness.Readiness(lambda: None), deadline).server_close()


def _listen(address: tuple[str, int], answers: readiness.Readiness, deadline: float) -> _Server:
    while True:
        try:
            return _Server(address, answers)
        except (OSError, OverflowError, UnicodeError) as exc:
            in_use = isinstance(exc, OSError) and exc.errno == errno.EADDRINUSE
            if not in_use or time.monotonic() > deadline:
                raise exceptions.ConfigurationError(
                    option='[health] bind_host, bind_port',
                    reason=f'cannot listen on {address[0]} port {address[1]}: {exc}; services on one '
                    'machine need different ports',
                ) from exc
        time.sleep(CHECK_INTERVAL)


class _Server(http.server.HTTPServer):
    allow_reuse_address = True
    timeout = CHECK_INTERVAL

    def __init__(self, address: tuple[str, int], answers: readiness.Readiness) -> None:
        self.answers = answers
        self.address_family, _, _, _, found = socket.getaddrinfo(
            *address, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        super().__init__((str(found[0]), int(found[1])), _Handler)

    def server_bind(self) -> None:
        """Bind without the name look-up of the base class."""
        super(http.server.HTTPServer, self).server_bind()

    def handle_error(self, request: object, client_address: object) -> None:
        """Log a client that ended the connection, or that was too slow."""
        LOG.debug('A health request of %s ended early', client_address, exc_info=True)


class _Handler(http.server.BaseHTTPRequestHandler):
    server: _Server
    server_version = 'external-events-health'
    sys_version = ''
    timeout = TIMEOUT

    def do_GET(self) -> None:
        """Answer with the health of the process."""
        path = self.path.partition('?')[0].rstrip('/')
        status, body = self.server.answers.read()
        if path == '/healthcheck':
            body = {'process': body['parts']['process']}
            status = 200 if body['process']['status'] == 'ok' else 503
        elif path != '/readiness':
            status, body = 404, {'paths': ['/healthcheck', '/readiness']}
        data = json.dumps(body).encode() + b'\n'
        self.send_response(status)
        self.send_header('Content-Type', 'application/json')
        self.send_header('Content-Length', str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        """Log a request at DEBUG, not on the standard error."""
        LOG.debug('Health request of %s: %s', self.client_address[0], format % args)
