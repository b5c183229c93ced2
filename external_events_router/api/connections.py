"""Closes connections of an API process that are idle, incomplete or blocked for too long.

HTTP servers limit the time for headers. They do not limit the time for a body that arrives slowly, or for a
response that the client does not read. The counters of the kernel for each socket show the state of
a connection, and its duration:

* idle: the last bytes were sent, or none have arrived yet;
* asking: bytes have arrived, and none were sent since then;
* stuck: bytes wait to be sent, and almost none of them are sent.

The watch closes connections that are in a state for too long. If most connections are in use, the
limits are shorter, so that fast clients can connect. It does not parse HTTP. It works only on
Linux, where ``/proc`` shows the sockets of a process.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
import contextlib
import dataclasses
import os
import socket
import struct
import sys
import threading
import time
from typing import Any

from oslo_config import cfg
from oslo_log import log

from external_events_router.api import auth
from external_events_router.api import router_client
from external_events_router.process import essential

LOG = log.getLogger(__name__)

#: Seconds between two checks.
INTERVAL = 1.0

#: Seconds between two log messages with the number of closed connections.
LOG_INTERVAL = 10.0

#: Part of the maximum number of connections above which the shorter limits apply.
SHORT = 0.9

#: Seconds for an idle connection, and for the arrival of a request, with the shorter limits.
WHEN_SHORT = 1.0

#: Permitted time of a request, as a multiple of the time for handling it: it may have to wait first.
QUEUEING = 3

#: Bytes per second below which the client does not read a response.
LEAST_RATE = 16 * 1024

_FOLDER = '/proc/self/fd'

# Members of struct tcp_info of the kernel, by their offsets.
_TCP_INFO_SIZE = 152
_AGES = struct.Struct('=44xI4xI')
_COUNTS = struct.Struct('=120xQQ8xI')


@dataclasses.dataclass(frozen=True)
class Timeouts:
    """Maximum seconds of a connection in a state.

    :ivar idle: without a request
    :ivar idle_when_short: the same while connections are short
    :ivar asking: from the first bytes of a request to its response
    :ivar asking_when_short: the same while connections are short
    :ivar sending_when_short: the same for a request that is still arriving
    :ivar stuck: with a response that the client does not read
    """

    idle: float
    idle_when_short: float
    asking: float
    asking_when_short: float
    sending_when_short: float
    stuck: float


@dataclasses.dataclass(slots=True)
class _Seen:
    """The counters of a connection at the last check."""

    acked: int
    received: int
    at: float
    asking_since: float | None = None
    stuck_since: float | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class _State:
    """Seconds that a connection is in each state; 0 for the other states.

    :ivar sending: more of the request has arrived since the last check
    """

    idle: float
    asking: float
    stuck: float
    sending: bool


class ConnectionReaper:
    """Checks all connections of a port, and closes connections that exceed a limit.

    :param places: maximum number of connections of the process
    :param is_short: returns whether another resource is short, for example memory
    """

    def __init__(
        self,
        port: int,
        timeouts: Timeouts,
        *,
        places: int,
        is_short: Callable[[], bool] = lambda: False,
    ) -> None:
        self._port = port
        self._timeouts = timeouts
        self._places = places
        self._is_short = is_short
        self._seen: dict[str, _Seen] = {}
        self._others: set[str] = set()
        self._stopped = threading.Event()
        self._closed = 0
        self._logged_at = 0.0

    @classmethod
    def from_conf(
        cls, conf: cfg.ConfigOpts, *, is_short: Callable[[], bool] = lambda: False
    ) -> ConnectionReaper:
        """Build the watch for the options in ``[api]``."""
        handling = conf.delivery.ack_timeout + router_client.GRACE
        timeouts = Timeouts(
            # NOTE: the limit of the server itself applies first, if it has one.
            idle=conf.api.idle_timeout + INTERVAL,
            idle_when_short=WHEN_SHORT,
            asking=conf.api.request_timeout + QUEUEING * handling,
            asking_when_short=handling + INTERVAL,
            sending_when_short=WHEN_SHORT,
            stuck=conf.api.request_timeout,
        )
        return cls(conf.api.bind_port, timeouts, places=conf.api.max_connections, is_short=is_short)

    def start(self) -> None:
        """Check the connections from now on, on a daemon thread."""
        if sys.platform == 'linux':
            essential.EssentialThread(self._run, name='connections', is_stopped=self._stopped.is_set).start()

    def stop(self) -> None:
        """Stop checking."""
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.wait(INTERVAL):
            try:
                self.look(time.monotonic())
            except Exception:
                LOG.exception('Could not check the connections; trying again in %.0f s', INTERVAL)

    def look(self, now: float) -> int:
        """Check all connections once.

        :param now: an instant of ``time.monotonic``
        :returns: number of closed connections
        """
        checked: dict[str, tuple[int, _State]] = {}
        names = dict(_sockets())
        for name, fd in names.items():
            if name not in self._others:
                with _opened(name, fd) as sock:
                    if sock is None:
                        continue
                    if not self._is_of_port(sock):
                        self._others.add(name)
                        continue
                    checked[name] = (fd, self._state(name, sock, now))
        self._others &= names.keys()
        self._seen = {name: seen for name, seen in self._seen.items() if name in checked}
        return self._close_expired(checked, now)

    def _is_of_port(self, sock: socket.socket) -> bool:
        try:
            sock.getpeername()
            return bool(sock.getsockname()[1] == self._port)
        except (OSError, IndexError):
            return False

    def _state(self, name: str, sock: socket.socket, now: float) -> _State:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_SIZE)
        sent_ago, received_ago = _AGES.unpack_from(info)
        acked, received, unsent = _COUNTS.unpack_from(info)
        seen = self._seen.setdefault(name, _Seen(acked=acked, received=received, at=now))
        taken, seen.acked = acked - seen.acked, acked
        came, seen.received = received - seen.received, received
        slow = unsent and taken <= LEAST_RATE * (now - seen.at)
        seen.at = now
        seen.stuck_since = (seen.stuck_since or now) if slow else None
        # NOTE: ages are in ticks of the kernel. If both are equal, the received bytes may have been
        # answered immediately, or may be the next request.
        asking = received > 0 and received_ago <= sent_ago
        if not asking:
            seen.asking_since = None
        elif taken or seen.asking_since is None:
            # Bytes that were acknowledged since the last check answered an earlier request.
            seen.asking_since = now - received_ago / 1000
        return _State(
            idle=0.0 if asking or unsent else min(sent_ago, received_ago) / 1000,
            asking=now - seen.asking_since if seen.asking_since is not None else 0.0,
            stuck=now - seen.stuck_since if seen.stuck_since is not None else 0.0,
            sending=came > 0,
        )

    def _close_expired(self, checked: dict[str, tuple[int, _State]], now: float) -> int:
        short = len(checked) >= SHORT * self._places or self._is_short()
        closed = 0
        for name, (fd, state) in checked.items():
            stuck = state.stuck > self._timeouts.stuck
            if stuck or self._is_expired(state, short=short):
                closed += _close(name, fd, at_once=stuck)
        self._log_closed(closed, len(checked), now)
        return closed

    def _is_expired(self, state: _State, *, short: bool) -> bool:
        timeouts = self._timeouts
        if not short:
            return state.idle > timeouts.idle or state.asking > timeouts.asking
        # NOTE: a request that is still arriving does not wait for its hosts yet, so it has the
        # shorter limit.
        asking = timeouts.sending_when_short if state.sending else timeouts.asking_when_short
        return state.idle > timeouts.idle_when_short or state.asking > asking

    def _log_closed(self, closed: int, open_before: int, now: float) -> None:
        self._closed += closed
        if self._closed and now - self._logged_at >= LOG_INTERVAL:
            LOG.warning(
                'Closed %d connections that were idle or slow for too long; %d of at most %d are open. If '
                'senders were affected, increase [api] max_connections',
                self._closed,
                open_before - closed,
                self._places,
            )
            self._closed, self._logged_at = 0, now


class LastAnswers:
    """A WSGI application whose responses close their connections shortly before the process ends.

    A server that ends closes idle connections. A client that sends a request at this moment gets a
    connection error instead of a response. So for some time before the end, each response asks the
    client to open a new connection.
    """

    def __init__(self, app: auth.WSGIApp) -> None:
        self._app = app
        self._ending = False

    def begin(self) -> None:
        """Close the connection after each response from now on."""
        self._ending = True

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if not self._ending:
            return self._app(environ, start_response)

        def closing(status: str, headers: list[tuple[str, str]], *error: Any) -> Any:
            return start_response(status, [*headers, ('Connection', 'close')], *error)

        return self._app(environ, closing)


def _sockets() -> Iterator[tuple[str, int]]:
    """Return the sockets of this process: a unique name, and a descriptor."""
    for entry in os.listdir(_FOLDER):
        with contextlib.suppress(OSError):
            target = os.readlink(f'{_FOLDER}/{entry}')
            if target.startswith('socket:'):
                yield target, int(entry)


@contextlib.contextmanager
def _opened(name: str, fd: int) -> Iterator[socket.socket | None]:
    """Yield the socket of a descriptor, or None if the descriptor belongs to another socket now.

    The server may close its socket at any time, and the kernel reuses the number. So a copy of the
    descriptor is used.
    """
    copy = None
    try:
        copy = socket.socket(fileno=os.dup(fd))
        if os.readlink(f'{_FOLDER}/{copy.fileno()}') != name:
            copy.close()
            copy = None
    except OSError:
        pass
    try:
        yield copy
    finally:
        if copy is not None:
            copy.close()


def _close(name: str, fd: int, *, at_once: bool) -> bool:
    """Close a connection, so that the server sees its end.

    :param at_once: discard the bytes that wait to be sent; otherwise the kernel would continue to send them
    """
    with _opened(name, fd) as sock:
        if sock is None:
            return False
        try:
            if at_once:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
            sock.shutdown(socket.SHUT_RDWR if at_once else socket.SHUT_RD)
        except OSError:
            return False
    return True
