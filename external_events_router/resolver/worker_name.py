"""The name under which a resolver worker receives acknowledgements.

The broker keeps a queue per name, so names must be few and come back after a
restart; and two live workers must never share one, or each would take the
other's acknowledgements. So a worker claims the first free slot of its
machine, and the operating system frees the slot when the process ends, however
it ends.
"""

from __future__ import annotations

from external_events_router.process import slots

#: Prefix of the claims, which workers of all releases share.
PURPOSE = 'external-events-resolver'


class WorkerName:
    """A claimed name, ``<machine>:<slot>``, held for the life of the process or until released."""

    def __init__(self, host: str) -> None:
        """:param host: ``[DEFAULT] host``, which differs between machines"""
        self._slot = slots.claim_first(slots.SocketClaims(PURPOSE, host))
        self.name = f'{host}:{self._slot.number}'

    def release(self) -> None:
        """Let another worker have the name."""
        self._slot.release()
