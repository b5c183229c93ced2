"""The host map for Nova: reads the API database and the database of each cell, and writes nothing.

A look-up runs one query on the API database and one on each cell of the batch, at the same time, for any
number of servers. (A server that moves to another cell needs one more query to the API database.) If
a cell fails, with any exception, only its own servers are unavailable.
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

#: Maximum number of look-ups at the same time per cell and worker; further look-ups wait.
READERS = 4

#: Maximum seconds for a look-up outside a batch, and for the cells at start.
LOCATE_TIMEOUT = 10.0

#: The found instances of a cell.
Found = Mapping[str, instances.Instance | exceptions.MalformedMessage]


#: Name of a host in Nova, to its cell, or to a text with the reason why the cell is unknown.
Foreign = Mapping[str, cells.Cell | str]


@dataclasses.dataclass(frozen=True, slots=True)
class Record:
    """Data about a server for the deliverer to nova-compute.

    :ivar cell: cell of the server
    :ivar cells: name of each of its hosts in the map, to the cell of the host
    :ivar primitive: the instance as an object of Nova
    """

    cell: cells.Cell
    cells: Mapping[str, cells.Cell]
    primitive: Mapping[str, Any]


class NovaHostMap:
    """The host map of Nova. Thread-safe."""

    #: The held events are in another database.
    includes_held_servers = False

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        """Create the map. It connects at the first use.

        :raises ConfigurationError: ``[nova] api_connection`` is not valid
        """
        self._api = session.Database.at(conf, conf.nova.api_connection, option=OPTION)
        self._urls = cells.Urls.from_conf(conf)
        self._conf = conf
        # Guards both tables: cell uuid to its reader, and to its log messages.
        self._lock = threading.Lock()
        self._readers: dict[str, _Reader] = {}
        self._failure_logs: dict[str, throttled_log.ThrottledLog] = {}

    @classmethod
    def from_conf(cls, conf: cfg.ConfigOpts) -> NovaHostMap:
        """Build the map from the configuration.

        :raises ConfigurationError: see the constructor
        """
        return cls(conf)

    def hosts_of(self, server_uuids: Collection[str]) -> base.Hosts:
        """See :class:`base.HostMap`.

        :raises DatabaseUnavailable: one of the databases is unavailable
        """
        found = self.look_up(server_uuids, timeout=LOCATE_TIMEOUT)
        for server_uuid in found.unavailable:
            raise exceptions.DatabaseUnavailable(reason=found.why(server_uuid))
        return found.hosts

    def look_up(self, server_uuids: Collection[str], *, timeout: float) -> base.Lookup:
        """See :class:`base.PartialHostMap`; ``records`` are objects of :class:`Record`."""
        deadline = time.monotonic() + timeout
        hosts: dict[str, tuple[str, ...]] = {}
        reasons: dict[str, str] = {}
        in_cell: dict[cells.Cell, list[str]] = {}
        for row in self._mappings(server_uuids):
            if row['cell_uuid'] is None:
                # The server waits for the scheduler.
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
        """Check that the API database has cells. A cell that does not answer is only logged.

        :raises ConfigurationError: with ``[nova] api_connection``
        """
        try:
            found = self._connect()
        except exceptions.DatabaseUnavailable as exc:
            raise exceptions.ConfigurationError(option=OPTION, reason=str(exc)) from exc
        if not found:
            raise exceptions.ConfigurationError(option=OPTION, reason='the database maps no cells')

    def warm(self) -> None:
        """See :class:`base.PartialHostMap`."""
        try:
            self._connect()
        except exceptions.DatabaseUnavailable as exc:
            LOG.warning('Could not read the cells at start: %s; trying again with the first batch', exc)

    def close(self) -> None:
        """Close the connections and end the threads."""
        with self._lock:
            readers = list(self._readers.values())
            self._readers = {}
        for reader in readers:
            reader.close()
        self._api.close()

    def _connect(self) -> int:
        """Connect to every cell. A cell that does not answer is only logged.

        :returns: number of cells
        :raises DatabaseUnavailable: the API database is unavailable
        """
        rows = self._cell_mappings()
        usable = [cell for cell in map(self._cell, rows) if not isinstance(cell, str)]
        asked = {cell: self._reader(cell).begin([]) for cell in usable}
        deadline = time.monotonic() + LOCATE_TIMEOUT
        for cell, future in asked.items():
            try:
                _result(future, deadline)
            except exceptions.DatabaseUnavailable as exc:
                self._failed(cell.uuid, f'{cell}: {exc}')
            else:
                self._succeeded(cell)
        return len(rows)

    def _cell(self, row: Mapping[str, Any]) -> cells.Cell | str:
        """Return the cell of a row with ``cells.COLUMNS``, or the reason why it cannot be used."""
        try:
            return self._urls.cell(row)
        except Exception as exc:
            reason = cells.unusable(row, exc)
            self._failed(row['cell_uuid'], reason)
            return reason

    def _failed(self, cell_uuid: str, reason: str) -> None:
        self._failure_log(cell_uuid).occurred(
            logging.WARNING,
            'Cannot read from %s; servers of this cell whose hosts are not known are unavailable until '
            'that is repaired (check database_connection in its cell mapping), other cells are not affected',
            reason,
        )

    def _succeeded(self, cell: cells.Cell) -> None:
        self._failure_log(cell.uuid).over('The database of %s answers again', cell)

    def _failure_log(self, cell_uuid: str) -> throttled_log.ThrottledLog:
        with self._lock:
            return self._failure_logs.setdefault(cell_uuid, throttled_log.ThrottledLog(LOG))

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
        """Query all cells at the same time.

        :returns: the results of the cells, and why the servers of other cells are unknown
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
        """Return the cells of hosts of servers that move to another cell, or why they are unknown."""
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
    """The access to one cell: a few threads, and a pause after failures."""

    def __init__(self, conf: cfg.ConfigOpts, cell: cells.Cell) -> None:
        self.cell = cell
        self.pause = pause.Pause()
        self._pool = bounded_pool.BoundedPool(READERS, 'cell-reader')
        # Held by the only thread that may try a cell that has failed too often.
        self._trying = threading.Semaphore()
        # Guards the connection pool, which is created at the first use.
        self._lock = threading.Lock()
        self._open = functools.partial(
            session.Database.at, conf, cell.database, option=f'database_connection of {cell}'
        )
        self._database: session.Database | None = None

    def begin(self, uuids: Iterable[str]) -> futures.Future[Found] | None:
        """Start a look-up; None: the cell has just failed.

        After too many failures, batches do not wait for the look-up that tries the cell, because batches
        without servers of this cell may share the same query.
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
    """The locations of the instances of one cell."""

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
            host_cell = foreign.get(host, cell) if instance.across_cells else cell
            if isinstance(host_cell, str):
                self.reasons[uuid] = host_cell
                return
            where[host_cell.host(host)] = host_cell
        try:
            hosts = tuple(base.host_name(host, longest=checks.MAX_HOST) for host in where)
        except exceptions.MalformedMessage as exc:
            self.reasons[uuid] = f'{cell}: {exc}'
            return
        self.hosts[uuid] = hosts
        if hosts:
            self.records[uuid] = Record(cell, where, instance.primitive)


def _result(future: futures.Future[Found] | None, deadline: float) -> Found:
    """Return the answer of a cell.

    :raises DatabaseUnavailable: it failed, now or before, or did not answer in time
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
        # NOTE: without the text of the error, which may contain part of the URL of the cell.
        LOG.debug('Unexpected error of a cell', exc_info=True)
        raise exceptions.DatabaseUnavailable(reason=f'unexpected {type(exc).__name__}') from exc
