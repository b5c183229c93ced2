"""Deletes old records: small ranges of the primary keys, by one worker at a time.

A transaction deletes few rows, all of them older than any that is inserted, so it blocks no
writer. Between two transactions the thread waits for as long as the last one took.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import cast

from oslo_log import log
import sqlalchemy as sa

from external_events_router import exceptions
from external_events_router import throttled_log
from external_events_router.db import models
from external_events_router.db import session
from external_events_router.journal import records
from external_events_router.process import essential

LOG = log.getLogger(__name__)

#: Seconds between two checks for old records, and seconds for which only one worker may delete records.
INTERVAL = 60.0
LEASE = 180.0

#: Rows of one transaction.
ROWS = 1000

#: The only row of its table.
_ID = 1

#: Tables with records, and their column with the time. The events come first: while they are
#: deleted, a reader finds an event without its request, and not a request without its events.
_TABLES: tuple[tuple[sa.Table, str], ...] = (
    (cast(sa.Table, models.JournalEvent.__table__), 'received_at'),
    (cast(sa.Table, models.JournalEventHost.__table__), 'received_at'),
    (cast(sa.Table, models.JournalRequest.__table__), 'received_at'),
    (cast(sa.Table, models.JournalStep.__table__), 'at'),
    (cast(sa.Table, models.JournalRefusal.__table__), 'at'),
    (cast(sa.Table, models.JournalAction.__table__), 'at'),
)

_events = cast(sa.Table, models.JournalEvent.__table__)
_workers = cast(sa.Table, models.JournalWorker.__table__)
_gaps = cast(sa.Table, models.JournalGap.__table__)
_retention = cast(sa.Table, models.JournalRetention.__table__)


class Retention:
    """Deletes records that are too old, or beyond the limit. One thread may use it at a time."""

    def __init__(self, database: session.Database, *, keep: float, max_rows: int, owner: int) -> None:
        """:param keep: seconds
        :param max_rows: events
        :param owner: a number that no other worker has
        """
        self._database = database
        self._keep = int(keep * records.SECOND)
        self._max_rows = max_rows
        self._owner = owner

    def run(self, is_stopped: threading.Event) -> int:
        """Delete records, unless another worker is deleting them.

        :returns: number of rows
        :raises DatabaseUnavailable: the database cannot be asked
        """
        deleted = 0
        if not self._acquire():
            return deleted
        cutoff = self._cutoff()
        self._announce(cutoff)
        renew = time.monotonic() + LEASE / 3
        for table, column in _TABLES:
            while not is_stopped.is_set():
                began = time.monotonic()
                number = self._delete_some(table, table.c[column], cutoff)
                deleted += number
                if number < ROWS:
                    break
                if time.monotonic() > renew:
                    if not self._acquire():
                        return deleted
                    renew = time.monotonic() + LEASE / 3
                is_stopped.wait(time.monotonic() - began)
        self._delete_workers(cutoff)
        return deleted

    def close(self) -> None:
        """Close the connections."""
        self._database.close()

    @session.retried
    def _acquire(self) -> bool:
        """Become, or stay, the worker that deletes."""
        first = {'id': _ID, 'worker': 0, 'leased_until': 0, 'deleted_until': 0, 'balance': 0}
        with self._database.writing() as connection:
            self._database.insert_missing(connection, _retention, [first])
            now = int(self._database.now(connection) * records.SECOND)
            free = sa.or_(_retention.c.worker == self._owner, _retention.c.leased_until < now)
            taken = connection.execute(
                sa.update(_retention)
                .where(_retention.c.id == _ID, free)
                .values(worker=self._owner, leased_until=now + int(LEASE * records.SECOND))
            )
            return taken.rowcount > 0

    @session.retried
    def _cutoff(self) -> int:
        """Return the time before which records are deleted."""
        with self._database.reading() as connection:
            cutoff = int(self._database.now(connection) * records.SECOND) - self._keep
            written = connection.scalar(sa.select(sa.func.sum(_workers.c.written))) or 0
            balance = connection.scalar(sa.select(_retention.c.balance)) or 0
            excess = int(written) + int(balance) - self._max_rows
            if excess <= 0:
                return cutoff
            # NOTE: the time of the first row that stays. To reach it, the database reads the
            # index of the rows before it, and these are the rows to delete.
            first_kept = connection.scalar(
                sa.select(_events.c.received_at)
                .order_by(_events.c.received_at, _events.c.worker, _events.c.seq)
                .offset(min(excess, MOST_EXCESS))
                .limit(1)
            )
        return cutoff if first_kept is None else max(cutoff, int(first_kept))

    @session.retried
    def _announce(self, cutoff: int) -> None:
        """State from when the journal is complete, before anything is deleted."""
        with self._database.writing() as connection:
            connection.execute(
                sa.update(_retention)
                .where(_retention.c.id == _ID, _retention.c.deleted_until < cutoff)
                .values(deleted_until=cutoff)
            )

    @session.retried
    def _delete_some(self, table: sa.Table, at: sa.Column[int], cutoff: int) -> int:
        with self._database.writing() as connection:
            # NOTE: the end of a range of the primary key. MariaDB and SQLite could limit the
            # delete itself, PostgreSQL cannot.
            end = connection.scalar(sa.select(at).where(at < cutoff).order_by(at).offset(ROWS - 1).limit(1))
            before = at < cutoff if end is None else at <= end
            number = connection.execute(sa.delete(table).where(before)).rowcount
            if table is _events and number:
                connection.execute(
                    sa.update(_retention)
                    .where(_retention.c.id == _ID)
                    .values(balance=_retention.c.balance - number)
                )
        return int(number)

    @session.retried
    def _delete_workers(self, cutoff: int) -> None:
        """Delete workers and gaps that ended before all records that are left."""
        with self._database.writing() as connection:
            connection.execute(sa.delete(_gaps).where(_gaps.c.to_at < cutoff))
            ended = connection.execute(
                sa.select(_workers.c.id, _workers.c.written).where(_workers.c.stopped_at < cutoff)
            ).all()
            if ended:
                connection.execute(sa.delete(_workers).where(_workers.c.id.in_([row.id for row in ended])))
                connection.execute(
                    sa.update(_retention)
                    .where(_retention.c.id == _ID)
                    .values(balance=_retention.c.balance + sum(row.written for row in ended))
                )


#: Rows by which the journal is shortened at a time because of ``max_rows``.
MOST_EXCESS = 100_000


class Cleaner:
    """The thread of the retention."""

    def __init__(self, retention: Retention) -> None:
        self._retention = retention
        self._stopped = threading.Event()
        self._away = throttled_log.ThrottledLog(LOG)
        self._thread = essential.EssentialThread(
            self._run, name='journal-retention', is_stopped=self._stopped.is_set
        )

    def start(self) -> None:
        """Begin to look for old records."""
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """End after the transaction that runs.

        :param timeout: seconds
        """
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(timeout)
        self._retention.close()

    def _run(self) -> None:
        pause = INTERVAL
        while not self._stopped.wait(pause):
            pause = INTERVAL
            try:
                if self._retention.run(self._stopped) >= MOST_EXCESS:
                    # NOTE: one turn shortens the journal by a limited number of rows, and there may be
                    # more.
                    pause = 0.0
            except exceptions.DatabaseUnavailable as exc:
                self._away.occurred(logging.WARNING, 'Old records of the journal are not deleted: %s', exc)
            except Exception:  # the outermost loop of this thread
                LOG.exception('Old records of the journal are not deleted: unexpected error')
            else:
                self._away.over('Old records of the journal are deleted again')
