"""The way of one batch through the resolver: look up, cast, await, decide, hold what is not acknowledged.

The steps live in ``host_map``, ``delivery``, ``plan`` and ``hold``; here is
their order and their deadline. It knows no RPC: ``endpoint`` calls it.
"""

from __future__ import annotations

import collections
from collections.abc import Collection
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import logging
import time
from typing import Protocol

from oslo_log import log

from external_events_router import context
from external_events_router import events
from external_events_router import throttled_log
from external_events_router.journal import recorder
from external_events_router.metrics import recorder as metrics
from external_events_router.resolver import plan
from external_events_router.resolver.drivers.agent import delivery
from external_events_router.resolver.health import circuit_breaker
from external_events_router.resolver.health import liveness
from external_events_router.resolver.health import slow_host_limiter
from external_events_router.resolver.hold import base as hold_base
from external_events_router.resolver.hold import hold
from external_events_router.resolver.host_map import base

LOG = log.getLogger(__name__)

#: Seconds that a write to the hold has at least; and the seconds beyond the ack timeout
#: in which it must have ended: the front answers within a second. So hosts are waited
#: for a little less than the ack timeout.
HOLD_TIME = 1.0
HOLD_GRACE = 0.9

#: Seconds that the answer takes to who gave a time limit.
ANSWER_TIME = 0.05

#: Seconds that hosts are waited for at least, where a time limit leaves less.
LEAST_WAIT = 0.02

#: Batches that were not simply delivered, of which each has a message of its own, in a minute.
BATCHES_LOGGED = 5

#: Why an event is held although its host was not asked.
BEHIND = 'behind an earlier event of the server'
MAP_NOT_READ = 'no host has the server, and the host map could not be read again'
NOT_WAITED_FOR = 'the host is not waited for'

#: Host to its answer, for each position in the batch that a host was asked about.
Answers = dict[int, dict[str, plan.Answer]]


class Map(Protocol):
    """The part of ``host_map.guarded.GuardedHostMap`` that is used here."""

    @property
    def tells_busy(self) -> bool: ...

    def lookup(self, server_uuids: Collection[str], *, timeout: float) -> base.Lookup: ...


@dataclasses.dataclass(frozen=True, slots=True)
class Deadlines:
    """Until when a batch may wait, as instants of ``time.monotonic()``.

    :ivar hosts: for look-ups and acknowledgements
    :ivar hold: for the write to the hold, at least :data:`HOLD_TIME` later
    """

    hosts: float
    hold: float

    @classmethod
    def after(cls, began: float, *, ack_timeout: float, timeout: float | None) -> Deadlines:
        """Of a batch that came at an instant.

        :param timeout: seconds after which nobody waits for the answer; None: a second
            more than ``ack_timeout``
        """
        wait = max(ack_timeout - (HOLD_TIME - HOLD_GRACE), ack_timeout / 2)
        end = max(ack_timeout + HOLD_GRACE, wait + HOLD_TIME)
        if timeout is not None and timeout - ANSWER_TIME < end:
            end = max(0.0, timeout - ANSWER_TIME)
            wait = min(wait, max(end - HOLD_TIME, LEAST_WAIT))
        return cls(hosts=began + wait, hold=began + end)


