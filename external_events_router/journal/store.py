"""The journal in SQL, as its writer needs it: rows in groups, workers, gaps.

Each method is one transaction. How many rows are inserted at little cost is in ``bulk``.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import random
import time
from typing import Any
from typing import cast

from oslo_db import exception as db_exception
import sqlalchemy as sa

from external_events_router import exceptions
from external_events_router.db import models
from external_events_router.db import session
from external_events_router.journal import bulk
from external_events_router.journal import entries
from external_events_router.journal import reasons
from external_events_router.journal import records

_workers = cast(sa.Table, models.JournalWorker.__table__)
_gaps = cast(sa.Table, models.JournalGap.__table__)


#: The service of API processes without a resolver of their own.
API = 'external-events-api'


@dataclasses.dataclass(frozen=True, slots=True)
class Identity:
    """A worker, as its row describes it; see ``records.WorkerRow``."""

    name: str
    service: str
    host: str
    pid: int
    record: str


@dataclasses.dataclass(frozen=True, slots=True)
class Lost:
    """Records that were not written; times in microseconds."""

    reason: reasons.GapReason
    from_at: int
    to_at: int
    from_seq: int | None
    to_seq: int | None
    missing: int


@dataclasses.dataclass(frozen=True, slots=True)
class Progress:
    """How far a worker has written.

    :ivar until: see ``records.WorkerRow.written_until``
    :ivar seq: the sequence number of the last record
    :ivar lost: gaps to be recorded
    :ivar presences: processes whose records it writes
    """

    until: int
    seq: int
    lost: Sequence[Lost] = ()
    presences: Sequence[entries.Presence] = ()


class Store:
    """Writes the journal. One thread may use it at a time."""

    def __init__(self, database: session.Database) -> None:
        self._database = database
        self._insert_presence = database.insert_or_merge(_workers, _merge_presence)
        # Processes whose start was recorded, and so the end of their predecessors.
        self._present: set[int] = set()
        # Microseconds of the database at the instant 0 of time.monotonic().
        self._offset: float | None = None

    def close(self) -> None:
        """Close the connections."""
        self._database.close()

    def clock(self, instant: float) -> int:
        """Return the time of the database, in microseconds, at an instant of ``time.monotonic()``.

        :func:`synchronize` must have succeeded.
        """
        assert self._offset is not None  # noqa: S101 - see above
        return int(self._offset + instant * records.SECOND)

    def synchronize(self) -> None:
        """Read the clock of the database.

        :raises DatabaseUnavailable: the database cannot be asked
        """
        with session.translated(), self._database.reading() as connection:
            before = time.monotonic()
            now = self._database.now(connection)
            middle = (before + time.monotonic()) / 2
        self._offset = (now - middle) * records.SECOND

    def register(self, identity: Identity, started: float, *, again: bool = False) -> int:
        """Record the start of a worker. A predecessor of the same name was killed: record that, too.

        :param started: an instant of ``time.monotonic()``
        :param again: the worker still runs, but another worker recorded its end; then an earlier worker of
            the same name is not its predecessor
        :returns: the number of the incarnation
        :raises DatabaseUnavailable: nothing is recorded
        """
        at, now = self.clock(started), self.clock(time.monotonic())
        with session.translated(), self._database.writing() as connection:
            if not again:
                self._end_killed(connection, _workers.c.name == identity.name, now=now)
            new = {
                **dataclasses.asdict(identity),
                'started_at': at,
                'last_seen_at': now,
                'written_until': at,
                'stopped_at': None,
                'killed': 0,
                'written_seq': 0,
                'written': 0,
                'dropped': 0,
            }
            made = connection.execute(sa.insert(_workers).values(new)).inserted_primary_key
            assert made is not None  # noqa: S101 - all supported databases return it
            return int(made[0])

    def write(self, worker: int, rows: Mapping[str, Sequence[tuple[Any, ...]]], progress: Progress) -> bool:
        """Insert rows, and record the progress of the worker in the same transaction.

        :param rows: table name to rows
        :returns: false if nothing was written, because another worker recorded this worker as ended
        :raises DatabaseUnavailable: nothing was written, or the answer to the commit was lost
        """
        now = self.clock(time.monotonic())
        with session.translated(), self._database.writing() as connection:
            dropped = sum(lost.missing for lost in progress.lost)
            mine = (
                sa.update(_workers)
                .where(_workers.c.id == worker, _workers.c.stopped_at.is_(None))
                .values(
                    last_seen_at=now,
                    written_until=progress.until,
                    written_seq=progress.seq,
                    written=_workers.c.written + len(rows.get(models.JournalEvent.__tablename__, ())),
                    dropped=_workers.c.dropped + dropped,
                )
            )
            if not connection.execute(mine).rowcount:
                return False
            for table, values in rows.items():
                bulk.insert(connection, table, entries.COLUMNS[table], values)
            if progress.lost:
                gaps = [{'worker': worker, **dataclasses.asdict(lost)} for lost in progress.lost]
                connection.execute(sa.insert(_gaps), gaps)
            for presence in progress.presences:
                self._record(connection, presence, now)
        self._present.update(presence.id for presence in progress.presences)
        return True

    def _record(self, connection: sa.Connection, presence: entries.Presence, now: int) -> None:
        if presence.id not in self._present:
            before = sa.and_(_workers.c.name == presence.name, _workers.c.id != presence.id)
            self._end_killed(connection, before, now=now)
        until = self.clock(presence.complete_until)
        row = {
            'id': presence.id,
            'name': presence.name,
            'service': API,
            'host': presence.host,
            'pid': presence.pid,
            'record': presence.record,
            'started_at': self.clock(presence.since),
            'last_seen_at': now,
            'written_until': until,
            'stopped_at': until if presence.is_stopped else None,
            'killed': 0,
            'written_seq': 0,
            'written': 0,
            'dropped': 0,
        }
        connection.execute(self._insert_presence, [row])

    def append(self, steps: Sequence[entries.Step], *, actor: str) -> None:
        """Record steps that an operator took, outside of any worker.

        :param actor: the operator
        :raises DatabaseUnavailable: nothing is recorded
        """
        rows = [
            values
            for step in steps
            for _table, values in dataclasses.replace(step, actor=actor).rows(
                # NOTE: no worker has the number 0, and its records are not counted.
                self.clock,
                0,
                random.randrange(1, 2**53),  # noqa: S311 - no secret
            )
        ]
        with session.translated(), self._database.writing() as connection:
            table = models.JournalStep.__tablename__
            bulk.insert(connection, table, entries.COLUMNS[table], rows)

    def written_seq(self, worker: int) -> int:
        """Return the sequence number up to which the records of a worker are in the journal.

        :raises DatabaseUnavailable: the database cannot be asked
        """
        # NOTE: with a lock, so that it waits for a transaction of this worker whose connection was lost
        # and which the database is still committing.
        query = sa.select(_workers.c.written_seq).where(_workers.c.id == worker).with_for_update()
        with session.translated(), self._database.writing() as connection:
            found = connection.scalar(query)
        return int(found or 0)

    def stop(self, worker: int, *, until: int) -> None:
        """Record the stop of a worker, which has written everything.

        :raises DatabaseUnavailable: nothing is recorded
        """
        with session.translated(), self._database.writing() as connection:
            connection.execute(
                sa.update(_workers)
                .where(_workers.c.id == worker, _workers.c.stopped_at.is_(None))
                .values(last_seen_at=until, written_until=until, stopped_at=until)
            )

    def end_silent(self, silence: float, *, worker: int | None = None) -> int:
        """Record the end of workers that have not written for a number of seconds.

        :param worker: only this worker
        :returns: their number
        :raises DatabaseUnavailable: nothing is recorded
        """
        now = self.clock(time.monotonic())
        silent = _workers.c.last_seen_at < now - int(silence * records.SECOND)
        if worker is not None:
            silent = sa.and_(silent, _workers.c.id == worker)
        with session.translated(), self._database.writing() as connection:
            return self._end_killed(connection, silent, now=now)

    def _end_killed(self, connection: sa.Connection, which: sa.ColumnElement[bool], *, now: int) -> int:
        """Record the end, and the gap, of workers that were killed."""
        query = sa.select(_workers).where(which, _workers.c.stopped_at.is_(None)).with_for_update()
        killed = connection.execute(query).all()
        if not killed:
            return 0
        connection.execute(
            sa.update(_workers)
            .where(_workers.c.id.in_([row.id for row in killed]))
            .values(stopped_at=now, killed=1)
        )
        gaps = [
            {
                'worker': row.id,
                'reason': str(reasons.GapReason.KILLED),
                'from_at': row.written_until,
                'to_at': now,
                'from_seq': row.written_seq + 1,
                'to_seq': None,
                'missing': None,
            }
            for row in killed
            if row.record != 'none'
        ]
        if gaps:
            connection.execute(sa.insert(_gaps), gaps)
        return len(killed)


def _merge_presence(row: Any, proposed: Any) -> Sequence[tuple[str, Any]]:
    # NOTE: messages of a process may be written out of order, so its stop stays. If another worker took it
    # for dead, it goes on.
    stopped_at = sa.func.coalesce(row['stopped_at'], proposed['stopped_at'])
    return [
        ('stopped_at', sa.case((row['killed'] == 1, proposed['stopped_at']), else_=stopped_at)),
        ('killed', sa.literal(0)),
        ('last_seen_at', proposed['last_seen_at']),
        ('written_until', proposed['written_until']),
    ]


def is_about_rows(exc: exceptions.DatabaseUnavailable) -> bool:
    """Return whether the database refused a row; then the other rows may be written without it."""
    duplicates = (db_exception.DBDuplicateEntry, sa.exc.IntegrityError)
    return isinstance(exc, exceptions.DatabaseRefused) or isinstance(exc.__cause__, duplicates)
