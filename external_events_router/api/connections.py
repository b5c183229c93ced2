"""The connections of a front's process, seen from below: none outlives its bounds.

HTTP servers bound the time that headers take, and leave a body that trickles in
or an answer that nobody takes alone, for ever. What the kernel counts per socket
tells the three states of a connection, and how long each lasts:

* idle: the last bytes went out, or none came yet;
* asking: bytes came in, and nothing has gone out since;
* stuck: bytes wait to go out, and next to none of them does.

The watch closes those that are in their state for too long, and has less
patience where places are short, so that who is quick finds one. It knows no
HTTP, and works on Linux only, where ``/proc`` shows a process its sockets.
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

#: Seconds between two looks.
INTERVAL = 1.0

#: Seconds between two lines of the log that say what was closed.
LOG_INTERVAL = 10.0

#: Part of the places above which they are short.
SHORT = 0.9

#: Seconds that a connection may be idle, or a request come in, where places are short.
WHEN_SHORT = 1.0

#: How many times as long as a request's handling takes it may wait for it, and be handled.
QUEUEING = 3

#: Bytes per second below which an answer is not being taken.
LEAST_RATE = 16 * 1024

_FOLDER = '/proc/self/fd'

# Members of the kernel's struct tcp_info, by their offsets.
_TCP_INFO_SIZE = 152
_AGES = struct.Struct('=44xI4xI')
_COUNTS = struct.Struct('=120xQQ8xI')


@dataclasses.dataclass(frozen=True)
class Patience:
    """Seconds that a connection may be in a state.

    :ivar idle: without a request
    :ivar idle_when_short: the same where places are short
    :ivar asking: from the first bytes of a request to its answer
    :ivar asking_when_short: the same where places are short
    :ivar sending_when_short: the same for one that is still coming in
    :ivar stuck: with an answer that is not taken
    """

    idle: float
    idle_when_short: float
    asking: float
    asking_when_short: float
    sending_when_short: float
    stuck: float


@dataclasses.dataclass(slots=True)
class _Seen:
    """A connection as it was at the last look."""

    acked: int
    received: int
    at: float
    asking_since: float | None = None
    stuck_since: float | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class _State:
    """Seconds that a connection is in a state; 0 for those that it is not in.

    :ivar sending: more of the request came since the last look
    """

    idle: float
    asking: float
    stuck: float
    sending: bool


class Watch:
    """Looks at every connection to a port, and closes those that exhaust its patience.

    :param places: connections that the process may have
    :param is_short: whether something else than places is short too
    """

    def __init__(
        self,
        port: int,
        patience: Patience,
        *,
        places: int,
        is_short: Callable[[], bool] = lambda: False,
    ) -> None:
        self._port = port
        self._patience = patience
        self._places = places
        self._is_short = is_short
        self._seen: dict[str, _Seen] = {}
        self._others: set[str] = set()
        self._stopped = threading.Event()
        self._closed = 0
        self._told = 0.0

    @classmethod
    def from_conf(cls, conf: cfg.ConfigOpts, *, is_short: Callable[[], bool] = lambda: False) -> Watch:
        """The watch that ``[api]`` says."""
        handling = conf.delivery.ack_timeout + router_client.GRACE
        patience = Patience(
            # NOTE: the server's own bound comes first, where it has one.
            idle=conf.api.idle_timeout + INTERVAL,
            idle_when_short=WHEN_SHORT,
            asking=conf.api.request_timeout + QUEUEING * handling,
            asking_when_short=handling + INTERVAL,
            sending_when_short=WHEN_SHORT,
            stuck=conf.api.request_timeout,
        )
        return cls(conf.api.bind_port, patience, places=conf.api.max_connections, is_short=is_short)

    def start(self) -> None:
        """Look from now on, on a thread that keeps no process from its end."""
        if sys.platform == 'linux':
            essential.EssentialThread(self._run, name='connections', is_stopped=self._stopped.is_set).start()

    def stop(self) -> None:
        """Look no more."""
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.wait(INTERVAL):
            try:
                self.look(time.monotonic())
            except Exception:
                LOG.exception('the connections could not be looked at')

    def look(self, now: float) -> int:
        """Look once.

        :param now: an instant of ``time.monotonic``
        :returns: how many connections were closed
        """
        ours: dict[str, tuple[int, _State]] = {}
        names = dict(_sockets())
        for name, fd in names.items():
            if name not in self._others:
                with _opened(name, fd) as sock:
                    if sock is None:
                        continue
                    if not self._is_ours(sock):
                        self._others.add(name)
                        continue
                    ours[name] = (fd, self._state(name, sock, now))
        self._others &= names.keys()
        self._seen = {name: seen for name, seen in self._seen.items() if name in ours}
        return self._close_those_too_long(ours, now)

    def _is_ours(self, sock: socket.socket) -> bool:
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
        # NOTE: ages are in ticks of the kernel. Where both are equal, what came
        # may have been answered at once, or be the next request.
        asking = received > 0 and received_ago <= sent_ago
        if not asking:
            seen.asking_since = None
        elif taken or seen.asking_since is None:
            # What was taken since the last look answered an earlier request.
            seen.asking_since = now - received_ago / 1000
        return _State(
            idle=0.0 if asking or unsent else min(sent_ago, received_ago) / 1000,
            asking=now - seen.asking_since if seen.asking_since is not None else 0.0,
            stuck=now - seen.stuck_since if seen.stuck_since is not None else 0.0,
            sending=came > 0,
        )

    def _close_those_too_long(self, ours: dict[str, tuple[int, _State]], now: float) -> int:
        short = len(ours) >= SHORT * self._places or self._is_short()
        closed = 0
        for name, (fd, state) in ours.items():
            stuck = state.stuck > self._patience.stuck
            if stuck or self._is_too_long(state, short=short):
                closed += _close(name, fd, at_once=stuck)
        self._tell(closed, len(ours), now)
        return closed

    def _is_too_long(self, state: _State, *, short: bool) -> bool:
        patience = self._patience
        if not short:
            return state.idle > patience.idle or state.asking > patience.asking
        # NOTE: a request of which more still comes is not one that waits for its
        # hosts, which it might take longer for.
        asking = patience.sending_when_short if state.sending else patience.asking_when_short
        return state.idle > patience.idle_when_short or state.asking > asking

    def _tell(self, closed: int, open_before: int, now: float) -> None:
        self._closed += closed
        if self._closed and now - self._told >= LOG_INTERVAL:
            LOG.warning(
                'closed %d connections that were silent or slow for too long; %d are open, %d are possible',
                self._closed,
                open_before - closed,
                self._places,
            )
            self._closed, self._told = 0, now


class LastAnswers:
    """An application whose answers close their connections once the process is going to end.

    A server that ends closes idle connections, and a client that sends a request in
    this moment sees a broken connection in place of an answer. So an answer some
    time before asks each client to open another connection.
    """

    def __init__(self, app: auth.WSGIApp) -> None:
        self._app = app
        self._ending = False

    def begin(self) -> None:
        """Close the connection with each answer from now on."""
        self._ending = True

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if not self._ending:
            return self._app(environ, start_response)

        def closing(status: str, headers: list[tuple[str, str]], *error: Any) -> Any:
            return start_response(status, [*headers, ('Connection', 'close')], *error)

        return self._app(environ, closing)


def _sockets() -> Iterator[tuple[str, int]]:
    """The sockets of this process: a name that no other has, and a descriptor."""
    for entry in os.listdir(_FOLDER):
        with contextlib.suppress(OSError):
            target = os.readlink(f'{_FOLDER}/{entry}')
            if target.startswith('socket:'):
                yield target, int(entry)


@contextlib.contextmanager
def _opened(name: str, fd: int) -> Iterator[socket.socket | None]:
    """The socket behind a descriptor, or None if it is another's by now.

    A copy of the descriptor is looked at, because the server may close its own
    at any time, and the number would be the next one's.
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
    """Have the server see the end of a connection.

    :param at_once: drop what waits to be sent, of which the kernel would keep trying to be rid
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
