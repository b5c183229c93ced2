"""The name under which a resolver worker receives acknowledgements.

The broker keeps a queue for each name, so the number of names must be small, and workers must reuse
them after a restart. Two running workers must never have the same name, because each would get
acknowledgements of the other. So a worker claims the first free slot of its machine. The operating
system frees the slot when the process ends for any reason.
"""

from __future__ import annotations

from external_events_router.process import slots

#: Prefix of the claims. Workers of all releases share it.
PURPOSE = 'external-events-resolver'


class WorkerName:
    """A claimed name, ``<machine>:<slot>``. The process keeps it until its end or until :meth:`release`."""

    def __init__(self, host: str) -> None:
        """:param host: ``[DEFAULT] host``, which must be unique for each machine"""
        self._slot = slots.claim_first(slots.SocketClaims(PURPOSE, host))
        self.name = f'{host}:{self._slot.number}'

    def release(self) -> None:
        """Release the name, so that another worker can claim it."""
        self._slot.release()
