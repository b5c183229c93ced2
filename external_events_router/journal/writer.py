"""The thread that writes the journal of a worker.

Entries wait in a bounded queue. A thread that adds an entry never waits: if the queue is full, the entry is
dropped, and the period of the dropped entries becomes a gap in the journal. A transaction
contains the rows of many entries, the gaps since the last one, and the progress of the worker.
So the row of a worker always states correctly which of its records are in the journal.
"""

from __future__ import annotations

import collections
from collections.abc import Sequence
import dataclasses
import logging
import threading
import time
from typing import Any

from oslo_log import log

from external_events_router import exceptions
from external_events_router import throttled_log
from external_events_router.journal import entries
from external_events_router.journal import reasons
from external_events_router.journal import store
from external_events_router.metrics import recorder
from external_events_router.process import essential
from external_events_router.process import parts

LOG = log.getLogger(__name__)

#: Seconds between two transactions, and maximum number of records in a transaction.
INTERVAL = 0.25
MOST = 500

#: Maximum number of gaps of other workers, and of API processes, that wait to be recorded.
MOST_MISSED = 100
MOST_PRESENCES = 10_000

#: Seconds between two transactions without records, and seconds between two checks of the clock of the
#: database and of workers that have stopped writing.
HEARTBEAT = 3.0
CHECK_INTERVAL = 30.0

#: Seconds after which a worker that does not write counts as ended if it has no successor. It is long,
#: because a worker that cannot reach the database still receives events, and until it counts as ended
#: no period after its last record is complete.
SILENCE = 86400.0

#: Seconds between attempts while the database is unavailable; also during a stop.
PAUSE = 1.0
STOP_INTERVAL = 0.1

#: Seconds by which a request may exceed its maximum duration.
OVERRUN = 1.0


#: See ``entries.Presence``.
Presences = Sequence[entries.Presence]


@dataclasses.dataclass(slots=True)
class _Group:
    """Entries that are written together, with their sequence numbers.

    :ivar complete_until: all earlier requests are in this group, in an earlier one, or in ``lost``
    :ivar tried: a transaction with it has failed, but may have been committed
    :ivar divided: its entries are written one by one
    """

    entries: Sequence[tuple[int, entries.Entry]]
    complete_until: float
    seq: int
    lost: list[_Drops]
    presences: Presences = ()
    tried: bool = False
    divided: bool = False


@dataclasses.dataclass(slots=True)
class _Drops:
    """Entries that were not written, as instants of ``time.monotonic()`` and sequence numbers."""

    reason: reasons.GapReason
    since: float
    until: float
    from_seq: int
    to_seq: int
    missing: int

    def add(self, entry: entries.Entry, seq: int) -> None:
        """Drop another entry."""
        self.since = min(self.since, entry.since)
        self.until = max(self.until, entry.until)
        self.to_seq = seq + entry.size - 1
        self.missing += entry.size


