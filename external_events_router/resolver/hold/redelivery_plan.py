"""Pure decisions about an attempt for one held server: whom to ask, and what the answers amount to.

No I/O: the ``courier`` looks up, delivers and writes down.
"""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Mapping
import dataclasses

from external_events_router import events
from external_events_router.resolver import answers as host_answers
from external_events_router.resolver.hold import base
from external_events_router.resolver.host_map import base as host_map_base

#: How events end without being asked about.
EXPIRED = (base.State.EXPIRED, 'not acknowledged before its deadline')
GONE = (base.State.GONE, 'the server is no more')

#: Seconds between the first attempts; each further one waits twice as long.
FIRST_INTERVAL = 0.5

#: Seconds until the next attempt for a server that waits only for hosts whose queues have
#: no consumer: these are looked at meanwhile, and a sign of life brings the attempt forward.
UNCONSUMED_INTERVAL = 30.0


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """What an attempt does for one server.

    :ivar targets: for each event to be asked about, the hosts to ask
    :ivar ended: rows that end without being asked for: state and reason
    :ivar reason: why nobody can be asked, where nobody can
    :ivar waits_for: the hosts that the server waits for then; None: as before
    """

    claim: base.Claim
    targets: Mapping[int, frozenset[str]]
    ended: Mapping[int, tuple[base.State, str]]
    reason: str = ''
    waits_for: frozenset[str] | None = frozenset()

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
    alive = [held for held in claim.events if held.remaining > 0]
    ended = {held.seq: EXPIRED for held in claim.events if held.remaining <= 0}
    if server in lookup.unavailable:
        return Plan(claim, {}, ended, lookup.why(server), waits_for=None)
    if server not in lookup.hosts:
        return Plan(claim, {}, {**ended, **{held.seq: GONE for held in alive}})
    hosts = frozenset(lookup.hosts[server])
    if not hosts:
        # NOTE: not delivered, although one that it was on may have acknowledged
        # it: between two hosts a server may be on none for a while.
        return Plan(claim, {}, ended, 'the server is on no host')
    return Plan(claim, {held.seq: hosts - held.acknowledged for held in alive}, ended)


def settle(
    attempted: Plan,
    answers: host_answers.Answers,
    *,
    max_interval: float,
    unconsumed: Collection[str] = (),
) -> base.Settlement:
    """What one attempt came to.

    :param answers: of the hosts that were asked; none: nobody was
    :param max_interval: seconds between two attempts at most
    :param unconsumed: hosts whose queues have no consumer; for these it is
        :data:`UNCONSUMED_INTERVAL`
    """
    delivered: set[int] = set()
    ended = dict(attempted.ended)
    acknowledged: dict[int, frozenset[str]] = {}
    missing: set[str] = set()
    reason = attempted.reason
    for held in attempted.claim.events:
        if held.seq not in attempted.targets:
            continue
        hosts = held.acknowledged | attempted.targets[held.seq]
        told = _told(held, attempted.targets[held.seq], answers)
        outcome = host_answers.outcome_of(held.event, sorted(hosts), told)
        if outcome.code is events.Code.DELIVERED:
            delivered.add(held.seq)
        elif outcome.code is events.Code.REFUSED:
            ended[held.seq] = (base.State.REFUSED, outcome.reason or '')
        else:
            handled = host_answers.hosts_that_handled(held.event, hosts, told)
            if handled != held.acknowledged:
                acknowledged[held.seq] = handled
            missing |= hosts - handled
            reason = reason or outcome.reason or 'no reason given'
    return base.Settlement(
        server_uuid=attempted.claim.server_uuid,
        last=attempted.claim.events[-1].seq if attempted.claim.events else 0,
        delivered=frozenset(delivered),
        ended=ended,
        acknowledged=acknowledged,
        hosts=frozenset(missing) if attempted.targets else attempted.waits_for,
        reason=reason,
        retry_after=_retry_after(attempted, missing, unconsumed, max_interval) if reason else 0.0,
    )


def _told(held: base.Held, targets: frozenset[str], answers: host_answers.Answers) -> host_answers.Answers:
    """The answers to a held event: of the hosts that acknowledged it before, and of its targets."""
    handled = host_answers.Answer(events.Verdict.HANDLED)
    told = {(host, held.event.id): handled for host in held.acknowledged}
    for host in targets:
        key = (host, held.event.id)
        told[key] = answers.get(key, host_answers.Answer(None, 'it is not waited for now'))
    return told


def _retry_after(
    attempted: Plan, missing: Collection[str], unconsumed: Collection[str], max_interval: float
) -> float:
    interval = _interval(attempted.claim.attempts, max_interval)
    if not missing or not all(host in unconsumed for host in missing):
        return interval
    # NOTE: not longer than until the first of its events has to end.
    first = min(held.remaining for held in attempted.claim.events if held.seq in attempted.targets)
    return max(interval, min(UNCONSUMED_INTERVAL, first))


def _interval(attempts: int, max_interval: float) -> float:
    return float(min(max_interval, FIRST_INTERVAL * 2 ** min(attempts, 16)))
