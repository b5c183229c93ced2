"""The queries of a batch: the hosts of its servers, and which of its servers have held events.

Both queries run at the same time, so that a batch waits for the slower one only. A host map
in the database of the held events returns both in one query.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Collection
import functools
import time
from typing import Protocol

from external_events_router.concurrency import batch_loader
from external_events_router.resolver.host_map import base

#: Seconds before the held servers are queried alone, because the query for both has not ended. Much
#: longer than a normal query, so that a busy database gets no additional queries.
HELD_PATIENCE = 0.25


class PendingHosts(Protocol):
    """The methods of ``host_map.guarded.PendingLookup`` that are used here."""

    @property
    def is_ready(self) -> bool: ...

    def wait_until(self, deadline: float) -> bool: ...

    def result(self) -> base.Lookup: ...


class HostSource(Protocol):
    """The methods of ``host_map.guarded.GuardedHostMap`` that are used here."""

    @property
    def includes_held_servers(self) -> bool: ...

    def begin(
        self,
        server_uuids: Collection[str],
        *,
        timeout: float,
        then: Callable[[base.Lookup | None], None] | None,
    ) -> PendingHosts: ...


class HeldSource(Protocol):
    """The methods of ``hold.hold.Hold`` that are used here."""

    def query_held_servers(
        self, server_uuids: Collection[str]
    ) -> batch_loader.LoadRequest[base.HeldServers]: ...

    def held_servers(
        self, query: batch_loader.LoadRequest[base.HeldServers], *, deadline: float
    ) -> base.HeldServers: ...

    def cancel_query(self, query: batch_loader.LoadRequest[base.HeldServers]) -> None: ...


#: The hosts of servers, and the servers that have held events.
Found = tuple[base.Lookup, base.HeldServers]

#: Receives the result of a look-up, or None.
Then = Callable[[Found | None], None]


class PendingLookup:
    """A look-up that was begun.

    :ivar may_call: whether the thread of the query may call the function ``then``
    """

    def __init__(self, result: Callable[[], Found], *, may_call: bool) -> None:
        self.may_call = may_call
        self._result = result

    def result(self) -> Found:
        """Wait for the result; to be called once."""
        return self._result()


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
        return self.begin(server_uuids, deadline=deadline).result()

    def begin(
        self, server_uuids: Collection[str], *, deadline: float, then: Then | None = None
    ) -> PendingLookup:
        """Begin to look up the hosts of servers, and the servers that have held events, without waiting.

        :param server_uuids: canonical uuids
        :param deadline: a ``time.monotonic()`` instant
        :param then: called once on the thread of the query, with the result, or with None if only
            :meth:`PendingLookup.result` can return it; not if :attr:`PendingLookup.may_call` is false. Must
            not block
        """
        began, in_one_query = time.monotonic(), self._host_map.includes_held_servers
        # NOTE: begun before the host map answers, so that both queries run at the same time.
        query = None if in_one_query else self._held.query_held_servers(server_uuids)
        callback = None if then is None or not in_one_query else functools.partial(_call, then)
        hosts = self._host_map.begin(server_uuids, timeout=deadline - began, then=callback)

        def result() -> Found:
            held = query
            if held is None and not hosts.wait_until(min(deadline, began + HELD_PATIENCE)):
                # NOTE: not after the host map has failed to answer. Then both would fail one after the
                # other, and no time would be left for the hosts that are known from the cache.
                held = self._held.query_held_servers(server_uuids)
            found = hosts.result()
            if found.held_servers is not None:
                if held is not None:
                    self._held.cancel_query(held)
                return found, found.held_servers
            # NOTE: a host map that usually knows the held servers did not answer.
            held = held or self._held.query_held_servers(server_uuids)
            return found, self._held.held_servers(held, deadline=deadline)

        return PendingLookup(result, may_call=callback is not None and not hosts.is_ready)


def _call(then: Then, found: base.Lookup | None) -> None:
    then(None if found is None or found.held_servers is None else (found, found.held_servers))
