"""The way of one batch through the resolver: look up, cast, await, decide, hold what is not acknowledged.

The steps live in ``host_map``, ``delivery``, ``plan`` and ``hold``; here is
their order and their deadline. It knows no RPC: ``endpoint`` calls it.
"""

from __future__ import annotations

import collections
from collections.abc import Collection
from collections.abc import Mapping
from collections.abc import Sequence
import logging
import time
from typing import Protocol

from oslo_log import log

from external_events_router import context
from external_events_router import events
from external_events_router.resolver import breaker
from external_events_router.resolver import delivery
from external_events_router.resolver import pace
from external_events_router.resolver import plan
from external_events_router.resolver.hold import base as hold_base
from external_events_router.resolver.hold import keeper
from external_events_router.resolver.host_map import base

LOG = log.getLogger(__name__)

#: Seconds beyond the ack timeout in which events must be held: the front waits
#: half a second for the answer.
HOLD_GRACE = 0.4

#: Why an event is held although its host was not asked.
BEHIND = 'behind an earlier event of the server'
NOT_WAITED_FOR = 'a host of the server is not waited for'

#: Host to its answer, for each position in the batch that a host was asked about.
Answers = dict[int, dict[str, plan.Answer]]


class Map(Protocol):
    """The part of ``host_map.guarded.GuardedHostMap`` that is used here."""

    @property
    def tells_busy(self) -> bool: ...

    def lookup(self, server_uuids: Collection[str]) -> base.Lookup: ...


