"""The host map of a cloud with Nova: its API database, and the database of each cell. Read only.

One query to the API database and one to each cell concerned, at the same time,
whatever the size of the batch. (A server that moves to another cell costs one
more to the API database.) A cell that fails makes only its own servers
unavailable, whatever exception it fails with.
"""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Mapping
from concurrent import futures
import dataclasses
import functools
import logging
import threading
import time
from typing import Any

from oslo_config import cfg
from oslo_log import log
import sqlalchemy as sa

from external_events_router import checks
from external_events_router import exceptions
from external_events_router import throttled_log
from external_events_router.concurrency import bounded_pool
from external_events_router.concurrency import pause
from external_events_router.db import session
from external_events_router.resolver.drivers.nova import cells
from external_events_router.resolver.drivers.nova import instances
from external_events_router.resolver.drivers.nova import tables
from external_events_router.resolver.host_map import base

LOG = log.getLogger(__name__)

OPTION = '[nova] api_connection'

#: Look-ups at a time per cell and worker; more wait.
READERS = 4

#: Seconds for a look-up outside a batch, and for the cells at start.
PATIENT = 10.0

#: What a cell knows of those of its instances that it was asked for.
Found = Mapping[str, instances.Instance | exceptions.MalformedMessage]


#: Nova's name of a host to its cell; a text says why the cell is not known.
Foreign = Mapping[str, cells.Cell | str]


@dataclasses.dataclass(frozen=True, slots=True)
class Record:
    """What a deliverer to nova-compute needs to know of a server.

    :ivar cell: the cell that it is in
    :ivar cells: the cell of each of its hosts, by the host's name in the map
    :ivar primitive: the instance as Nova's object
    """

    cell: cells.Cell
    cells: Mapping[str, cells.Cell]
    primitive: Mapping[str, Any]


