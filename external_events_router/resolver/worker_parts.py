"""Registers the parts of a resolver worker that describe their state; see ``process.parts``."""

from __future__ import annotations

from external_events_router.process import parts
from external_events_router.resolver.drivers import base
from external_events_router.resolver.health import circuit_breaker
from external_events_router.resolver.hold import hold
from external_events_router.resolver.host_map import guarded

#: Maximum number of hosts that are named.
EXAMPLES = 20


class WorkerParts:
    """The parts of one worker."""

    def __init__(
        self,
        breakers: circuit_breaker.CircuitBreakers,
        rounds: base.Rounds | None,
        *,
        held: hold.Hold,
        host_map: guarded.GuardedHostMap,
    ) -> None:
        """:param rounds: the deliveries in flight; None: they are not known"""
        self._breakers = breakers
        self._rounds = rounds
        self._hold = held
        self._host_map = host_map

    def start(self) -> None:
        """Register the parts."""
        parts.ALL.add(parts.Kind.BREAKERS, self._breakers, _breakers)
        parts.ALL.add(parts.Kind.HOLD, self._hold, hold.Hold.status)
        parts.ALL.add(parts.Kind.HOST_MAP, self._host_map, guarded.GuardedHostMap.status)
        if self._rounds is not None:
            parts.ALL.add(parts.Kind.ROUNDS, self._rounds, _rounds)

    def stop(self) -> None:
        """Remove the parts."""
        for part in (self._breakers, self._hold, self._host_map, self._rounds):
            if part is not None:
                parts.ALL.remove(part)


def _breakers(breakers: circuit_breaker.CircuitBreakers) -> parts.Status:
    hosts = sorted(breakers.hosts())
    details = {'open': len(hosts), 'unconsumed': len(breakers.unconsumed()), 'hosts': hosts[:EXAMPLES]}
    return parts.Status('hosts', details=details)


def _rounds(rounds: base.Rounds) -> parts.Status:
    hosts = sorted(rounds.in_flight())
    return parts.Status('deliveries', details={'hosts': len(hosts), 'examples': hosts[:EXAMPLES]})
