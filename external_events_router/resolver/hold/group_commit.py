"""Group commit for the hold: requests that arrive during a transaction share the next transaction.

Most of the time of a transaction is the write to the disk, so a transaction with many requests takes
little longer than a transaction with one. There is no timer: if no transaction is running, a request is
written immediately. Each caller waits until its own deadline. A request whose caller has stopped waiting
was answered 503. It is not written if its transaction has not started, or if no caller waits for any
request of the transaction. Otherwise it is written with the other requests: a rollback would use up their
remaining time, and on a busy machine one late request would cause 503 for all.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
from concurrent import futures
import enum
import functools
import threading
import time
from typing import Protocol

from oslo_log import log

from external_events_router import exceptions
from external_events_router.concurrency import bounded_pool
from external_events_router.db import session
from external_events_router.resolver.hold import base

LOG = log.getLogger(__name__)

#: Maximum number of transactions that run or hang at the same time, per worker.
THREADS = 4

#: Seconds before the next transaction starts in parallel for a waiting request: the running transaction
#: may wait for a row that another worker has locked.
PARALLEL_AFTER = 0.1

#: Maximum number of events in one transaction, unless a single request has more.
MOST = 1000

#: Seconds after its deadline that a caller still waits for a commit that has started.
COMMIT_TIME = 0.05


class Write(Protocol):
    """Writes requests in one transaction: ``store.HoldStore.hold_all``."""

    def __call__(self, requests: Sequence[base.Request], *, before_commit: Callable[[], None]) -> None: ...


class _Step(enum.Enum):
    WAITING = enum.auto()
    WRITING = enum.auto()
    COMMITTING = enum.auto()
    GIVEN_UP = enum.auto()


class _Entry(futures.Future[None]):
    """A request and its step, which is guarded by the lock of the :class:`GroupCommit`."""

    def __init__(self, request: base.Request) -> None:
        super().__init__()
        self.request = request
        self.step = _Step.WAITING


class _AllGivenUp(Exception):
    """Raised before a commit to roll back a transaction for which no caller waits."""


class GroupCommit:
    """Writes requests to the hold, for many callers at the same time. Thread-safe."""

    def __init__(self, write: Write, *, threads: int = THREADS) -> None:
        """:param threads: maximum number of transactions at the same time"""
        self._write_all = write
        self._threads = threads
        self._pool = bounded_pool.BoundedPool(threads, 'hold')
        # Guards the attributes below, and the step of each entry.
        self._lock = threading.Lock()
        self._waiting: list[_Entry] = []
        self._running = 0

    def write(self, request: base.Request, *, deadline: float) -> None:
        """Write a request. It is durable when this method returns.

        :param deadline: an instant of ``time.monotonic()``
        :raises TimeoutError: it was not written in time; it may be written later if its transaction
            has started
        :raises DatabaseUnavailable: it was not written
        """
        entry = _Entry(request)
        with self._lock:
            self._waiting.append(entry)
            alone = not self._running
            self._running += alone
        if alone:
            self._start()
        parallel_at = time.monotonic() + PARALLEL_AFTER
        ended = self._wait(entry, min(deadline, parallel_at))
        if not ended and parallel_at < deadline:
            self._begin_beside(entry)
            ended = self._wait(entry, deadline)
        if not ended and not self._give_up(entry):
            self._wait(entry, deadline + COMMIT_TIME)
            with self._lock:
                entry.step = _Step.GIVEN_UP
        entry.result(0.0)

    @property
    def waiting(self) -> int:
        """The number of requests that wait for a transaction."""
        return len(self._waiting)

    def close(self) -> None:
        """Accept no more requests; end the threads after their current transactions."""
        self._pool.close()

    def _wait(self, entry: _Entry, until: float) -> bool:
        """Return whether the entry has ended at this time."""
        try:
            entry.exception(max(0.0, until - time.monotonic()))
        except TimeoutError:
            return False
        return True

    def _begin_beside(self, entry: _Entry) -> None:
        with self._lock:
            more = entry.step is _Step.WAITING and self._running < self._threads
            self._running += more
        if more:
            self._start()

    def _give_up(self, entry: _Entry) -> bool:
        """Mark an entry as abandoned; returns False if its commit has started."""
        with self._lock:
            if entry.step is _Step.COMMITTING:
                return False
            entry.step = _Step.GIVEN_UP
            if entry in self._waiting:
                self._waiting.remove(entry)
            return True

    def _start(self) -> None:
        try:
            started = not self._pool.submit(self._work).cancelled()
        except RuntimeError as exc:
            LOG.error('A thread that holds events cannot be started: %s', exc)
            started = False
        if not started:
            with self._lock:
                self._running -= 1
                entries, self._waiting = self._waiting, []
            for entry in entries:
                entry.set_exception(TimeoutError())

    def _work(self) -> None:
        while entries := self._take():
            try:
                self._write(entries)
            except Exception:  # the outermost frame of this thread's work
                LOG.exception(
                    'Could not hold events because of an unexpected error; they get 503 and are lost'
                )

    def _take(self) -> list[_Entry]:
        """Return the entries of the next transaction; an empty list ends this thread."""
        taken: list[_Entry] = []
        with self._lock:
            number = 0
            for entry in self._waiting:
                number += len(entry.request.items)
                if taken and number > MOST:
                    break
                entry.step = _Step.WRITING
                taken.append(entry)
            del self._waiting[: len(taken)]
            self._running -= not taken
        return taken

    def _write(self, entries: Sequence[_Entry]) -> None:
        entries = self._still_waited_for(entries)
        if not entries:
            return
        try:
            self._write_all(
                [entry.request for entry in entries],
                before_commit=functools.partial(self._begin_commit, entries),
            )
        except _AllGivenUp:
            return
        except Exception as exc:
            self._failed(entries, exc)
        else:
            for entry in entries:
                entry.set_result(None)

    def _failed(self, entries: Sequence[_Entry], exc: Exception) -> None:
        with self._lock:
            for entry in entries:
                if entry.step is _Step.COMMITTING:
                    entry.step = _Step.WRITING
        away = isinstance(exc, exceptions.DatabaseUnavailable) and session.is_away(exc)
        if away or len(entries) == 1:
            for entry in entries:
                entry.set_exception(exc)
            return
        # NOTE: the database refused one of the requests. The other requests must not be lost because of it.
        LOG.warning('Could not hold %d requests together, holding each separately: %s', len(entries), exc)
        for entry in entries:
            self._write([entry])

    def _still_waited_for(self, entries: Sequence[_Entry]) -> list[_Entry]:
        with self._lock:
            return [entry for entry in entries if entry.step is not _Step.GIVEN_UP]

    def _begin_commit(self, entries: Sequence[_Entry]) -> None:
        with self._lock:
            waited_for = [entry for entry in entries if entry.step is not _Step.GIVEN_UP]
            if not waited_for:
                raise _AllGivenUp
            for entry in waited_for:
                entry.step = _Step.COMMITTING