class NovaHostMap:
    """Nova's own map. Thread-safe."""

    #: The held events are in another database.
    includes_held_servers = False

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        """Connects at its first use.

        :raises ConfigurationError: ``[nova] api_connection`` cannot be used
        """
        self._api = session.Database.at(conf, conf.nova.api_connection, option=OPTION)
        self._urls = cells.Urls.from_conf(conf)
        self._conf = conf
        # Guards the two tables: cell uuid to how it is read, and to what its log says.
        self._lock = threading.Lock()
        self._readers: dict[str, _Reader] = {}
        self._troubles: dict[str, throttled_log.ThrottledLog] = {}

    @classmethod
    def from_conf(cls, conf: cfg.ConfigOpts) -> NovaHostMap:
        """The map that the configuration asks for.

        :raises ConfigurationError: as the constructor
        """
        return cls(conf)

    def hosts_of(self, server_uuids: Collection[str]) -> base.Hosts:
        """As :class:`base.HostMap` says.

        :raises DatabaseUnavailable: one of the databases cannot be asked
        """
        found = self.look_up(server_uuids, timeout=PATIENT)
        for server_uuid in found.unavailable:
            raise exceptions.DatabaseUnavailable(reason=found.why(server_uuid))
        return found.hosts

    def look_up(self, server_uuids: Collection[str], *, timeout: float) -> base.Lookup:
        """As :class:`base.PartialHostMap` says; ``records`` are of :class:`Record`."""
        deadline = time.monotonic() + timeout
        hosts: dict[str, tuple[str, ...]] = {}
        reasons: dict[str, str] = {}
        in_cell: dict[cells.Cell, list[str]] = {}
        for row in self._mappings(server_uuids):
            if row['cell_uuid'] is None:
                # It waits for the scheduler.
                hosts[row['instance_uuid']] = ()
                continue
            cell = self._cell(row)
            if isinstance(cell, str):
                reasons[row['instance_uuid']] = cell
            else:
                in_cell.setdefault(cell, []).append(row['instance_uuid'])
        found, failed = self._ask(in_cell, deadline)
        reasons |= failed
        records: dict[str, Record] = {}
        for cell, of_cell in found.items():
            placed = _Placing(cell, of_cell, self._foreign(of_cell))
            hosts |= placed.hosts
            reasons |= placed.reasons
            records |= placed.records
        return base.Lookup(hosts=hosts, unavailable=frozenset(reasons), reasons=reasons, records=records)

    def check(self) -> None:
        """Insist on an API database with cells. A cell that does not answer is only logged.

        :raises ConfigurationError: naming ``[nova] api_connection``
        """
        try:
            found = self._connect()
        except exceptions.DatabaseUnavailable as exc:
            raise exceptions.ConfigurationError(option=OPTION, reason=str(exc)) from exc
        if not found:
            raise exceptions.ConfigurationError(option=OPTION, reason='the database maps no cells')

    def warm(self) -> None:
        """As :class:`base.PartialHostMap` says."""
        try:
            self._connect()
        except exceptions.DatabaseUnavailable as exc:
            LOG.warning('Cells are not known yet: %s', exc)

    def close(self) -> None:
        """Let go of connections and threads."""
        with self._lock:
            readers = list(self._readers.values())
            self._readers = {}
        for reader in readers:
            reader.close()
        self._api.close()

    def _connect(self) -> int:
        """Connect to every cell; one that does not answer is only logged.

        :returns: how many there are
        :raises DatabaseUnavailable: that cannot be told
        """
        rows = self._cell_mappings()
        usable = [cell for cell in map(self._cell, rows) if not isinstance(cell, str)]
        asked = {cell: self._reader(cell).begin([]) for cell in usable}
        deadline = time.monotonic() + PATIENT
        for cell, future in asked.items():
            try:
                _result(future, deadline)
            except exceptions.DatabaseUnavailable as exc:
                self._failed(cell.uuid, f'{cell}: {exc}')
            else:
                self._succeeded(cell)
        return len(rows)

    def _cell(self, row: Mapping[str, Any]) -> cells.Cell | str:
        """The cell of a row with ``cells.COLUMNS``; a text says why it cannot be used."""
        try:
            return self._urls.cell(row)
        except Exception as exc:
            reason = cells.unusable(row, exc)
            self._failed(row['cell_uuid'], reason)
            return reason

    def _failed(self, cell_uuid: str, reason: str) -> None:
        self._trouble(cell_uuid).occurred(
            logging.WARNING,
            'Cannot read from %s; servers of this cell whose hosts are not known are unavailable until '
            'that is repaired (check database_connection in its cell mapping), other cells are not affected',
            reason,
        )

    def _succeeded(self, cell: cells.Cell) -> None:
        self._trouble(cell.uuid).over('The database of %s answers again', cell)

    def _trouble(self, cell_uuid: str) -> throttled_log.ThrottledLog:
        with self._lock:
            return self._troubles.setdefault(cell_uuid, throttled_log.ThrottledLog(LOG))

    @session.retried
    def _mappings(self, server_uuids: Collection[str]) -> list[Mapping[str, Any]]:
        mappings = tables.instance_mappings
        query = (
            sa.select(mappings.c.instance_uuid, *cells.COLUMNS)
            .select_from(mappings.outerjoin(tables.cell_mappings))
            .where(self._api.among(mappings.c.instance_uuid, server_uuids))
        )
        return self._api_rows(query)

    @session.retried
    def _cell_mappings(self) -> list[Mapping[str, Any]]:
        return self._api_rows(sa.select(*cells.COLUMNS))

    @session.retried
    def _host_mappings(self, hosts: Collection[str]) -> list[Mapping[str, Any]]:
        mappings = tables.host_mappings
        query = (
            sa.select(mappings.c.host, *cells.COLUMNS)
            .select_from(mappings.join(tables.cell_mappings))
            .where(self._api.among(mappings.c.host, hosts))
        )
        return self._api_rows(query)

    def _api_rows(self, query: sa.Select[Any]) -> list[Mapping[str, Any]]:
        with self._api.reading() as connection:
            return [dict(row._mapping) for row in connection.execute(query)]

    def _ask(
        self, in_cell: Mapping[cells.Cell, list[str]], deadline: float
    ) -> tuple[dict[cells.Cell, Found], dict[str, str]]:
        """Ask every cell at once.

        :returns: what each found, and why the other cells' servers are not known
        """
        asked = {cell: self._reader(cell).begin(uuids) for cell, uuids in in_cell.items()}
        found: dict[cells.Cell, Found] = {}
        reasons: dict[str, str] = {}
        for cell, future in asked.items():
            reader = self._reader(cell)
            try:
                found[cell] = _result(future, deadline)
            except exceptions.DatabaseUnavailable as exc:
                if future is not None:
                    reader.pause.failed()
                    self._failed(cell.uuid, f'{cell}: {exc}')
                reasons |= dict.fromkeys(in_cell[cell], f'{cell}: {exc}')
            else:
                reader.pause.succeeded()
                self._succeeded(cell)
        return found, reasons

    def _foreign(self, found: Found) -> Foreign:
        """The cells of the hosts of servers that move to another cell; a text says why not."""
        hosts = {
            host
            for instance in found.values()
            if isinstance(instance, instances.Instance) and instance.across_cells
            for host in instance.hosts
        }
        if not hosts:
            return {}
        try:
            return {row['host']: self._cell(row) for row in self._host_mappings(hosts)}
        except exceptions.DatabaseUnavailable as exc:
            return dict.fromkeys(hosts, str(exc))

    def _reader(self, cell: cells.Cell) -> _Reader:
        with self._lock:
            reader = self._readers.get(cell.uuid)
            if reader is not None and reader.cell == cell:
                return reader
            LOG.info('%s %s (%s)', 'Found' if reader is None else 'Changed is', cell, cell.uuid)
            self._readers[cell.uuid] = fresh = _Reader(self._conf, cell)
        if reader is not None:
            reader.close()
        return fresh