class Writer:
    """The queue and the thread. Thread-safe."""

    def __init__(
        self,
        journal: store.Store,
        identity: store.Identity,
        *,
        queue_size: int,
        longest: float,
    ) -> None:
        """:param queue_size: records that may wait
        :param longest: seconds that a request may take
        """
        self._store = journal
        self._identity = identity
        self._queue_size = queue_size
        self._settle = longest + OVERRUN
        self._away = throttled_log.ThrottledLog(LOG)
        self._full = throttled_log.ThrottledLog(LOG)
        self._broken = throttled_log.ThrottledLog(LOG)
        self._stopped = threading.Event()
        self._started = time.monotonic()
        self._deadline: float | None = None
        # Guards _queue, _size, _seq, _drops, _missed, _presences and _failing.
        self._lock = threading.Lock()
        self._queue: collections.deque[tuple[int, entries.Entry]] = collections.deque()
        self._size = 0
        self._seq = 0
        self._drops: _Drops | None = None
        self._missed: list[_Drops] = []
        self._presences: dict[int, entries.Presence] = {}
        self._failing = False
        # Used only by the thread: the number of the worker, the group that has failed, and the instants of
        # the last transaction and of the last check.
        self._worker: int | None = None
        self._group: _Group | None = None
        self._written_at = 0.0
        self._checked_at = 0.0
        self._thread = essential.EssentialThread(self._run, name='journal', is_stopped=self._stopped.is_set)

    def start(self) -> None:
        """Begin to write. Entries may be added before."""
        parts.ALL.add(parts.Kind.JOURNAL, self, Writer.status)
        self._thread.start()

    def status(self) -> parts.Status:
        """Return whether records can be written, and how many wait; see ``process.parts``."""
        details = {
            'records_waiting': self._size,
            'limit': self._queue_size,
            'records_lost': 0 if (drops := self._drops) is None else drops.missing,
        }
        return parts.Status('journal', parts.State.DEGRADED if self._failing else parts.State.OK, details)

    def add(self, entry: entries.Entry) -> None:
        """Add an entry to the queue, or drop it if the queue is full. Never waits."""
        size = entry.size
        with self._lock:
            seq = self._seq + 1
            self._seq += size
            if self._size + size <= self._queue_size:
                self._size += size
                self._queue.append((seq, entry))
                return
            self._drop(entry, seq)
        self._full.occurred(
            logging.WARNING,
            'The queue of the journal is full (%d records): records are not written, and the journal '
            'has a gap. Check the database of [journal] connection, or increase [journal] queue_size',
            self._queue_size,
        )

    def miss(self, number: int, *, seconds: float) -> None:
        """Record a gap of the last seconds, in which this number of requests did not reach this worker."""
        now = time.monotonic()
        missed = _Drops(reasons.GapReason.NOT_ROUTED, now - seconds, now, 0, 0, number)
        with self._lock:
            if len(self._missed) < MOST_MISSED:
                self._missed.append(missed)
                return
            last = self._missed[-1]
            last.since, last.until = min(last.since, missed.since), now
            last.missing += number

    def present(self, presence: entries.Presence) -> None:
        """Have the progress of an API process recorded, with the records that this worker has of it."""
        with self._lock:
            if len(self._presences) < MOST_PRESENCES or presence.id in self._presences:
                self._presences[presence.id] = presence

    def stop(self, timeout: float) -> None:
        """Write the queue as far as the time allows, and end.

        :param timeout: seconds
        """
        self._deadline = time.monotonic() + timeout
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(timeout + PAUSE)
        self._store.close()
        parts.ALL.remove(self)

    def _drop(self, entry: entries.Entry, seq: int) -> None:
        """Count an entry that is not written; called with the lock held."""
        if self._drops is None:
            reason = reasons.GapReason.DATABASE if self._failing else reasons.GapReason.QUEUE_FULL
            self._drops = _Drops(reason, entry.since, entry.until, seq, seq, 0)
        self._drops.add(entry, seq)
        recorder.current().journal_dropped(entry.size)

    def _run(self) -> None:
        while not self._stopped.wait(INTERVAL):
            self._write_some()
        while time.monotonic() < (self._deadline or 0.0):
            if self._write_some() and self._end():
                return
            time.sleep(STOP_INTERVAL)

    def _write_some(self) -> bool:
        """Write the whole queue.

        :returns: whether the queue is empty
        """
        try:
            self._connect()
            while True:
                self._group = self._group or self._take()
                has_records = self._group.entries or self._group.lost or self._group.presences
                if not has_records and not self._is_due():
                    self._group = None
                    break
                self._write(self._group)
                self._group = None
            self._check()
        except exceptions.DatabaseUnavailable as exc:
            self._failed(exc)
            return False
        except Exception as exc:  # the outermost frame of this thread's work
            LOG.exception('The journal was not written: unexpected error')
            self._failed(exc)
            return False
        if self._failing:
            with self._lock:
                self._failing = False
            self._away.over('The journal is written again')
        return True

    def _failed(self, exc: Exception) -> None:
        if self._group is not None:
            self._group.tried = True
        self._checked_at = 0.0
        with self._lock:
            self._failing = True
        self._away.occurred(
            logging.WARNING,
            'The journal is not written: %s. Up to %d records wait; further ones are dropped, and the '
            'journal will contain the gap. Deliveries are not affected',
            exc,
            self._queue_size,
        )
        self._stopped.wait(PAUSE)

    def _connect(self) -> None:
        """Compare the clocks if this is due, and register the worker if it has no number."""
        now = time.monotonic()
        if now - self._checked_at >= CHECK_INTERVAL or not self._checked_at:
            self._store.synchronize()
        if self._worker is None:
            self._worker = self._store.register(self._identity, self._started)
            self._checked_at = now

    def _check(self) -> None:
        """Check the other workers, at intervals."""
        now = time.monotonic()
        if not self._checked_at:
            # NOTE: the database was unavailable, perhaps for the other workers too. They get the time
            # to write again before one of them counts as ended.
            self._checked_at = now
        elif now - self._checked_at >= CHECK_INTERVAL:
            self._checked_at = now
            if ended := self._store.end_silent(SILENCE):
                LOG.warning('%d workers were killed or cannot write the journal; it has gaps', ended)

    def _is_due(self) -> bool:
        return time.monotonic() - self._written_at >= HEARTBEAT

    def _take(self) -> _Group:
        with self._lock:
            taken: list[tuple[int, entries.Entry]] = []
            records = 0
            while self._queue and (not taken or records + self._queue[0][1].size <= MOST):
                taken.append(self._queue.popleft())
                records += taken[-1][1].size
            self._size -= records
            seq = self._queue[0][0] - 1 if self._queue else self._seq
            # NOTE: entries are added when their requests end, in this order.
            added_until = self._queue[0][1].until if self._queue else time.monotonic()
            drops, self._drops = self._drops, None
            missed, self._missed = self._missed, []
            # NOTE: a presence is about records that came before it.
            presences = [] if self._queue else list(self._presences.values())
            if presences:
                self._presences = {}
        lost = [*([drops] if drops else []), *missed]
        return _Group(taken, added_until - self._settle, seq, lost, presences)

    def _write(self, group: _Group) -> None:
        assert self._worker is not None  # noqa: S101 - _connect has set it
        if group.tried and group.entries:
            done = self._store.written_seq(self._worker)
            if done >= group.seq and not group.divided:
                return
            group.entries = [(seq, entry) for seq, entry in group.entries if seq > done]
        if not self._insert(group):
            # Another worker recorded this worker as ended, with a gap.
            self._worker = self._store.register(self._identity, group.complete_until, again=True)
            if not self._insert(group):
                raise exceptions.DatabaseUnavailable(
                    reason=f'another worker has the name {self._identity.name}; [DEFAULT] host must be '
                    'different on each machine'
                )
        self._written_at = time.monotonic()

    def _insert(self, group: _Group) -> bool:
        """Write a group; if the database does not accept one of its rows, then each entry alone.

        :returns: false if another worker recorded this worker as ended
        """
        if not group.divided:
            try:
                return self._insert_all(group)
            except exceptions.DatabaseUnavailable as exc:
                if not store.is_about_rows(exc):
                    raise
                LOG.warning('The database does not accept records of the journal; leaving them out: %s', exc)
                group.divided = True
        while group.entries:
            seq, entry = group.entries[0]
            if not self._insert_alone(group, seq, entry):
                return False
            group.entries = group.entries[1:]
        return self._insert_all(group)

    def _insert_alone(self, group: _Group, seq: int, entry: entries.Entry) -> bool:
        last = seq + entry.size - 1
        alone = _Group([(seq, entry)], entry.until - self._settle, last, [])
        try:
            return self._insert_all(alone)
        except exceptions.DatabaseUnavailable as exc:
            if not store.is_about_rows(exc):
                raise
        group.lost.append(_dropped(entry, seq))
        return True

    def _insert_all(self, group: _Group) -> bool:
        assert self._worker is not None  # noqa: S101 - _connect has set it
        clock, rows = self._store.clock, self._rows(group)
        lost = [
            store.Lost(
                drops.reason,
                clock(drops.since),
                clock(drops.until),
                drops.from_seq or None,
                drops.to_seq or None,
                drops.missing,
            )
            for drops in group.lost
        ]
        until = clock(max(group.complete_until, self._started))
        is_written = self._store.write(
            self._worker, rows, store.Progress(until, group.seq, lost, group.presences)
        )
        if is_written:
            recorder.current().journal_written(sum(map(len, rows.values())))
        return is_written

    def _rows(self, group: _Group) -> dict[str, list[tuple[Any, ...]]]:
        """Return the rows of a group by table; an entry that causes an error becomes a gap."""
        assert self._worker is not None  # noqa: S101 - _connect has set it
        rows: dict[str, list[tuple[Any, ...]]] = {}
        failed: list[tuple[int, entries.Entry]] = []
        for seq, entry in group.entries:
            try:
                made = list(entry.rows(self._store.clock, self._worker, seq))
            except Exception as exc:  # the journal is written without it
                LOG.debug('A record of the journal cannot be written', exc_info=True)
                self._broken.occurred(
                    logging.ERROR,
                    'A record of the journal cannot be written because of an unexpected %s (log level '
                    'DEBUG has the traceback); the journal has a gap',
                    type(exc).__name__,
                )
                group.lost.append(_dropped(entry, seq))
                failed.append((seq, entry))
                continue
            for table, values in made:
                rows.setdefault(table, []).append(values)
        if failed:
            group.entries = [numbered for numbered in group.entries if numbered not in failed]
        return rows

    def _end(self) -> bool:
        assert self._worker is not None  # noqa: S101 - _connect has set it
        try:
            self._store.stop(self._worker, until=self._store.clock(time.monotonic()))
        except exceptions.DatabaseUnavailable as exc:
            LOG.warning('The stop of this worker is not in the journal, which will have a gap: %s', exc)
            return False
        return True


def _dropped(entry: entries.Entry, seq: int) -> _Drops:
    drops = _Drops(reasons.GapReason.DATABASE, entry.since, entry.until, seq, seq, 0)
    drops.add(entry, seq)
    recorder.current().journal_dropped(entry.size)
    return drops
