"""The host map of this service, in the database of ``[database] connection``.

Every method is one transaction, and can run at the same time as transactions of other processes.
``guarded`` contains the cache for times when the database is unavailable.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
from typing import Any
from typing import cast

from oslo_config import cfg
import sqlalchemy as sa

from external_events_router import checks
from external_events_router import exceptions
from external_events_router import host_lines
from external_events_router.db import models
from external_events_router.db import session
from external_events_router.resolver.host_map import base
from external_events_router.resolver.host_map import lines

_servers = cast(sa.Table, models.Server.__table__)
_server_hosts = cast(sa.Table, models.ServerHost.__table__)
_held_servers = cast(sa.Table, models.HeldServer.__table__)

#: Query for the hosts of servers: one row per host; a server without a host has a row with null.
_LOCATE = (
    f'SELECT uuid, host FROM {_servers.name} '  # noqa: S608 - constant names
    f'LEFT JOIN {_server_hosts.name} ON {_server_hosts.name}.server_uuid = uuid'
)

#: The same, and the free hosts of a server with held events: null for a server without held events,
#: empty if no host is free. NOTE: this is one column, because each column of an answer costs PyMySQL 30
#: function calls. That is 4 % of the function calls of a request with one event.
_LOCATE_AND_HELD = (
    f'SELECT uuid, host, CASE WHEN {_held_servers.name}.server_uuid IS NOT NULL '  # noqa: S608 - constant names
    f"THEN COALESCE(free_hosts, '') END FROM {_servers.name} "
    f'LEFT JOIN {_server_hosts.name} ON {_server_hosts.name}.server_uuid = uuid '
    f'LEFT JOIN {_held_servers.name} ON {_held_servers.name}.server_uuid = uuid'
)

#: Number of servers that an export reads at a time.
_PAGE = 1000


@dataclasses.dataclass(frozen=True, slots=True)
class Imported:
    """The result of an import: numbers of servers."""

    added: int
    changed: int
    unchanged: int

    def __add__(self, other: Imported) -> Imported:
        return Imported(
            self.added + other.added, self.changed + other.changed, self.unchanged + other.unchanged
        )


class SqlHostMap:
    """A map in SQL tables. Thread-safe."""

    #: The held events are in the same database.
    includes_held_servers = True

    def __init__(self, database: session.Database, *, longest_host: int = base.DEFAULT_LONGEST_HOST) -> None:
        """:param longest_host: maximum characters of a host name that may be written, see ``checks``"""
        self._database = database
        self._longest_host = longest_host

    @classmethod
    def from_conf(cls, conf: cfg.ConfigOpts) -> SqlHostMap:
        """Build the map from the configuration. It connects at the first use.

        :raises ConfigurationError: ``[database] connection`` is not valid
        """
        longest = checks.longest_host(conf.compute.topic)
        return cls(session.Database.from_conf(conf), longest_host=longest)

    def check(self) -> None:
        """Check that the database is available and its schema is supported.

        :raises ConfigurationError: with ``[database] connection``
        """
        # NOTE: imported here, because look-ups do not need alembic, which takes 11 MiB.
        from external_events_router.db import migration

        migration.check(self._database)

    def close(self) -> None:
        """Close the connections."""
        self._database.close()

    @session.retried
    def hosts_of(self, server_uuids: Collection[str]) -> base.Hosts:
        """See :class:`base.HostMap`: one query by primary key, for any number of servers."""
        return _gather(self._database.rows_among(_LOCATE, 'uuid', server_uuids))

    @session.retried
    def look_up(self, server_uuids: Collection[str], *, timeout: float) -> base.Lookup:
        """See :class:`base.DetailedHostMap`: hosts and held servers in one query.

        :param timeout: ignored, because the map has only one source
        """
        rows = self._database.rows_among(_LOCATE_AND_HELD, 'uuid', server_uuids)
        return base.Lookup(
            _gather((server_uuid, host) for server_uuid, host, _free in rows),
            held_servers={
                server_uuid: models.host_set(free) for server_uuid, _host, free in rows if free is not None
            },
        )

    def show(self, server_uuid: str) -> tuple[str, ...]:
        """Return the hosts of one server.

        :raises NoSuchServer: the map does not contain the server
        :raises DatabaseUnavailable: the database is unavailable
        """
        server_uuid = base.server_uuid(server_uuid)
        hosts = self.hosts_of([server_uuid])
        if server_uuid not in hosts:
            raise exceptions.NoSuchServer(server_uuid=server_uuid)
        return hosts[server_uuid]

    @session.retried
    def assign(self, server_uuid: str, host: str, *, expected: Collection[str] | None = None) -> None:
        """See :class:`base.WritableHostMap`.

        :param expected: the hosts of the server, as the caller knows them; None: any
        :raises Conflict: the server has other hosts; nothing was changed
        """
        locations = {base.server_uuid(server_uuid): (self._host_name(host),)}
        with self._database.writing() as connection:
            self._expect(connection, base.server_uuid(server_uuid), expected)
            self._add(connection, locations)

    @session.retried
    def unassign(self, server_uuid: str, host: str, *, expected: Collection[str] | None = None) -> None:
        """See :class:`base.WritableHostMap`. If the server is not on the host, nothing changes.

        :param expected: see :meth:`assign`
        """
        server_uuid, host = base.server_uuid(server_uuid), base.stored_host_name(host)
        with self._database.writing() as connection:
            found = connection.scalar(sa.select(_servers.c.uuid).where(_servers.c.uuid == server_uuid))
            if found is None:
                raise exceptions.NoSuchServer(server_uuid=server_uuid)
            self._expect(connection, server_uuid, expected)
            connection.execute(
                sa.delete(_server_hosts).where(
                    _server_hosts.c.server_uuid == server_uuid, _server_hosts.c.host == host
                )
            )

    @session.retried
    def forget(self, server_uuid: str, *, expected: Collection[str] | None = None) -> None:
        """See :class:`base.WritableHostMap`.

        :param expected: see :meth:`assign`
        """
        server_uuid = base.server_uuid(server_uuid)
        with self._database.writing() as connection:
            self._expect(connection, server_uuid, expected)
            # The foreign key also deletes the rows of its hosts.
            if not connection.execute(sa.delete(_servers).where(_servers.c.uuid == server_uuid)).rowcount:
                raise exceptions.NoSuchServer(server_uuid=server_uuid)

    @session.retried
    def report(self, host: str, server_uuids: Collection[str]) -> base.Change:
        """See :class:`base.WritableHostMap`. A report without changes is one query and writes nothing."""
        host, listed = self._host_name(host), frozenset(map(base.server_uuid, server_uuids))
        with self._database.reading() as connection:
            change = self._change(connection, host, listed)
        if not (change.gained or change.lost):
            return change
        with self._database.writing() as connection:
            change = self._change(connection, host, listed)
            if change.lost:
                connection.execute(
                    sa.delete(_server_hosts).where(
                        _server_hosts.c.host == host,
                        self._database.among(_server_hosts.c.server_uuid, sorted(change.lost)),
                    )
                )
            self._add(connection, dict.fromkeys(sorted(change.gained), (host,)))
        return change

    def import_lines(
        self, source: Iterable[bytes], *, progress: Callable[[str, int, int | None], None] | None = None
    ) -> Imported:
        """Replace the hosts of the servers that a file names, and leave all others alone.

        The file is read and checked as a whole before anything is written, in
        one transaction. Memory does not grow with it.

        :param source: the lines, see :mod:`.lines`
        :param progress: called at intervals with ``reading`` and the lines
            read, then with ``writing``, the servers written and their number
        :raises BadLine: a line cannot be used, or names a server that another names
        :raises DatabaseUnavailable: the database cannot be written
        """
        report = progress or (lambda step, done, total: None)
        with lines.Spool(longest_host=self._longest_host) as spool:
            spool.fill(source, progress=lambda done: report('reading', done, None))
            return self._merge(spool, report)

    def export(self) -> Iterator[host_lines.Entry]:
        """Read every server, ordered by uuid, in pages.

        Each page shows the map at the time of its query. The pages together are not a snapshot.

        :raises DatabaseUnavailable: the database cannot be asked
        """
        after = ''
        while page := self._page(after):
            yield from (host_lines.Entry(server_uuid, hosts) for server_uuid, hosts in page.items())
            after = list(page)[-1]

    def _expect(self, connection: sa.Connection, server_uuid: str, expected: Collection[str] | None) -> None:
        """Lock a server until the end of the transaction, and compare its hosts.

        :raises Conflict: they differ
        """
        if expected is None:
            return
        connection.execute(sa.select(_servers.c.uuid).where(_servers.c.uuid == server_uuid).with_for_update())
        found = self._locate(connection, [server_uuid]).get(server_uuid)
        if found is None or set(found) != set(expected):
            raise exceptions.Conflict(what=f'server {server_uuid}')

    def _host_name(self, host: str) -> str:
        return base.host_name(host, longest=self._longest_host)

    @session.retried
    def _page(self, after: str) -> Mapping[str, tuple[str, ...]]:
        uuid = _servers.c.uuid
        page = sa.select(uuid).where(uuid > after).order_by(uuid).limit(_PAGE).subquery()
        # NOTE: the second condition changes no result, only that PostgreSQL may
        # begin where the page does when it merges two indexes.
        hosts = (_server_hosts.c.server_uuid == page.c.uuid) & (_server_hosts.c.server_uuid > after)
        query = (
            sa.select(page.c.uuid, _server_hosts.c.host)
            .select_from(page.outerjoin(_server_hosts, hosts))
            .order_by(page.c.uuid)
        )
        with self._database.reading() as connection:
            return _gather(connection.execute(query))

    @session.retried
    def _merge(self, spool: lines.Spool, report: Callable[[str, int, int | None], None]) -> Imported:
        done, total = Imported(0, 0, 0), len(spool)
        with self._database.writing() as connection:
            written = 0
            for wanted in spool.chunks():
                done += self._replace(connection, wanted)
                written += len(wanted)
                report('writing', written, total)
            self._database.analyze(connection, _servers, _server_hosts)
        return done

    def _replace(self, connection: sa.Connection, wanted: Mapping[str, tuple[str, ...]]) -> Imported:
        there = self._locate(connection, wanted)
        changed = {server: hosts for server, hosts in wanted.items() if there.get(server) != hosts}
        moved = [server for server in changed if there.get(server)]
        if moved:
            among = self._database.among(_server_hosts.c.server_uuid, moved)
            connection.execute(sa.delete(_server_hosts).where(among))
        self._add(connection, changed)
        added = len(wanted) - len(there)
        return Imported(added, len(changed) - added, len(wanted) - len(changed))

    def _locate(self, connection: sa.Connection, server_uuids: Collection[str]) -> base.Hosts:
        query = (
            sa.select(_servers.c.uuid, _server_hosts.c.host)
            .select_from(_servers.outerjoin(_server_hosts))
            .where(self._database.among(_servers.c.uuid, server_uuids))
        )
        return _gather(connection.execute(query))

    def _change(self, connection: sa.Connection, host: str, listed: frozenset[str]) -> base.Change:
        query = sa.select(_server_hosts.c.server_uuid).where(_server_hosts.c.host == host)
        there = frozenset(connection.scalars(query))
        return base.Change(gained=listed - there, lost=there - listed)

    def _add(self, connection: sa.Connection, locations: Mapping[str, Collection[str]]) -> None:
        # NOTE: always servers before hosts, and both in the order of their
        # keys, so that two writers wait for each other instead of deadlocking.
        servers = [{'uuid': server_uuid} for server_uuid in sorted(locations)]
        hosts = [
            {'server_uuid': server_uuid, 'host': host}
            for server_uuid in sorted(locations)
            for host in sorted(locations[server_uuid])
        ]
        self._database.insert_missing(connection, _servers, servers)
        self._database.insert_missing(connection, _server_hosts, hosts)


def _gather(rows: Iterable[Sequence[Any]]) -> dict[str, tuple[str, ...]]:
    hosts: dict[str, list[str]] = {}
    for server_uuid, host in rows:
        of_server = hosts.setdefault(server_uuid, [])
        if host is not None:
            of_server.append(host)
    return {server_uuid: tuple(sorted(of_server)) for server_uuid, of_server in hosts.items()}