class Router:
    """Routes batches. Thread-safe; one per resolver worker."""

    def __init__(
        self,
        host_map: Map,
        deliverer: delivery.Deliverer,
        hold: hold.Hold,
        breakers: circuit_breaker.CircuitBreakers,
        slow_hosts: slow_host_limiter.SlowHostLimiter,
        *,
        journal: recorder.Recorder = recorder.NOTHING,
    ) -> None:
        self._journal = journal
        self._slow_hosts = slow_hosts
        self._host_map = host_map
        self._deliverer = deliverer
        self._hold = hold
        self._breakers = breakers
        self._not_ordinary = throttled_log.Bounded(
            LOG, lines=BATCHES_LOGGED, rest='%d more batches had events that were held or not delivered'
        )

    def close(self) -> None:
        """Write the message that is left; after the last batch."""
        self._not_ordinary.flush(now=True)

    def route(
        self,
        ctxt: context.RequestContext,
        batch: Sequence[events.Event],
        *,
        ack_timeout: float,
        timeout: float | None = None,
    ) -> list[events.Outcome]:
        """Deliver a batch, or hold it, and say what became of each event.

        :param ack_timeout: seconds after which no acknowledgement is waited for
        :param timeout: seconds after which nobody waits for the answer, see :class:`Deadlines`
        :returns: an outcome per event, in their order
        """
        began = time.monotonic()
        deadlines = Deadlines.after(began, ack_timeout=ack_timeout, timeout=timeout)
        servers = {event.server_uuid for event in batch}
        # NOTE: asked before the map answers, so that a batch waits for both at once.
        asked = None if self._host_map.tells_busy else self._hold.ask_busy(servers)
        first, lookup = self._plan(dict(enumerate(batch)), deadlines.hosts)
        busy = lookup.busy
        if busy is None:
            asked = self._hold.ask_busy(servers) if asked is None else asked
            busy = self._hold.busy(asked, deadline=deadlines.hosts)
        unasked = self._unasked(batch, first, busy)
        direct = first.by_host
        if unasked:
            direct = {
                host: [position for position in positions if (host, position) not in unasked]
                for host, positions in direct.items()
            }
        answers = self._deliver(ctxt, batch, direct, deadlines.hosts, lookup)
        for (host, position), reason in unasked.items():
            answers.setdefault(position, {})[host] = plan.Answer(None, reason)
        decided = {**first.decided, **self._follow_moves(ctxt, batch, answers, deadlines.hosts)}
        outcomes = [
            decided[position] if position in decided else plan.outcome_of(event, answers[position])
            for position, event in enumerate(batch)
        ]
        outcomes = self._hold_rest(ctxt, outcomes, answers, deadline=deadlines.hold)
        self._journal.batch(ctxt, outcomes, answers, since=began)
        seconds = time.monotonic() - began
        metrics.current().batch_routed(outcomes, seconds=seconds)
        self._log(outcomes, hosts=len(first.by_host), seconds=seconds)
        return outcomes

    def _plan(self, batch: Mapping[int, events.Event], deadline: float) -> tuple[plan.Plan, base.Lookup]:
        lookup = self._host_map.lookup(
            {event.server_uuid for event in batch.values()}, timeout=deadline - time.monotonic()
        )
        return plan.by_host(batch, lookup), lookup

    def _unasked(
        self, batch: Sequence[events.Event], first: plan.Plan, busy: base.Busy
    ) -> Mapping[tuple[str, int], str]:
        """Hosts that must not get an event now, with the event's position, and why.

        What is held is the part of such a host: the other hosts of the server get the
        event at once.
        """
        unasked: dict[tuple[str, int], str] = {}
        asked = set(first.by_host)
        if busy:
            for host, positions in first.by_host.items():
                behind = [
                    position
                    for position in positions
                    if (free := busy.get(batch[position].server_uuid)) is not None and host not in free
                ]
                unasked.update(dict.fromkeys(((host, position) for position in behind), BEHIND))
                # NOTE: then nothing is asked of it. A host that is let through to be tried
                # would not be, and not again for a while: a server with an event at each
                # moment would be held for as long as that goes on.
                if len(behind) == len(positions):
                    asked.discard(host)
        refused = asked - self._breakers.admit(self._slow_hosts.admit(frozenset(asked)))
        unconsumed = self._breakers.unconsumed_among(refused) if refused else frozenset()
        for host in refused:
            reason = liveness.NO_CONSUMER if host in unconsumed else NOT_WAITED_FOR
            for position in first.by_host[host]:
                unasked.setdefault((host, position), reason)
        return unasked

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
        began = time.monotonic()
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
        seconds = time.monotonic() - began
        metrics.current().hosts_answered(told.values(), path=metrics.DIRECT, seconds=seconds)
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
        again, lookup = self._plan(stale, deadline)
        if lookup.remembered:
            # These are the hosts that were asked; where it is now, only the map could say.
            return {
                position: events.Outcome(event, events.Code.UNDELIVERED, MAP_NOT_READ)
                for position, event in stale.items()
            }
        new_hosts: dict[str, list[int]] = {}
        for host, positions in again.by_host.items():
            for position in positions:
                if host not in answers[position]:
                    new_hosts.setdefault(host, []).append(position)
        for position, told in self._deliver(ctxt, batch, new_hosts, deadline, lookup).items():
            answers[position].update(told)
        return again.decided

    def _log(self, outcomes: Sequence[events.Outcome], *, hosts: int, seconds: float) -> None:
        # NOTE: the front says at INFO how each batch ended; here it is said if not all was
        # delivered or held. That something is held the keeper says, now and then.
        ordinary = all(outcome.code is events.Code.DELIVERED for outcome in outcomes)
        if ordinary and not LOG.isEnabledFor(logging.DEBUG):
            return
        counts = collections.Counter(int(outcome.code) for outcome in outcomes)
        write = LOG.log if ordinary else self._not_ordinary.write
        write(
            logging.DEBUG if ordinary else logging.INFO,
            'Routed %d events to %d hosts in %.3f s: %s',
            len(outcomes),
            hosts,
            seconds,
            ', '.join(f'{count} x {code}' for code, count in sorted(counts.items())),
        )
        _log_each(outcomes)


def _held(outcome: events.Outcome, problem: str | None) -> events.Outcome:
    if problem is None:
        return events.Outcome(outcome.event, events.Code.DELIVERED, f'held: {outcome.reason}')
    code = outcome.code if outcome.code is events.Code.NO_HOST else events.Code.UNDELIVERED
    return events.Outcome(outcome.event, code, f'{outcome.reason}; not held: {problem}')


def _log_each(outcomes: Sequence[events.Outcome]) -> None:
    if not LOG.isEnabledFor(logging.DEBUG):
        return
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
