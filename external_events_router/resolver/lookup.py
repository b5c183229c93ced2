"""The queries of a batch: the hosts of its servers, and which of its servers have held events.

Both queries run at the same time, so that a batch waits for the slower one only. A host map
in the database of the held events returns both in one query.
"""

from __future__ import annotations

from collections.abc import Collection
import time
from typing import Protocol

from external_events_router.concurrency import batch_loader
from external_events_router.resolver.host_map import base


class HostSource(Protocol):
    """The methods of ``host_map.guarded.GuardedHostMap`` that are used here."""

    @property
    def includes_held_servers(self) -> bool: ...

    def lookup(self, server_uuids: Collection[str], *, timeout: float) -> base.Lookup: ...


class HeldSource(Protocol):
    """The methods of ``hold.hold.Hold`` that are used here."""

    def query_held_servers(
        self, server_uuids: Collection[str]
    ) -> batch_loader.LoadRequest[base.HeldServers]: ...

    def held_servers(
        self, query: batch_loader.LoadRequest[base.HeldServers], *, deadline: float
    ) -> base.HeldServers: ...


class BatchLookup:
    """Looks up the servers of a batch. Thread-safe."""

    def __init__(self, host_map: HostSource, held: HeldSource) -> None:
        self._host_map = host_map
        self._held = held

    def hosts_and_held_servers(
        self, server_uuids: Collection[str], *, deadline: float
    ) -> tuple[base.Lookup, base.HeldServers]:
        """Look up the hosts of servers, and the servers that have held events.

        :param server_uuids: canonical uuids
        :param deadline: a ``time.monotonic()`` instant
        """
        # NOTE: begun before the host map answers, so that both queries run at the same time.
        query = None if self._host_map.includes_held_servers else self._held.query_held_servers(server_uuids)
        found = self.hosts(server_uuids, deadline=deadline)
        if found.held_servers is not None:
            return found, found.held_servers
        # NOTE: a host map that usually knows the held servers did not answer.
        query = query or self._held.query_held_servers(server_uuids)
        return found, self._held.held_servers(query, deadline=deadline)

    def hosts(self, server_uuids: Collection[str], *, deadline: float) -> base.Lookup:
        """Look up the hosts of servers.

        :param server_uuids: canonical uuids
        :param deadline: a ``time.monotonic()`` instant
        """
        return self._host_map.lookup(server_uuids, timeout=deadline - time.monotonic())
