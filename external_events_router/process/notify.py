"""Notifies systemd that a service is ready, and that it still responds (``Type=notify``, ``WatchdogSec``).

Each worker writes the time of its last heartbeat into memory that it shares with its parent. The parent
feeds the watchdog of systemd only while the heartbeat of each worker is recent. A worker whose start
takes long, for example because the broker is unavailable, has heartbeats, but it is not ready.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import MutableMapping
from collections.abc import MutableSequence
import logging
from multiprocessing import context
import os
import socket
import threading
import time

from external_events_router import throttled_log
from external_events_router.process import essential
from external_events_router.process import parts

LOG = logging.getLogger(__name__)

#: Seconds between two heartbeats of a worker, and between two checks by its parent.
INTERVAL = 1.0

#: Without ``WatchdogSec``: maximum age of a heartbeat, in seconds.
AGE = 10.0

#: Notifications in each period of the watchdog.
_RATE = 4


class Heartbeats:
    """The time of the last heartbeat of each worker, in memory that processes share."""

    def __init__(self, heartbeats: MutableSequence[float], started: MutableSequence[int]) -> None:
        """:param heartbeats: for each worker, an instant of ``time.monotonic()``, or 0 before the first
        :param started: for each worker, 1 if it has finished its start, otherwise 0
        """
        self._heartbeats, self._started = heartbeats, started

    @classmethod
    def shared(cls, workers: int, processes: context.BaseContext) -> Heartbeats:
        """Return heartbeats for a number of workers, which can be passed to these processes."""
        return cls(processes.RawArray('d', workers), processes.RawArray('b', workers))

    def are_recent(self, age: float) -> bool:
        """Return whether each worker has had a heartbeat in the last seconds."""
        now = time.monotonic()
        return all(beat and now - beat < age for beat in self._heartbeats)

    def are_started(self) -> bool:
        """Return whether each worker has finished its start."""
        return all(self._started)

    def begin(self, worker: int, responds: Callable[[], bool], *, is_started: bool = True) -> None:
        """Let the heart of a worker beat while it responds.

        :param responds: called for each heartbeat; if it hangs, there is no heartbeat
        :param is_started: whether the worker has finished its start; if not, call :meth:`finish_start`
            then. The first heartbeat is later, so that a worker whose start fails soon has none.
        """
        # NOTE: a reload may have increased the number of workers.
        if worker < len(self._heartbeats):
            self._started[worker] = int(is_started)
            arguments = (worker, responds, 0.0 if is_started else INTERVAL)
            threading.Thread(target=self._run, args=arguments, name='heartbeat', daemon=True).start()

    def finish_start(self, worker: int) -> None:
        """Record that a worker has finished its start."""
        if worker < len(self._started):
            self._started[worker] = 1

    def _run(self, worker: int, responds: Callable[[], bool], delay: float) -> None:
        time.sleep(delay)
        while True:
            if responds():
                self._heartbeats[worker] = time.monotonic()
            time.sleep(INTERVAL)


def _always() -> bool:
    return True


class Notifier:
    """Sends notifications to systemd, from a thread."""

    def __init__(
        self,
        address: str,
        *,
        watchdog: float | None,
        responds: Callable[[float], bool],
        is_started: Callable[[], bool] = _always,
    ) -> None:
        """:param address: the address of the socket of systemd
        :param watchdog: seconds after which systemd ends a service that sends nothing; None: never
        :param responds: gets the maximum age of a heartbeat, and returns whether the service responds
        :param is_started: returns whether the service has finished its start
        """
        self._address = f'\0{address[1:]}' if address.startswith('@') else address
        self._watchdog = watchdog
        self._responds, self._is_started = responds, is_started
        self._stopping = threading.Event()
        self._failures = throttled_log.ThrottledLog(LOG)
        self._thread = essential.EssentialThread(self._run, name='notify', is_stopped=self._stopping.is_set)

    @classmethod
    def from_environment(
        cls,
        responds: Callable[[float], bool],
        environ: MutableMapping[str, str] = os.environ,
        *,
        is_started: Callable[[], bool] = _always,
    ) -> Notifier | None:
        """Return the notifier for this process; None: systemd does not expect notifications.

        The variables of systemd are removed, because they are not for the children of this process.
        """
        address = environ.pop('NOTIFY_SOCKET', None)
        microseconds = environ.pop('WATCHDOG_USEC', '')
        pid = environ.pop('WATCHDOG_PID', str(os.getpid()))
        if not address:
            return None
        is_watched = microseconds.isdecimal() and int(microseconds) > 0 and pid == str(os.getpid())
        watchdog = int(microseconds) / 1e6 if is_watched else None
        return cls(address, watchdog=watchdog, responds=responds, is_started=is_started)

    def start(self) -> None:
        """Notify systemd when the service responds, and then regularly."""
        self._thread.start()

    def stop(self) -> None:
        """Notify systemd that the service stops."""
        self._stopping.set()
        self._send('STOPPING=1')

    def _run(self) -> None:
        age = AGE if self._watchdog is None else self._watchdog / 2
        interval = INTERVAL if self._watchdog is None else min(INTERVAL, self._watchdog / _RATE)
        is_ready = responded = False
        while not self._stopping.wait(interval):
            responds = self._responds(age)
            if responds and not is_ready and self._is_started():
                is_ready = self._send('READY=1')
            if responds and self._watchdog is not None:
                self._send('WATCHDOG=1')
            if responded and not responds:
                LOG.error('A worker does not respond for %.0f s; systemd is not notified until it does', age)
            responded = responds

    def _send(self, state: str) -> bool:
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
                notify.settimeout(INTERVAL)
                notify.connect(self._address)
                notify.sendall(state.encode())
        except OSError as exc:
            self._failures.occurred(logging.WARNING, 'Could not notify systemd of %s: %s', state, exc)
            return False
        self._failures.over('systemd receives notifications again')
        return True


def is_responding(unhealthy: Callable[[], str | None]) -> bool:
    """Return whether no thread of this process has failed, and the thread of its connections does not hang.

    Does not return if the lock of a part (see ``process.parts``) is held forever. This does not prove
    that the process handles batches: the metrics show this.
    """
    statuses = [status for kind in parts.Kind for status in parts.ALL.read(kind)]
    hangs = any(status.details.get('hangs') for status in statuses)
    return unhealthy() is None and not hangs


def start(
    responds: Callable[[float], bool], *, is_started: Callable[[], bool] = _always
) -> Callable[[], None]:
    """Start to notify systemd, if it expects notifications.

    :param responds: see :class:`Notifier`
    :param is_started: see :class:`Notifier`
    :returns: function that notifies systemd of the stop
    """
    notifier = Notifier.from_environment(responds, is_started=is_started)
    if notifier is None:
        return _nothing
    notifier.start()
    return notifier.stop


def _nothing() -> None:
    """Stop nothing."""
