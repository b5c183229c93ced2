"""Pure decisions about an attempt for one held server: whom to ask, and what the answers amount to.

No I/O: the ``courier`` looks up, delivers and writes down.
"""

from __future__ import annotations

from collections.abc import Mapping
import dataclasses

from external_events_router import events
from external_events_router.resolver import delivery
from external_events_router.resolver import plan as batch_plan
from external_events_router.resolver.hold import base
from external_events_router.resolver.host_map import base as host_map_base

#: Seconds between the first attempts; each further one waits twice as long.
FIRST_INTERVAL = 0.5


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """What an attempt does for one server.

    :ivar targets: for each event that is still worth it, the hosts to ask
    :ivar ended: rows that end without being asked for: state and reason
    :ivar reason: why nobody can be asked, where nobody can
    """

    claim: base.Claim
    targets: Mapping[int, frozenset[str]]
    ended: Mapping[int, tuple[base.State, str]]
    reason: str = ''

    @property
    def hosts(self) -> frozenset[str]:
        """All hosts to ask."""
        return frozenset().union(*self.targets.values())

    def by_host(self) -> dict[str, list[base.Held]]:
        """What each host is sent, in the order of the events."""
        sent: dict[str, list[base.Held]] = {}
        for held in self.claim.events:
            for host in sorted(self.targets.get(held.seq, ())):
                sent.setdefault(host, []).append(held)
        return sent


def plan(claim: base.Claim, lookup: host_map_base.Lookup) -> Plan:
    """Decide for one server, by where it is now."""
    server = claim.server_uuid
    targets: dict[int, frozenset[str]] = {}
    ended: dict[int, tuple[base.State, str]] = {}
    hosts = frozenset(lookup.hosts.get(server, ()))
    for held in claim.events:
        if held.remaining <= 0:
            ended[held.seq] = (base.State.EXPIRED, 'not acknowledged before its deadline')
        elif server in lookup.unavailable:
            targets[held.seq] = frozenset()
        elif server not in lookup.hosts:
            ended[held.seq] = (base.State.GONE, 'the server is no more')
        else:
            targets[held.seq] = hosts - held.acknowledged
    reason = lookup.reason or '' if server in lookup.unavailable else 'the server is on no host'
    return Plan(claim, targets, ended, reason)


def settle(attempted: Plan, answers: delivery.Answers, *, max_interval: float) -> base.Settlement:
    """What one attempt came to.

    :param answers: of the hosts that were asked; none: nobody was
    :param max_interval: seconds between two attempts at most
    """
    delivered: set[int] = set()
    ended = dict(attempted.ended)
    acknowledged: dict[int, frozenset[str]] = {}
    missing: set[str] = set()
    reason = ''
    for held in attempted.claim.events:
        if held.seq in ended:
            continue
        told = _told(held, attempted.targets[held.seq], answers)
        outcome = batch_plan.outcome_of(held.event, told) if told else None
        if outcome is not None and outcome.code is events.Code.DELIVERED:
            delivered.add(held.seq)
        elif outcome is not None and outcome.code is events.Code.REFUSED:
            ended[held.seq] = (base.State.REFUSED, outcome.reason or '')
        else:
            handled = {host for host, answer in told.items() if answer.verdict is events.Verdict.HANDLED}
            if handled != held.acknowledged:
                acknowledged[held.seq] = frozenset(handled)
            missing |= told.keys() - handled
            reason = reason or (outcome.reason if outcome and outcome.reason else attempted.reason)
    return base.Settlement(
        server_uuid=attempted.claim.server_uuid,
        delivered=frozenset(delivered),
        ended=ended,
        acknowledged=acknowledged,
        hosts=frozenset(missing),
        reason=reason,
        retry_after=_interval(attempted.claim.attempts, max_interval) if reason else 0.0,
    )


def _told(
    held: base.Held, targets: frozenset[str], answers: delivery.Answers
) -> Mapping[str, batch_plan.Answer]:
    told = {host: batch_plan.Answer(events.Verdict.HANDLED) for host in held.acknowledged}
    for host in targets:
        told[host] = answers.get((host, held.event.id), batch_plan.Answer(None, 'it is not waited for now'))
    return told


def _interval(attempts: int, max_interval: float) -> float:
    return float(min(max_interval, FIRST_INTERVAL * 2 ** min(attempts, 16)))
