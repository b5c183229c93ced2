"""Pure decisions for an attempt for one held server: the hosts to ask, and the results of their answers.

This module does no I/O: ``redelivery`` looks up, delivers and writes the results.
"""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Mapping
import dataclasses

from external_events_router import events
from external_events_router.resolver import answers as host_answers
from external_events_router.resolver.hold import base
from external_events_router.resolver.host_map import base as host_map_base

#: State and reason of events that end without another attempt.
EXPIRED = (base.State.EXPIRED, 'not acknowledged before its deadline')
GONE = (base.State.GONE, 'the server does not exist any longer')

#: Seconds until the second attempt; each later interval is twice as long.
FIRST_INTERVAL = 0.5

#: Seconds until the next attempt for a server that waits only for hosts whose queues have no consumer:
#: the queues are checked meanwhile, and a response of a host causes an immediate attempt.
UNCONSUMED_INTERVAL = 30.0


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """The work of an attempt for one server.

    :ivar targets: hosts to ask, for each event to be sent
    :ivar ended: rows that end without another attempt: state and reason
    :ivar reason: why no host can be asked, if this is the case
    :ivar waits_for: hosts for which the server waits in this case; None: unchanged
    """

    claim: base.Claim
    targets: Mapping[int, frozenset[str]]
    ended: Mapping[int, tuple[base.State, str]]
    reason: str = ''
    waits_for: frozenset[str] | None = frozenset()

    @property
    def hosts(self) -> frozenset[str]:
        """Return all hosts to ask."""
        return frozenset().union(*self.targets.values())

    def by_host(self) -> dict[str, list[base.Held]]:
        """Return the events for each host, in their order."""
        sent: dict[str, list[base.Held]] = {}
        for held in self.claim.events:
            for host in sorted(self.targets.get(held.seq, ())):
                sent.setdefault(host, []).append(held)
        return sent


def plan(claim: base.Claim, lookup: host_map_base.Lookup) -> Plan:
    """Plan the attempt for one server, for its present hosts."""
    server = claim.server_uuid
    alive = [held for held in claim.events if held.remaining > 0]
    ended = {held.seq: EXPIRED for held in claim.events if held.remaining <= 0}
    if server in lookup.unavailable:
        return Plan(claim, {}, ended, lookup.why(server), waits_for=None)
    if server not in lookup.hosts:
        return Plan(claim, {}, {**ended, **{held.seq: GONE for held in alive}})
    hosts = frozenset(lookup.hosts[server])
    if not hosts:
        # NOTE: not delivered, although a previous host may have acknowledged it: a server that moves
        # between two hosts may have no host for some time.
        return Plan(claim, {}, ended, 'the server is on no host')
    return Plan(claim, {held.seq: hosts - held.acknowledged for held in alive}, ended)


def settle(
    attempted: Plan,
    answers: host_answers.Answers,
    *,
    max_interval: float,
    unconsumed: Collection[str] = (),
) -> base.Settlement:
    """Return the results of one attempt.

    :param answers: answers of the asked hosts; empty: no host was asked
    :param max_interval: maximum seconds between two attempts
    :param unconsumed: hosts whose queues have no consumer; if the server waits only for these, the
        interval is :data:`UNCONSUMED_INTERVAL`
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
        received = _answers_of(held, attempted.targets[held.seq], answers)
        outcome = host_answers.outcome_of(held.event, sorted(hosts), received)
        if outcome.code is events.Code.DELIVERED:
            delivered.add(held.seq)
        elif outcome.code is events.Code.REFUSED:
            ended[held.seq] = (base.State.REFUSED, outcome.reason or '')
        else:
            handled = host_answers.hosts_that_handled(held.event, hosts, received)
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


def _answers_of(
    held: base.Held, targets: frozenset[str], answers: host_answers.Answers
) -> host_answers.Answers:
    """Return the answers to a held event: of the hosts that acknowledged it before, and of its targets."""
    handled = host_answers.Answer(events.Verdict.HANDLED)
    received = {(host, held.event.id): handled for host in held.acknowledged}
    for host in targets:
        key = (host, held.event.id)
        received[key] = answers.get(key, host_answers.Answer(None, 'the host does not respond'))
    return received


def _retry_after(
    attempted: Plan, missing: Collection[str], unconsumed: Collection[str], max_interval: float
) -> float:
    interval = _interval(attempted.claim.attempts, max_interval)
    if not missing or not all(host in unconsumed for host in missing):
        return interval
    # NOTE: at most until the first of its events expires.
    first = min(held.remaining for held in attempted.claim.events if held.seq in attempted.targets)
    return max(interval, min(UNCONSUMED_INTERVAL, first))


def _interval(attempts: int, max_interval: float) -> float:
    return float(min(max_interval, FIRST_INTERVAL * 2 ** min(attempts, 16)))
