"""Numbers of the hold for monitoring: events by state, and the age of the oldest held one."""

from __future__ import annotations

from collections.abc import Mapping
import dataclasses
from typing import cast

import sqlalchemy as sa

from external_events_router.db import models
from external_events_router.db import session
from external_events_router.resolver.hold import base

_held = cast(sa.Table, models.HeldEvent.__table__)
_ended = cast(sa.Table, models.EndedEvent.__table__)


@dataclasses.dataclass(frozen=True, slots=True)
class Counts:
    """The content of the hold.

    :ivar by_state: number of events in each state
    :ivar oldest: age of the oldest held event in seconds; 0: there are no held events
    """

    by_state: Mapping[base.State, int]
    oldest: float


class Statistics:
    """Reads the numbers. Thread-safe."""

    def __init__(self, database: session.Database) -> None:
        self._database = database

    @session.retried
    def read(self) -> Counts:
        """Count the events now.

        :raises DatabaseUnavailable: the database is unavailable
        """
        of_states = sa.select(_ended.c.state, sa.func.count()).group_by(_ended.c.state)
        # NOTE: rows are numbered in the order in which events are held. held_at has no index.
        first = sa.select(_held.c.held_at).order_by(_held.c.seq).limit(1)
        with self._database.reading() as connection:
            now = self._database.now(connection)
            held = connection.scalar(sa.select(sa.func.count()).select_from(_held)) or 0
            since = connection.scalar(first)
            ended: dict[str, int] = dict(connection.execute(of_states).tuples().all())
        counts = {state: ended.get(str(state), 0) for state in base.State} | {base.State.HELD: held}
        return Counts(counts, 0.0 if since is None else max(0.0, now - since))
