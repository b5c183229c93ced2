"""Which version of the compute RPC API a cell understands, and what follows from it for a cast."""

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

#: Seconds for which a cell's version is taken for granted.
KEEP = 60.0

#: Service versions of nova-compute from which on it serves RPC 6.0, and 6.5: those
#: of Wallaby's successors and of 2026.1, by the history in Nova's service object.
_SERVES_6_0 = 56
_SERVES_6_5 = 71


@dataclasses.dataclass(frozen=True, slots=True)
class RpcVersion:
    """How the computes of a cell are spoken to.

    :ivar topic: of the cast
    :ivar version: that the message carries: the method has not changed since
        ``5.0``, so all of 6 say ``6.0``
    """

    topic: str
    version: str


OLD = RpcVersion('compute', '5.0')
SIX = RpcVersion('compute', '6.0')
#: The topic of 6.5 is served until the end of a graceful shutdown.
ALTERNATIVE = RpcVersion('compute-alt', '6.0')


def of_rpc(version: str) -> RpcVersion:
    """For a version of the compute RPC API.

    :param version: for example ``6.4``
    """
    major, minor = map(int, version.split('.'))
    if major < 6:
        return OLD
    return ALTERNATIVE if minor >= 5 else SIX


def of_service(version: int | None) -> RpcVersion:
    """For the service version of the oldest nova-compute.

    :param version: None: there is none, and the newest is as good as any
    """
    if version is None or version >= _SERVES_6_5:
        return ALTERNATIVE
    return SIX if version >= _SERVES_6_0 else OLD


class Versions:
    """What one cell understands, asked for now and then. Thread-safe."""

    def __init__(
        self,
        database: Callable[[], session.Database],
        *,
        cell: str = 'a cell',
        pinned: RpcVersion | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """:param database: of the cell
        :param cell: its name, for the log
        :param pinned: what the operator says in place of the cell
        """
        self._database = database
        self._cell = cell
        self._pinned = pinned
        self._clock = clock
        # Guards both below; who has it asks, the others go by what they know.
        self._asking = threading.Lock()
        self._known: RpcVersion | None = None
        self._until = 0.0

    def current(self) -> RpcVersion:
        """How to speak to the cell now.

        While its database is away: as before.

        :raises RouterError: it is away, or its URL cannot be used, and was all the time
        """
        if self._pinned is not None:
            return self._pinned
        known = self._known
        if known is not None and self._clock() < self._until:
            return known
        if not self._asking.acquire(blocking=known is None):
            assert known is not None  # noqa: S101 - else it would have waited
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
                    'The version of the computes of %s cannot be read; they are spoken to as before: %s',
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
