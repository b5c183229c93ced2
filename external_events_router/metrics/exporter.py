"""Serves the metrics over HTTP: only ``GET /metrics``, for few clients at a time, each for a limited time."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
import errno
import logging
import threading
from typing import Any

from prometheus_client import core
from prometheus_client import exposition

from external_events_router import exceptions
from external_events_router import throttled_log
from external_events_router.process import bounded_http
from external_events_router.process import essential
from external_events_router.process import slots

LOG = logging.getLogger(__name__)

PATH = '/metrics'

#: Seconds that one connection may take.
TIMEOUT = 10.0

#: Seconds until a port in use is tried again.
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
        self._server: bounded_http.Server | None = None
        self._failures = throttled_log.ThrottledLog(LOG)
        self._stopping = threading.Event()
        self._thread = essential.EssentialThread(self._run, name='metrics', is_stopped=self._stopping.is_set)

    @property
    def port(self) -> int:
        """The port on which it listens; 0 while it does not listen."""
        return self._server.port if self._server else 0

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

    def _listen(self) -> bounded_http.Server:
        if self._claimed is None:
            self._claimed = self._claim()
        if self._claimed is None:
            raise exceptions.ConfigurationError(
                option='[metrics] directory',
                reason='another service of this kind uses it, so both would report the sums of both: use '
                'different values',
            )
        return _server(self._address, self._collect)

    def _run(self) -> None:
        while self._server is None and not self._stopping.is_set():
            try:
                self._server = self._listen()
            except (exceptions.ConfigurationError, OSError) as exc:
                # NOTE: without the claim another process serves the metrics, which is normal.
                level = logging.DEBUG if self._claimed is None else logging.WARNING
                self._failures.occurred(
                    level, 'No process serves the metrics now: %s; trying again every %.0f s', exc, RETRY
                )
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
    _server((host, port), list).server_close()


def _server(address: tuple[str, int], collect: Callable[[], Iterable[core.Metric]]) -> bounded_http.Server:
    collecting = threading.Lock()

    def answer(path: str) -> bounded_http.Answer:
        if path != PATH:
            return bounded_http.Answer(
                404, 'text/plain; charset=utf-8', f'The only path is {PATH}\n'.encode()
            )
        # NOTE: for one request at a time, because each reads all files.
        with collecting:
            body = exposition.generate_latest(_Once(collect))
        return bounded_http.Answer(200, exposition.CONTENT_TYPE_LATEST, body)

    try:
        return bounded_http.Server(address, answer, name='external-events-metrics', timeout=TIMEOUT)
    except (OSError, OverflowError, UnicodeError) as exc:
        raise exceptions.ConfigurationError(
            option='[metrics] bind_host, bind_port', reason=_problem(address, exc)
        ) from exc


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