class Router:
    """Routes batches. Thread-safe; one per resolver worker."""

    def __init__(
        self,
        host_map: Map,
        deliverer: delivery.Deliverer,
        hold: keeper.Keeper,
        breakers: breaker.Breakers,
        hosts_pace: pace.Pace,
    ) -> None:
        self._pace = hosts_pace
        self._host_map = host_map
        self._deliverer = deliverer
        self._hold = hold
        self._breakers = breakers

    def route(
        self, ctxt: context.RequestContext, batch: Sequence[events.Event], *, ack_timeout: float
    ) -> list[events.Outcome]:
        """Deliver a batch, or hold it, and say what became of each event.

        :param ack_timeout: seconds after which no acknowledgement is waited for
        :returns: an outcome per event, in their order
        """
        began = time.monotonic()
        deadline = began + ack_timeout
        servers = {event.server_uuid for event in batch}
        # NOTE: asked before the map answers, so that a batch waits for both at once.
        asked = None if self._host_map.tells_busy else self._hold.ask_busy(servers)
        first, lookup = self._plan(dict(enumerate(batch)))
        busy = lookup.busy
        if busy is None:
            asked = self._hold.ask_busy(servers) if asked is None else asked
            busy = self._hold.busy(asked, deadline=deadline)
        kept_back = self._kept_back(batch, first, busy)
        direct = {
            host: [position for position in positions if batch[position].server_uuid not in kept_back]
            for host, positions in first.by_host.items()
        }
        answers = self._deliver(ctxt, batch, direct, deadline, lookup)
        for host, positions in first.by_host.items():
            for position in positions:
                if batch[position].server_uuid in kept_back:
                    unasked = plan.Answer(None, kept_back[batch[position].server_uuid])
                    answers.setdefault(position, {})[host] = unasked
        decided = {**first.decided, **self._follow_moves(ctxt, batch, answers, deadline)}
        outcomes = [
            decided[position] if position in decided else plan.outcome_of(event, answers[position])
            for position, event in enumerate(batch)
        ]
        outcomes = self._hold_rest(ctxt, outcomes, answers, deadline=deadline + HOLD_GRACE)
        _log(outcomes, hosts=len(first.by_host), seconds=time.monotonic() - began)
        return outcomes

    def _plan(self, batch: Mapping[int, events.Event]) -> tuple[plan.Plan, base.Lookup]:
        lookup = self._host_map.lookup({event.server_uuid for event in batch.values()})
        return plan.by_host(batch, lookup), lookup

    def _kept_back(
        self, batch: Sequence[events.Event], first: plan.Plan, busy: Collection[str]
    ) -> Mapping[str, str]:
        """Servers whose events must not go out now, and why."""
        hosts_of: dict[str, set[str]] = {}
        for host, positions in first.by_host.items():
            for position in positions:
                hosts_of.setdefault(batch[position].server_uuid, set()).add(host)
        kept_back = dict.fromkeys(hosts_of.keys() & busy, BEHIND)
        free = {server: hosts for server, hosts in hosts_of.items() if server not in kept_back}
        # NOTE: not the hosts of the others. A host that is let through to be tried would
        # not be, and not again for a while: a server with an event at each moment
        # would be held for as long as that goes on.
        admitted = self._breakers.admit(self._pace.admit(frozenset().union(*free.values())))
        kept_back.update({server: NOT_WAITED_FOR for server, hosts in free.items() if not hosts <= admitted})
        return kept_back

    def _hold_rest(
        self,
        ctxt: context.RequestContext,
        outcomes: Sequence[events.Outcome],
        answers: Answers,
        *,
        deadline: float,
    ) -> list[events.Outcome]:
        """Hold what some host has not acknowledged and may yet."""
        items = {
            position: self._item(outcome, answers.get(position, {}))
            for position, outcome in enumerate(outcomes)
            if self._is_worth_holding(outcome, answers.get(position, {}))
        }
        if not items:
            return list(outcomes)
        problem = self._hold.hold(ctxt, list(items.values()), deadline=deadline)
        return [
            _held(outcome, problem) if position in items else outcome
            for position, outcome in enumerate(outcomes)
        ]

    def _is_worth_holding(self, outcome: events.Outcome, told: Mapping[str, plan.Answer]) -> bool:
        if outcome.code is events.Code.NO_HOST:
            return not told and self._hold.lifetimes.unassigned > 0
        # A server that could not be looked up has no hosts here: it may not exist.
        return outcome.code is events.Code.UNDELIVERED and bool(told)

    def _item(self, outcome: events.Outcome, told: Mapping[str, plan.Answer]) -> hold_base.Item:
        handled = frozenset(host for host, answer in told.items() if answer.verdict is events.Verdict.HANDLED)
        lifetimes = self._hold.lifetimes
        unassigned = outcome.code is events.Code.NO_HOST
        return hold_base.Item(
            event=outcome.event,
            ttl=lifetimes.unassigned if unassigned else lifetimes.of(outcome.event),
            hosts=tuple(host for host in told if host not in handled),
            acknowledged=handled,
            reason=outcome.reason or '',
        )

    def _deliver(
        self,
        ctxt: context.RequestContext,
        batch: Sequence[events.Event],
        by_host: Mapping[str, Sequence[int]],
        deadline: float,
        lookup: base.Lookup,
    ) -> Answers:
        told = self._deliverer.deliver(
            ctxt,
            {
                host: [batch[position] for position in positions]
                for host, positions in by_host.items()
                if positions
            },
            deadline=deadline,
            lifetime=self._hold.lifetimes.of,
            records=lookup.records,
        )
        answers: Answers = {}
        for host, positions in by_host.items():
            for position in positions:
                answers.setdefault(position, {})[host] = told[host, batch[position].id]
        return answers

    def _follow_moves(
        self,
        ctxt: context.RequestContext,
        batch: Sequence[events.Event],
        answers: Answers,
        deadline: float,
    ) -> Mapping[int, events.Outcome]:
        """Read the map again for servers that none of their hosts has, and try the new hosts, once.

        :param answers: is added to
        :returns: what the second look at the map decided without a host
        """
        stale = {
            position: batch[position] for position, told in answers.items() if plan.is_stale(told.values())
        }
        if not stale:
            return {}
        again, lookup = self._plan(stale)
        new_hosts: dict[str, list[int]] = {}
        for host, positions in again.by_host.items():
            for position in positions:
                if host not in answers[position]:
                    new_hosts.setdefault(host, []).append(position)
        for position, told in self._deliver(ctxt, batch, new_hosts, deadline, lookup).items():
            answers[position].update(told)
        return again.decided


def _held(outcome: events.Outcome, problem: str | None) -> events.Outcome:
    if problem is None:
        return events.Outcome(outcome.event, events.Code.DELIVERED, f'held: {outcome.reason}')
    code = outcome.code if outcome.code is events.Code.NO_HOST else events.Code.UNDELIVERED
    return events.Outcome(outcome.event, code, f'{outcome.reason}; not held: {problem}')


def _log(outcomes: Sequence[events.Outcome], *, hosts: int, seconds: float) -> None:
    # NOTE: the front says at INFO how each batch ended; here it is said if all was not as usual.
    ordinary = all(outcome.code is events.Code.DELIVERED and outcome.reason is None for outcome in outcomes)
    if ordinary and not LOG.isEnabledFor(logging.DEBUG):
        return
    counts = collections.Counter(int(outcome.code) for outcome in outcomes)
    LOG.log(
        logging.DEBUG if ordinary else logging.INFO,
        'Routed %d events to %d hosts in %.3f s: %s',
        len(outcomes),
        hosts,
        seconds,
        ', '.join(f'{count} x {code}' for code, count in sorted(counts.items())),
    )
    for outcome in outcomes:
        if outcome.reason is not None:
            LOG.debug(
                'Event %s (%s of server %s, tag %r) is %d: %s',
                outcome.event.id,
                outcome.event.name,
                outcome.event.server_uuid,
                outcome.event.tag,
                outcome.code,
                outcome.reason,
            )
