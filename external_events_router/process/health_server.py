"""Serves ``GET /healthcheck`` and ``GET /readiness`` of a resolver worker or an agent."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Collection
import errno
import json
import threading
import time

from oslo_config import cfg

from external_events_router import exceptions
from external_events_router.process import bounded_http
from external_events_router.process import essential
from external_events_router.process import readiness

#: Maximum seconds of one connection.
TIMEOUT = 2.0

#: Seconds to wait for a port that the predecessor of this process still uses, and between two attempts.
BIND_WAIT = 10.0
RETRY = 0.5


class HealthServer:
    """The HTTP server and the thread that accepts its connections."""

    def __init__(self, server: bounded_http.Server) -> None:
        self._server = server
        self._stopping = threading.Event()
        self._thread = essential.EssentialThread(self._run, name='health', is_stopped=self._stopping.is_set)

    @property
    def port(self) -> int:
        """The port on which it listens."""
        return self._server.port

    def start(self) -> None:
        """Answer requests on a thread."""
        self._thread.start()

    def stop(self) -> None:
        """Answer no more requests."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(TIMEOUT)
        self._server.server_close()

    def _run(self) -> None:
        self._server.run(self._stopping)


def make_server(address: tuple[str, int], answers: readiness.Readiness) -> bounded_http.Server:
    """Return a server that listens on an address; see :class:`bounded_http.Server`."""

    def answer(path: str) -> bounded_http.Answer:
        path = path.rstrip('/')
        status, body = answers.read()
        if path == '/healthcheck':
            body = {'process': body['parts']['process']}
            status = 200 if body['process']['status'] == 'ok' else 503
        elif path != '/readiness':
            status, body = 404, {'paths': ['/healthcheck', '/readiness']}
        return bounded_http.Answer(status, 'application/json', json.dumps(body).encode() + b'\n')

    return bounded_http.Server(address, answer, name='external-events-health', timeout=TIMEOUT)


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


def _listen(address: tuple[str, int], answers: readiness.Readiness, deadline: float) -> bounded_http.Server:
    while True:
        try:
            return make_server(address, answers)
        except (OSError, OverflowError, UnicodeError) as exc:
            in_use = isinstance(exc, OSError) and exc.errno == errno.EADDRINUSE
            if not in_use or time.monotonic() > deadline:
                raise exceptions.ConfigurationError(
                    option='[health] bind_host, bind_port',
                    reason=f'cannot listen on {address[0]} port {address[1]}: {exc}; services on one '
                    'machine need different ports',
                ) from exc
        time.sleep(RETRY)
