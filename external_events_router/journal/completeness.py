"""Which periods of the journal are complete, and why others are not.

"No event arrived between T1 and T2" is true only if every worker that could receive an event
in this period has written all its records. Each worker records the time until which its records
are complete, its gaps, its start and its stop. The successor of a killed worker records the end of
it. A worker that is only silent may run and receive events, so its record stays open until then.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from typing import cast

import sqlalchemy as sa

from external_events_router.db import models
from external_events_router.db import session
from external_events_router.journal import reasons
from external_events_router.journal import records

#: Microseconds after which a worker that has not written is silent. A worker that runs and reaches the
#: database writes every few seconds.
SILENCE = 30 * records.SECOND

_workers = cast(sa.Table, models.JournalWorker.__table__)
_gaps = cast(sa.Table, models.JournalGap.__table__)
_retention = cast(sa.Table, models.JournalRetention.__table__)


@session.retried
def gaps(database: session.Database, since: int, until: int) -> list[records.Gap]:
    """For which parts of a period records may be missing, and why.

    :param since: microseconds by the clock of the database, as ``until``
    :returns: in the order of their beginnings; empty: the record of the period is complete
    :raises DatabaseUnavailable: the database cannot be asked
    """
    overlapping = sa.and_(
        _workers.c.started_at <= until,
        sa.or_(_workers.c.stopped_at.is_(None), _workers.c.stopped_at >= since),
    )
    recorded = sa.select(_gaps, _workers.c.name).outerjoin(_workers, _workers.c.id == _gaps.c.worker)
    with database.reading() as connection:
        silent_before = int(database.now(connection) * records.SECOND) - SILENCE
        deleted_until = connection.scalar(sa.select(_retention.c.deleted_until)) or 0
        workers = connection.execute(sa.select(_workers).where(overlapping)).all()
        lost = connection.execute(recorded.where(_gaps.c.to_at >= since, _gaps.c.from_at <= until)).all()
    found = [_recorded(row) for row in lost]
    found += [gap for row in workers if (gap := _of_worker(row, since, until, silent_before))]
    found += _without_worker(workers, since, until)
    if deleted_until > since:
        found.append(_gap(reasons.GapReason.DELETED, since, min(until, deleted_until)))
    return sorted(found, key=lambda gap: (gap.from_at, gap.to_at))


@session.retried
def written_until(database: session.Database) -> int | None:
    """Return until when all workers that run have written their records; None: no worker runs.

    :raises DatabaseUnavailable: the database cannot be asked
    """
    running = sa.select(sa.func.min(_workers.c.written_until)).where(_workers.c.stopped_at.is_(None))
    with database.reading() as connection:
        found: int | None = connection.scalar(running)
    return found


@session.retried
def workers(database: session.Database, since: int, until: int) -> list[records.WorkerRow]:
    """Return the workers that ran in a period, in the order of their starts.

    :param since: microseconds by the clock of the database, as ``until``
    :raises DatabaseUnavailable: the database cannot be asked
    """
    overlapping = sa.and_(
        _workers.c.started_at <= until,
        sa.or_(_workers.c.stopped_at.is_(None), _workers.c.stopped_at >= since),
    )
    query = sa.select(_workers).where(overlapping).order_by(_workers.c.started_at, _workers.c.id)
    with database.reading() as connection:
        rows = connection.execute(query).mappings().all()
    return [records.WorkerRow(**{**row, 'killed': bool(row['killed'])}) for row in rows]


def _of_worker(row: Any, since: int, until: int, silent_before: int) -> records.Gap | None:
    """Return the period that one worker may not have written, in addition to the recorded gaps.

    :param silent_before: a worker that wrote last before this time is silent
    """
    if row.record != 'all':
        end = until if row.stopped_at is None else min(until, row.stopped_at)
        return _gap(reasons.GapReason.NOT_RECORDED, max(since, row.started_at), end, row)
    if row.stopped_at is None and row.written_until < until:
        silent = row.last_seen_at < silent_before
        reason = reasons.GapReason.SILENT if silent else reasons.GapReason.NOT_WRITTEN_YET
        return _gap(reason, max(since, row.written_until), until, row)
    return None


def _without_worker(rows: Iterable[Any], since: int, until: int) -> list[records.Gap]:
    """Return the parts of a period in which no worker ran."""
    found, reached = [], since
    for row in sorted(rows, key=lambda row: row.started_at):
        if row.started_at > reached:
            found.append(_gap(reasons.GapReason.NO_WORKER, reached, row.started_at))
        reached = max(reached, until if row.stopped_at is None else row.stopped_at)
    if reached < until:
        found.append(_gap(reasons.GapReason.NO_WORKER, reached, until))
    return found


def _recorded(row: Any) -> records.Gap:
    return records.Gap(
        worker=row.worker,
        worker_name=row.name,
        reason=reasons.GapReason(row.reason),
        from_at=row.from_at,
        to_at=row.to_at,
        from_seq=row.from_seq,
        to_seq=row.to_seq,
        missing=row.missing,
    )


def _gap(reason: reasons.GapReason, from_at: int, to_at: int, worker: Any = None) -> records.Gap:
    return records.Gap(
        worker=None if worker is None else worker.id,
        worker_name=None if worker is None else worker.name,
        reason=reason,
        from_at=from_at,
        to_at=to_at,
        from_seq=None,
        to_seq=None,
        missing=None,
    )
