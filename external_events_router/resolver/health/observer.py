"""Passes information about hosts that deliveries show to all objects that need it."""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Mapping
from collections.abc import Sequence
import contextlib

from external_events_router import events
from external_events_router.journal import entries
from external_events_router.journal import reasons
from external_events_router.journal import recorder
from external_events_router.resolver.health import liveness
from external_events_router.resolver.health import recovery
from external_events_router.resolver.health import slow_host_limiter


class HealthObserver:
    """See ``drivers.base.HostObserver``."""

    def __init__(
        self,
        host_liveness: liveness.HostLiveness,
        host_recovery: recovery.HostRecovery,
        slow_hosts: slow_host_limiter.SlowHostLimiter,
        *,
        journal: recorder.Recorder = recorder.NOTHING,
    ) -> None:
        """:param journal: records late results"""
        self._journal = journal
        self._liveness = host_liveness
        self._recovery = host_recovery
        self._slow_hosts = slow_hosts

    def answered(self, host: str) -> None:
        """See ``drivers.base.HostObserver``."""
        self._recovery.answered(host)

    def silent(self, reasons: Mapping[str, str]) -> None:
        """See ``drivers.base.HostObserver``."""
        self._liveness.silent(reasons)

    def late(self, host: str, results: Sequence[tuple[str, events.Result]] = ()) -> None:
        """See ``drivers.base.HostObserver``."""
        self._liveness.appeared(host)
        self._journal.steps(
            entries.Step(
                result.event_id,
                server_uuid,
                reasons.Step.LATE_ACK,
                host=host,
                detail=result.reason or str(result.verdict),
                handling=result.handling,
            )
            for server_uuid, result in results
        )

    def responded(self, host: str, began: float) -> None:
        """See ``drivers.base.HostObserver``."""
        self._liveness.responded(host)
        self._slow_hosts.answered(host, began)

    def wait(self, hosts: Collection[str]) -> contextlib.AbstractContextManager[None]:
        """See ``drivers.base.HostObserver``."""
        return self._slow_hosts.wait(hosts)
