"""The version of the compute RPC API that a cell supports, and its effects on a cast."""

from __future__ import annotations

from collections.abc import Callable
import dataclasses
import threading
import time

from oslo_log import log
import sqlalchemy as sa

from external_events_router import exceptions
from external_events_router.db import session
from external_events_router.resolver.drivers.nova import tables

LOG = log.getLogger(__name__)

#: Seconds for which the version of a cell is cached.
KEEP = 60.0

#: First service versions of nova-compute that support RPC 6.0 (after Wallaby) and 6.5 (2026.1), from
#: the history in Nova's service object.
_SERVES_6_0 = 56
_SERVES_6_5 = 71


@dataclasses.dataclass(frozen=True, slots=True)
class RpcVersion:
    """Topic and version of casts to a cell.

    :ivar topic: topic of the cast
    :ivar version: version in the message; the method is unchanged since ``5.0``, so all versions of 6 use
        ``6.0``
    """

    topic: str
    version: str


OLD = RpcVersion('compute', '5.0')
SIX = RpcVersion('compute', '6.0')
#: With 6.5. nova-compute serves this topic until the end of a graceful shutdown.
ALTERNATIVE = RpcVersion('compute-alt', '6.0')


def of_rpc(version: str) -> RpcVersion:
    """Return the value for a version of the compute RPC API.

    :param version: for example ``6.4``
    """
    major, minor = map(int, version.split('.'))
    if major < 6:
        return OLD
    return ALTERNATIVE if minor >= 5 else SIX


def of_service(version: int | None) -> RpcVersion:
    """Return the value for the service version of the oldest nova-compute.

    :param version: None: there is no nova-compute, so the newest version is used
    """
    if version is None or version >= _SERVES_6_5:
        return ALTERNATIVE
    return SIX if version >= _SERVES_6_0 else OLD


class Versions:
    """The version of one cell, which is read regularly. Thread-safe."""

    def __init__(
        self,
        database: Callable[[], session.Database],
        *,
        cell: str = 'a cell',
        pinned: RpcVersion | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """:param database: database of the cell
        :param cell: its name, for the log
        :param pinned: value of the operator, which replaces the version of the cell
        """
        self._database = database
        self._cell = cell
        self._pinned = pinned
        self._clock = clock
        # Guards both attributes below. Its owner reads the version; other threads use the known version.
        self._asking = threading.Lock()
        self._known: RpcVersion | None = None
        self._until = 0.0

    def current(self) -> RpcVersion:
        """Return the present version of the cell.

        While its database is unavailable, the last known version is used.

        :raises RouterError: the version was never read: its database is unavailable, or its URL is not valid
        """
        if self._pinned is not None:
            return self._pinned
        known = self._known
        if known is not None and self._clock() < self._until:
            return known
        if not self._asking.acquire(blocking=known is None):
            assert known is not None  # noqa: S101 - without a version, acquire() has waited
            return known
        try:
            if self._known is not None and self._clock() < self._until:
                return self._known
            try:
                self._known = of_service(_oldest(self._database()))
            except Exception as exc:
                if self._known is None:
                    raise
                reason = str(exc) if isinstance(exc, exceptions.RouterError) else type(exc).__name__
                LOG.warning(
                    'Could not read the version of nova-compute of %s: %s; using the last known version',
                    self._cell,
                    reason,
                )
            self._until = self._clock() + KEEP
            return self._known
        finally:
            self._asking.release()


@session.retried
def _oldest(database: session.Database) -> int | None:
    services = tables.services
    query = sa.select(sa.func.min(services.c.version)).where(
        services.c.binary == 'nova-compute', services.c.deleted == 0, services.c.forced_down == sa.false()
    )
    with database.reading() as connection:
        oldest: int | None = connection.scalar(query)
    return oldest
