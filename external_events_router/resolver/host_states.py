"""Stores the last reports of hosts and the open circuit breakers of workers, for ``host list``.

A worker writes both together, on a separate thread, every :data:`INTERVAL` seconds. While the database is
unavailable, the latest state waits. Nothing in the delivery of events depends on these tables.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import logging
import threading
from typing import Any
from typing import cast

from oslo_log import log
import sqlalchemy as sa

from external_events_router import exceptions
from external_events_router import throttled_log
from external_events_router.db import models
from external_events_router.db import session
from external_events_router.process import essential

LOG = log.getLogger(__name__)

_reports = cast(sa.Table, models.HostReport.__table__)
_breakers = cast(sa.Table, models.OpenBreaker.__table__)

#: Seconds between two transactions.
INTERVAL = 5.0

#: Seconds after which a worker writes the rows of its open breakers again, and seconds after which a row
#: is ignored, because its worker has ended.
REFRESH = 30.0
VALID = 120.0

#: Seconds after which the report of a host that reports no longer is deleted, and between two deletions.
KEPT = 30 * 86400.0
DELETE_INTERVAL = 3600.0

#: Rows of one statement.
ROWS = 500


@dataclasses.dataclass(frozen=True, slots=True)
class State:
    """The stored state of a host.

    :ivar reported_at: time of its last report, seconds since the epoch; None: it never reported
    :ivar breakers: workers whose circuit breaker is open
    """

    reported_at: float | None = None
    breakers: int = 0


class HostStateStore:
    """The two tables. Thread-safe."""

    def __init__(self, database: session.Database) -> None:
        self._database = database
        self._insert_report = database.insert_or_merge(_reports, _replace_report)

    @session.retried
    def write(self, worker: str, *, reported: Collection[str], breakers: Collection[str] | None) -> None:
        """Write what has changed.

        :param reported: hosts that have reported since the last call
        :param breakers: all hosts whose breaker is open in the worker; None: unchanged
        :raises DatabaseUnavailable: nothing was written
        """
        with self._database.writing() as connection:
            now = self._database.now(connection)
            for some in _chunks(sorted(reported)):
                rows: list[dict[str, Any]] = [{'host': host, 'reported_at': now} for host in some]
                connection.execute(self._insert_report, rows)
            if breakers is None:
                return
            connection.execute(sa.delete(_breakers).where(_breakers.c.worker == worker))
            for some in _chunks(sorted(breakers)):
                rows = [{'worker': worker, 'host': host, 'seen_at': now} for host in some]
                connection.execute(sa.insert(_breakers), rows)

    @session.retried
    def delete_old(self) -> int:
        """Delete the reports of hosts that have not reported for :data:`KEPT`.

        :returns: their number
        :raises DatabaseUnavailable: nothing was deleted
        """
        with self._database.writing() as connection:
            before = self._database.now(connection) - KEPT
            # NOTE: first read without locks, because the table has no index of the time.
            old = connection.scalars(sa.select(_reports.c.host).where(_reports.c.reported_at < before)).all()
            for some in _chunks(sorted(old)):
                condition = sa.and_(_reports.c.host.in_(some), _reports.c.reported_at < before)
                connection.execute(sa.delete(_reports).where(condition))
        return len(old)

    @session.retried
    def read(self, hosts: Collection[str] | None = None) -> tuple[float, Mapping[str, State]]:
        """Read the states of all hosts that have one.

        :param hosts: only the states of these hosts; None: of all hosts
        :returns: the time of the database, and host to state
        :raises DatabaseUnavailable: the database cannot be asked
        """
        of_reports, of_breakers = (
            () if hosts is None else (self._database.among(table.c.host, hosts),)
            for table in (_reports, _breakers)
        )
        with self._database.reading() as connection:
            now = self._database.now(connection)
            reported: dict[str, float] = dict(
                connection.execute(sa.select(_reports.c.host, _reports.c.reported_at).where(*of_reports))
                .tuples()
                .all()
            )
            counts: dict[str, int] = dict(
                connection.execute(
                    sa.select(_breakers.c.host, sa.func.count())
                    .where(_breakers.c.seen_at > now - VALID, *of_breakers)
                    .group_by(_breakers.c.host)
                )
                .tuples()
                .all()
            )
        found = reported.keys() | counts.keys()
        return now, {host: State(reported.get(host), counts.get(host, 0)) for host in found}


class HostStates:
    """Collects the states of one worker and writes them. Thread-safe."""

    def __init__(
        self,
        store: HostStateStore,
        worker: str,
        open_hosts: Callable[[], Collection[str]],
    ) -> None:
        """:param worker: name of the worker
        :param open_hosts: returns the hosts whose circuit breaker is open
        """
        self._store = store
        self._worker = worker
        self._open_hosts = open_hosts
        # Guards the set of hosts that have reported since the last transaction.
        self._lock = threading.Lock()
        self._reported: set[str] = set()
        # Used only by the thread: the breakers of the last transaction, and the number of intervals until
        # they are written again.
        self._written: frozenset[str] | None = None
        self._intervals_left = 0
        self._failing = throttled_log.ThrottledLog(LOG)
        self._stopping = threading.Event()
        self._thread = essential.EssentialThread(
            self._run, name='host-states', is_stopped=self._stopping.is_set
        )

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def reported(self, host: str) -> None:
        """Note that a host has reported."""
        with self._lock:
            self._reported.add(host)

    def stop(self, timeout: float) -> None:
        """End.

        :param timeout: seconds
        """
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout)

    def write(self) -> None:
        """Write what has changed.

        :raises DatabaseUnavailable: it is written with the next call
        """
        with self._lock:
            reported, self._reported = self._reported, set()
        breakers = frozenset(self._open_hosts())
        self._intervals_left -= 1
        due = breakers != self._written or (bool(breakers) and self._intervals_left <= 0)
        if not reported and not due:
            return
        try:
            self._store.write(self._worker, reported=reported, breakers=breakers if due else None)
        except BaseException:
            with self._lock:
                self._reported |= reported
            raise
        if due:
            self._written, self._intervals_left = breakers, int(REFRESH / INTERVAL)

    def _run(self) -> None:
        turns = 0
        while not self._stopping.wait(INTERVAL):
            try:
                self.write()
                if turns % int(DELETE_INTERVAL / INTERVAL) == 0:
                    self._store.delete_old()
                turns += 1
            except exceptions.DatabaseUnavailable as exc:
                self._failing.occurred(
                    logging.WARNING, 'Could not store the states of hosts for "host list": %s', exc
                )
            except Exception:  # the outermost loop of this thread
                LOG.exception('Could not store the states of hosts for "host list"')
            else:
                self._failing.over('The states of hosts are stored again')


def _replace_report(_there: Any, proposed: Any) -> Sequence[tuple[str, Any]]:
    return [('reported_at', proposed['reported_at'])]


def _chunks(items: Sequence[str]) -> list[Sequence[str]]:
    return [items[at : at + ROWS] for at in range(0, len(items), ROWS)]
