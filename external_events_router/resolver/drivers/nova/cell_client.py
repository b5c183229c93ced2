"""The line to one cell: its computes' RPC, its database, and threads of its own.

What hangs in one cell's broker or database takes threads of that cell only.
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
    """What is needed to speak to the computes of a cell. Thread-safe.

    :ivar cell: the cell
    :ivar pool: its threads
    :ivar gate: each cast to its computes has to pass
    :ivar trouble: what the log says of casts that fail for a reason of the cell
    """

    def __init__(self, conf: cfg.ConfigOpts, cell: cells.Cell) -> None:
        """Connects at its first use."""
        self.cell = cell
        self.trouble = throttled_log.ThrottledLog(LOG)
        self.pool = bounded_pool.BoundedPool(conf.nova.threads_per_cell, 'compute-caster')
        self.gate = gate.BrokerGate(f'The message broker of {cell}')
        self._conf = conf
        pinned = conf.nova.compute_rpc
        self._versions = versions.Versions(
            self._open_database,
            cell=str(cell),
            pinned=None if pinned == nova_conf.AUTO else versions.of_rpc(pinned),
        )
        # Guards what is written to the cell's database by this process.
        self._recording = threading.Lock()
        # Guards both below, which are made by who needs them first.
        self._lock = threading.Lock()
        self._database: session.Database | None = None
        self._computes: rpcapi.ComputeAPI | None = None

    def computes(self) -> rpcapi.ComputeAPI:
        """The client of its computes.

        :raises ConfigurationError: the cell's transport URL cannot be used
        """
        with self._lock:
            if self._computes is None:
                self._computes = rpcapi.ComputeAPI(self._conf, self.cell)
            return self._computes

    def speech(self) -> versions.RpcVersion:
        """How to speak to them.

        :raises DatabaseUnavailable: that cannot be learned
        """
        return self._versions.current()

    def record_action(self, event: events.Event, ctxt: context.RequestContext) -> None:
        """Have the instance action of an event in the cell's database, if it is one.

        :raises RouterError: it may not be there
        """
        # NOTE: a server in migration gets the event on two hosts at the same
        # time, and the action is there once.
        with self._recording:
            actions.record(self._open_database(), event, ctxt)

    def close(self) -> None:
        """Let go of threads and connections. What hangs is not waited for."""
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
    """The lines to all cells, made when they are needed. Thread-safe."""

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        self._make = functools.partial(CellClient, conf)
        # Guards the table: cell uuid to its line.
        self._lock = threading.Lock()
        self._lines: dict[str, CellClient] = {}

    def to(self, cell: cells.Cell) -> CellClient:
        """The line to a cell; a new one where its mapping has changed."""
        with self._lock:
            line = self._lines.get(cell.uuid)
            if line is not None and line.cell == cell:
                return line
            self._lines[cell.uuid] = fresh = self._make(cell)
        if line is not None:
            line.close()
        return fresh

    def close(self) -> None:
        """Let go of all."""
        with self._lock:
            lines, self._lines = list(self._lines.values()), {}
        for line in lines:
            line.close()
