"""The client for one cell: RPC to its nova-compute, its database, and its own threads.

If the broker or the database of a cell hangs, only threads of this cell hang.
"""

from __future__ import annotations

import functools
import threading

from oslo_config import cfg
from oslo_log import log

from external_events_router import context
from external_events_router import events
from external_events_router import throttled_log
from external_events_router.concurrency import bounded_pool
from external_events_router.conf import nova as nova_conf
from external_events_router.db import session
from external_events_router.messaging import gate
from external_events_router.resolver.drivers.nova import actions
from external_events_router.resolver.drivers.nova import cells
from external_events_router.resolver.drivers.nova import rpcapi
from external_events_router.resolver.drivers.nova import versions

LOG = log.getLogger(__name__)


class CellClient:
    """Everything that is needed to send messages to nova-compute of a cell. Thread-safe.

    :ivar cell: the cell
    :ivar pool: its threads
    :ivar gate: circuit breaker for its broker, which each cast has to use
    :ivar failure_log: log messages about casts that fail for a reason of the cell
    """

    def __init__(self, conf: cfg.ConfigOpts, cell: cells.Cell) -> None:
        """Create the client. It connects at the first use."""
        self.cell = cell
        self.failure_log = throttled_log.ThrottledLog(LOG)
        self.pool = bounded_pool.BoundedPool(conf.nova.threads_per_cell, 'compute-caster')
        self.gate = gate.BrokerGate(f'The message broker of {cell}')
        self._conf = conf
        pinned = conf.nova.compute_rpc
        self._versions = versions.Versions(
            self._open_database,
            cell=str(cell),
            pinned=None if pinned == nova_conf.AUTO else versions.of_rpc(pinned),
        )
        # Serialises writes of this process to the database of the cell.
        self._recording = threading.Lock()
        # Guards both attributes below, which are created at the first use.
        self._lock = threading.Lock()
        self._database: session.Database | None = None
        self._computes: rpcapi.ComputeAPI | None = None

    def computes(self) -> rpcapi.ComputeAPI:
        """Return the RPC client for nova-compute.

        :raises ConfigurationError: the transport URL of the cell is not valid
        """
        with self._lock:
            if self._computes is None:
                self._computes = rpcapi.ComputeAPI(self._conf, self.cell)
            return self._computes

    def rpc_version(self) -> versions.RpcVersion:
        """Return the RPC version of the cell.

        :raises DatabaseUnavailable: the version cannot be read
        """
        return self._versions.current()

    def record_action(self, event: events.Event, ctxt: context.RequestContext) -> None:
        """Create the instance action of an event in the database of the cell, if the event has an action.

        :raises RouterError: the action may not exist
        """
        # NOTE: a migrating server gets the event on two hosts at the same time, but has one action.
        with self._recording:
            actions.record(self._open_database(), event, ctxt)

    def close(self) -> None:
        """End the threads and close the connections. Does not wait for threads that hang."""
        with self._lock:
            for part in (self._computes, self._database):
                if part is not None:
                    self.pool.submit(part.close)
        self.pool.close()

    def _open_database(self) -> session.Database:
        with self._lock:
            if self._database is None:
                self._database = session.Database.at(
                    self._conf, self.cell.database, option=f'database_connection of {self.cell}'
                )
            return self._database


class CellClients:
    """The clients for all cells, created when they are needed. Thread-safe."""

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        self._make = functools.partial(CellClient, conf)
        # Guards the table: cell uuid to its client.
        self._lock = threading.Lock()
        self._clients: dict[str, CellClient] = {}

    def to(self, cell: cells.Cell) -> CellClient:
        """Return the client for a cell; a new one if its mapping has changed."""
        with self._lock:
            client = self._clients.get(cell.uuid)
            if client is not None and client.cell == cell:
                return client
            self._clients[cell.uuid] = fresh = self._make(cell)
        if client is not None:
            client.close()
        return fresh

    def close(self) -> None:
        """Close all clients."""
        with self._lock:
            clients, self._clients = list(self._clients.values()), {}
        for client in clients:
            client.close()
