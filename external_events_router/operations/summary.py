"""The overall state of the router, from the database: one sentence, and the numbers for it."""

from __future__ import annotations

from typing import Any
from typing import cast

import sqlalchemy as sa

from external_events_router.db import models
from external_events_router.db import session
from external_events_router.journal import completeness
from external_events_router.journal import records
from external_events_router.journal import timeline
from external_events_router.operations import journal
from external_events_router.resolver import host_states
from external_events_router.resolver.hold import base
from external_events_router.resolver.hold import statistics

_breakers = cast(sa.Table, models.OpenBreaker.__table__)

#: Seconds before now in which gaps of the journal are reported.
RECENT = 3600

#: Seconds for which an event may be held before the state is a problem.
LONG_HELD = 60.0


def summary(database: session.Database, rows: journal.Journal) -> dict[str, Any]:
    """Return the state as plain data.

    :param database: of held events and host states
    :param rows: the journal
    :raises DatabaseUnavailable: a database cannot be read
    """
    counts = statistics.Statistics(database).read()
    silent = _open_breakers(database)
    now = rows.reader.now()
    workers = [
        worker
        for worker in completeness.workers(rows.database, now, now)
        if worker.stopped_at is None and worker.record != 'none'
    ]
    problems = _problems(counts, silent, has_workers=bool(workers))
    return {
        'time': timeline.utc(now),
        'state': 'problem' if problems else 'ok',
        'sentence': ' '.join(problems) or 'All hosts respond, and no event is held for long.',
        'held': counts.by_state[base.State.HELD],
        'held_oldest_seconds': round(counts.oldest, 3),
        'ended': {
            str(state): number for state, number in counts.by_state.items() if state is not base.State.HELD
        },
        'unresponsive_hosts': silent,
        'workers': len(workers),
        'journal_gaps': [
            {
                'from': timeline.utc(gap.from_at),
                'to': timeline.utc(gap.to_at),
                'reason': str(gap.reason),
                'worker': gap.worker_name,
            }
            for gap in rows.gaps(now - RECENT * records.SECOND, now)[-MAX_GAPS:]
        ],
    }


#: Gaps of the journal that are returned at most, the newest ones.
MAX_GAPS = 20


def _problems(counts: statistics.Counts, silent: int, *, has_workers: bool) -> list[str]:
    found = []
    if not has_workers:
        found.append('No resolver worker writes to the journal.')
    if silent:
        found.append(f'{silent} hosts do not acknowledge events.')
    if counts.oldest > LONG_HELD:
        held = counts.by_state[base.State.HELD]
        found.append(f'{held} events are held, the oldest for {counts.oldest:.0f} s.')
    return found


@session.retried
def _open_breakers(database: session.Database) -> int:
    """Return the number of hosts whose circuit breaker is open in a worker."""
    with database.reading() as connection:
        valid = _breakers.c.seen_at > database.now(connection) - host_states.VALID
        query = sa.select(sa.func.count(_breakers.c.host.distinct())).where(valid)
        return int(connection.scalar(query) or 0)