class _Reader:
    """How one cell is asked: a few threads, and a pause when it fails."""

    def __init__(self, conf: cfg.ConfigOpts, cell: cells.Cell) -> None:
        self.cell = cell
        self.pause = pause.Pause()
        self._pool = bounded_pool.BoundedPool(READERS, 'cell-reader')
        # Who has it tries a cell that failed too often; one at a time.
        self._trying = threading.Semaphore()
        # Guards the connection pool, which is made by who comes first.
        self._lock = threading.Lock()
        self._open = functools.partial(
            session.Database.at, conf, cell.database, option=f'database_connection of {cell}'
        )
        self._database: session.Database | None = None

    def begin(self, uuids: Iterable[str]) -> futures.Future[Found] | None:
        """Begin a look-up; None: the cell has failed just now.

        Once it has failed too often nobody waits for the look-up that tries it:
        others, who ask for nothing of this cell, may be in the same question.
        """
        look_up = functools.partial(self._fetch, list(uuids))
        if not self.pause.is_on():
            return self._pool.submit(look_up)
        if self.pause.admits() and self._trying.acquire(blocking=False):
            self._pool.submit(look_up).add_done_callback(self._tried)
        return None

    def _tried(self, future: futures.Future[Found]) -> None:
        self._trying.release()
        if not future.cancelled() and future.exception() is None:
            self.pause.succeeded()

    def close(self) -> None:
        self._pool.close()
        with self._lock:
            if self._database is not None:
                self._database.close()

    def _fetch(self, uuids: list[str]) -> Found:
        with self._lock:
            if self._database is None:
                try:
                    self._database = self._open()
                except exceptions.ConfigurationError as exc:
                    raise exceptions.DatabaseUnavailable(reason=str(exc)) from exc
        return instances.fetch(self._database, uuids)


class _Placing:
    """Where the instances of one cell are."""

    def __init__(self, cell: cells.Cell, found: Found, foreign: Foreign) -> None:
        self.hosts: dict[str, tuple[str, ...]] = {}
        self.reasons: dict[str, str] = {}
        self.records: dict[str, Record] = {}
        for uuid, instance in found.items():
            if isinstance(instance, exceptions.MalformedMessage):
                self.reasons[uuid] = f'{cell}: {instance}'
            elif not instance.deleted:
                self._place(uuid, instance, cell, foreign)

    def _place(self, uuid: str, instance: instances.Instance, cell: cells.Cell, foreign: Foreign) -> None:
        where: dict[str, cells.Cell] = {}
        for host in instance.hosts:
            home = foreign.get(host, cell) if instance.across_cells else cell
            if isinstance(home, str):
                self.reasons[uuid] = home
                return
            where[home.host(host)] = home
        try:
            hosts = tuple(base.host_name(host, longest=checks.MAX_HOST) for host in where)
        except exceptions.MalformedMessage as exc:
            self.reasons[uuid] = f'{cell}: {exc}'
            return
        self.hosts[uuid] = hosts
        if hosts:
            self.records[uuid] = Record(cell, where, instance.primitive)


def _result(future: futures.Future[Found] | None, deadline: float) -> Found:
    """What a cell answered.

    :raises DatabaseUnavailable: it failed, just now or before, or is not done in time
    """
    if future is None:
        raise exceptions.DatabaseUnavailable(reason='it failed just now')
    try:
        return future.result(timeout=max(0.0, deadline - time.monotonic()))
    except TimeoutError as exc:
        future.cancel()
        raise exceptions.DatabaseUnavailable(reason='no answer in time') from exc
    except futures.CancelledError as exc:
        raise exceptions.DatabaseUnavailable(reason='the cell is no longer this one') from exc
    except exceptions.DatabaseUnavailable:
        raise
    except Exception as exc:
        # NOTE: not the error's own text, which may hold a part of the cell's URL.
        LOG.debug('Unexpected error of a cell', exc_info=True)
        raise exceptions.DatabaseUnavailable(reason=f'unexpected {type(exc).__name__}') from exc
