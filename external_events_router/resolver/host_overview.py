"""All hosts that the database knows, for operators: servers, last report, circuit breakers, held events."""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Mapping
import dataclasses
from typing import cast

import sqlalchemy as sa

from external_events_router.db import models
from external_events_router.db import session
from external_events_router.resolver import host_states

_server_hosts = cast(sa.Table, models.ServerHost.__table__)
_held_hosts = cast(sa.Table, models.HeldHost.__table__)
_held = cast(sa.Table, models.HeldEvent.__table__)

#: Columns with the names of hosts. Each is the first column of an index or in it.
_NAMES = (
    _server_hosts.c.host,
    _held_hosts.c.host,
    cast(sa.Table, models.HostReport.__table__).c.host,
    cast(sa.Table, models.OpenBreaker.__table__).c.host,
)


@dataclasses.dataclass(frozen=True, slots=True)
class Host:
    """The state of a host, for operators.

    :ivar servers: number of its servers in the host map
    :ivar silent_for: seconds since its last report; None: it never reported
    :ivar breakers: number of workers whose circuit breaker is open
    :ivar held: number of held events of servers that wait for the host
    """

    name: str
    servers: int
    reported_at: float | None
    silent_for: float | None
    breakers: int
    held: int


class HostOverview:
    """Reads the tables. Thread-safe."""

    def __init__(self, database: session.Database) -> None:
        self._database = database
        self._states = host_states.HostStateStore(database)

    def read(self) -> list[Host]:
        """Read all hosts, by name: those of the host map, of reports, of circuit breakers and of the hold.

        :raises DatabaseUnavailable: the database cannot be asked
        """
        now, states = self._states.read()
        servers, held = self._counts()
        return [
            self._host(name, now, states.get(name, host_states.State()), servers, held)
            for name in sorted({*states, *servers, *held})
        ]

    def page(self, *, after: str = '', limit: int) -> list[Host]:
        """Read some hosts, by name, as :meth:`read`.

        :param after: only hosts whose name is greater
        :param limit: number of hosts at most
        :raises DatabaseUnavailable: the database cannot be asked
        """
        return self.of(self._names(after, limit))

    def of(self, names: Collection[str]) -> list[Host]:
        """Read these hosts, by name. A host that the database does not know has no servers and no report.

        :raises DatabaseUnavailable: the database cannot be asked
        """
        now, states = self._states.read(names)
        servers, held = self._counts(names)
        return [
            self._host(name, now, states.get(name, host_states.State()), servers, held)
            for name in sorted(names)
        ]

    @session.retried
    def _names(self, after: str, limit: int) -> list[str]:
        found: set[str] = set()
        with self._database.reading() as connection:
            for column in _NAMES:
                query = sa.select(column).where(column > after).distinct().order_by(column).limit(limit)
                found.update(connection.scalars(query))
        return sorted(found)[:limit]

    def _host(
        self,
        name: str,
        now: float,
        state: host_states.State,
        servers: Mapping[str, int],
        held: Mapping[str, int],
    ) -> Host:
        reported = state.reported_at
        return Host(
            name,
            servers=servers.get(name, 0),
            reported_at=reported,
            silent_for=None if reported is None else max(0.0, now - reported),
            breakers=state.breakers,
            held=held.get(name, 0),
        )

    @session.retried
    def _counts(self, hosts: Collection[str] | None = None) -> tuple[Mapping[str, int], Mapping[str, int]]:
        """Return the numbers of servers and of held events by host."""
        of_servers = sa.select(_server_hosts.c.host, sa.func.count()).group_by(_server_hosts.c.host)
        of_held = (
            sa.select(_held_hosts.c.host, sa.func.count())
            .join(_held, _held.c.server_uuid == _held_hosts.c.server_uuid)
            .group_by(_held_hosts.c.host)
        )
        if hosts is not None:
            of_servers = of_servers.where(self._database.among(_server_hosts.c.host, hosts))
            of_held = of_held.where(self._database.among(_held_hosts.c.host, hosts))
        with self._database.reading() as connection:
            servers: dict[str, int] = dict(connection.execute(of_servers).tuples().all())
            held: dict[str, int] = dict(connection.execute(of_held).tuples().all())
        return servers, held
