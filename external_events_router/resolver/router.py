"""The steps of a batch in the resolver: look up, cast, wait, decide, hold what is not acknowledged.

The steps are in ``lookup``, ``plan``, ``drivers``, ``answers`` and ``hold``. This module has
their order and their deadlines. It does not know RPC: ``endpoint`` calls it.
"""

from __future__ import annotations

import collections
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import functools
import logging
import threading
import time

from oslo_log import log

from external_events_router import context
from external_events_router import events
from external_events_router import exceptions
from external_events_router.concurrency import batch_loader
from external_events_router.concurrency import signal
from external_events_router.journal import recorder
from external_events_router.metrics import recorder as metrics
from external_events_router.resolver import answers as host_answers
from external_events_router.resolver import event_log
from external_events_router.resolver import lookup
from external_events_router.resolver import plan
from external_events_router.resolver.drivers import base as drivers_base
from external_events_router.resolver.health import circuit_breaker
from external_events_router.resolver.health import liveness
from external_events_router.resolver.health import slow_host_limiter
from external_events_router.resolver.hold import base as hold_base
from external_events_router.resolver.hold import hold
from external_events_router.resolver.host_map import base

LOG = log.getLogger(__name__)

#: Minimum seconds for a write to the hold, and seconds after the ack timeout at which it must have
#: ended, because the API answers one second after the ack timeout. Therefore a batch waits for hosts
#: a little shorter than the ack timeout.
HOLD_TIME = 1.0
HOLD_GRACE = 0.9

#: Seconds for the response to a caller with a time limit.
ANSWER_TIME = 0.05

#: Seconds for the answers of hosts that are left when look-ups end, and the largest part of the wait. With
#: a database that does not respond, hosts that are known from the cache are asked nevertheless.
ASK_TIME = 0.3
ASK_TIME_SHARE = 1 / 4

#: Minimum seconds to wait for hosts, if the time limit of the caller leaves less.
LEAST_WAIT = 0.02

#: Reason to hold an event although no host has its server.
MAP_NOT_READ = 'no host has the server, and the host map could not be read again'


@dataclasses.dataclass(frozen=True, slots=True)
class Deadlines:
    """The deadlines of a batch, as instants of ``time.monotonic()``.

    :ivar lookups: for look-ups, at most :data:`ASK_TIME` before ``hosts``
    :ivar hosts: for acknowledgements
    :ivar hold: for the write to the hold, at least :data:`HOLD_TIME` later
    """

    lookups: float
    hosts: float
    hold: float

    @classmethod
    def after(cls, began: float, *, ack_timeout: float, timeout: float | None) -> Deadlines:
        """Compute the deadlines of a batch that arrived at ``began``.

        :param timeout: seconds after which the caller does not wait any longer; None: one second more
            than ``ack_timeout``
        """
        wait = max(ack_timeout - (HOLD_TIME - HOLD_GRACE), ack_timeout / 2)
        end = max(ack_timeout + HOLD_GRACE, wait + HOLD_TIME)
        if timeout is not None and timeout - ANSWER_TIME < end:
            end = max(0.0, timeout - ANSWER_TIME)
            wait = min(wait, max(end - HOLD_TIME, LEAST_WAIT))
        asking = min(ASK_TIME, wait * ASK_TIME_SHARE)
        return cls(lookups=began + wait - asking, hosts=began + wait, hold=began + end)


@dataclasses.dataclass(slots=True)
class _Delivery:
    """A delivery that was begun at an instant of ``time.monotonic()``."""

    delivery: drivers_base.Delivery
    began: float


class _Routing:
    """A batch in progress. The first thread that has the result of the look-up begins its delivery.

    :ivar settled: set when nothing is left to wait for, or when the thread of the batch has to act; only
        the thread that begins replaces it
    :ivar begun: set when the attributes below are final, if another thread has begun the delivery
    :ivar error: the reason why the delivery could not be begun
    :ivar plan: the hosts of the events
    :ivar unasked: the answers of hosts that must not get an event now
    :ivar delivery: to the other hosts; None if no other host exists, or if the batch was given up
    """

    def __init__(
        self, ctxt: context.RequestContext, batch: Sequence[events.Event], deadlines: Deadlines
    ) -> None:
        self.ctxt = ctxt
        self.batch = batch
        self.deadlines = deadlines
        self.settled = signal.Signal()
        self.begun = signal.Signal()
        self.error: Exception | None = None
        self.plan = plan.Plan({}, {}, {})
        self.unasked: host_answers.Answers = {}
        self.delivery: _Delivery | None = None
        # Held by the thread that begins.
        self._claim = threading.Lock()
        # Guards changes of delivery and _is_given_up: no thread waits for the delivery any longer.
        self._lock = threading.Lock()
        self._is_given_up = False

    def claim(self) -> bool:
        """Return whether the caller has to begin."""
        return self._claim.acquire(blocking=False)

    def is_claimed(self) -> bool:
        """Return whether a thread has begun, or is about to."""
        return self._claim.locked()

    def began(self, delivery: _Delivery | None) -> None:
        """Take the delivery that was begun. It is cancelled if the batch was given up meanwhile."""
        with self._lock:
            if not self._is_given_up:
                self.delivery = delivery
                return
        if delivery is not None:
            delivery.delivery.cancel()

    def give_up(self) -> None:
        """Cancel the delivery that was begun, or that another thread is about to begin."""
        self.claim()
        with self._lock:
            self._is_given_up = True
            delivery, self.delivery = self.delivery, None
        if delivery is not None:
            delivery.delivery.cancel()


class Router:
    """Routes batches. Thread-safe; one per resolver worker."""

    def __init__(
        self,
        batch_lookup: lookup.BatchLookup,
        deliverer: drivers_base.Deliverer,
        hold: hold.Hold,
        breakers: circuit_breaker.CircuitBreakers,
        slow_hosts: slow_host_limiter.SlowHostLimiter,
        *,
        journal: recorder.Recorder = recorder.NOTHING,
        events_log: event_log.EventLog | None = None,
    ) -> None:
        self._journal = journal
        self._lookup = batch_lookup
        self._deliverer = deliverer
        self._hold = hold
        self._breakers = breakers
        self._slow_hosts = slow_hosts
        self._event_log = events_log or event_log.EventLog()

    def close(self) -> None:
        """Write the last log message. Call it after the last batch."""
        self._event_log.flush(now=True)

    def route(
        self,
        ctxt: context.RequestContext,
        batch: Sequence[events.Event],
        *,
        ack_timeout: float,
        timeout: float | None = None,
        replayed: bool = False,
    ) -> list[events.Outcome]:
        """Deliver a batch or hold its events.

        :param ack_timeout: maximum seconds to wait for acknowledgements
        :param timeout: seconds after which the caller does not wait any longer, see :class:`Deadlines`
        :param replayed: an operator sends the events again
        :returns: an outcome per event, in the order of the events
        """
        began = time.monotonic()
        routing = _Routing(ctxt, batch, Deadlines.after(began, ack_timeout=ack_timeout, timeout=timeout))
        try:
            self._look_up_and_begin(routing)
        except BaseException:
            routing.give_up()
            raise
        answers = routing.unasked | self._finish(routing.delivery)
        final = self._follow_moves(routing, answers)
        outcomes = [
            final.decided.get(event.id) or host_answers.outcome_of(event, final.hosts[event.id], answers)
            for event in batch
        ]
        outcomes = self._hold_rest(ctxt, outcomes, final, answers, deadline=routing.deadlines.hold)
        try:
            self._record(routing, outcomes, answers, began=began, replayed=replayed)
        except Exception:  # the events are delivered or held; another answer would be wrong
            LOG.exception('A batch could not be recorded; its answer is not affected')
        return outcomes

    def _record(
        self,
        routing: _Routing,
        outcomes: Sequence[events.Outcome],
        answers: host_answers.Answers,
        *,
        began: float,
        replayed: bool,
    ) -> None:
        self._journal.batch(routing.ctxt, outcomes, answers, since=began, replayed=replayed)
        seconds = time.monotonic() - began
        metrics.current().batch_routed(outcomes, seconds=seconds)
        self._event_log.batch(routing.ctxt, outcomes, answers)
        _log(outcomes, hosts=len(routing.plan.by_host), seconds=seconds)

    def _look_up_and_begin(self, routing: _Routing) -> None:
        """Look up the servers, and begin to deliver.

        The thread of the query begins the delivery, if it can: then the thread of the batch is woken
        once, by the last acknowledgement.

        :raises ResolverUnavailable: the thread of the query did not begin in time
        """
        pending = self._lookup.begin(
            _servers(routing.batch),
            deadline=routing.deadlines.lookups,
            then=functools.partial(self._begin_early, routing, routing.settled),
        )
        if pending.may_call:
            parallel_at = time.monotonic() + batch_loader.PARALLEL_AFTER
            routing.settled.wait_until(min(routing.deadlines.lookups, parallel_at))
        if not routing.is_claimed():
            found = pending.result()
            if routing.claim():
                # NOTE: the first signal may be set already.
                routing.settled = signal.Signal()
                self._begin(routing, found)
                return
        if not routing.begun.wait_until(routing.deadlines.hold):
            raise exceptions.ResolverUnavailable(reason='it has too much to do')
        if routing.error is not None:
            raise routing.error

    def _begin_early(self, routing: _Routing, settled: signal.Signal, found: lookup.Found | None) -> None:
        """Begin to deliver, on the thread of a query; must not block.

        :param settled: the signal before any thread has begun
        """
        if found is None:
            # NOTE: the thread of the batch has to wait for more, or has begun without this result: then
            # the signal of its delivery is another one.
            settled.set()
            return
        if not routing.claim():
            return
        try:
            self._begin(routing, found)
        except Exception as exc:  # the thread of the batch raises it
            routing.error = exc
            settled.set()
        finally:
            routing.begun.set()

    def _begin(self, routing: _Routing, found: lookup.Found) -> None:
        """Decide which hosts get which events, and begin to deliver. The caller has claimed the batch."""
        hosts, held_servers = found
        routing.plan = plan.by_host(routing.batch, hosts)
        routing.unasked = self._unasked(routing.plan.by_host, held_servers)
        routing.began(self._begin_delivery(routing, routing.plan.without(routing.unasked), hosts))

    def _begin_delivery(
        self, routing: _Routing, by_host: Mapping[str, Sequence[events.Event]], found: base.Lookup
    ) -> _Delivery | None:
        if not by_host:
            routing.settled.set()
            return None
        began = time.monotonic()
        delivery = self._deliverer.begin(
            routing.ctxt,
            by_host,
            deadline=routing.deadlines.hosts,
            lifetime=self._hold.lifetimes.of,
            records=found.records,
            settled=routing.settled,
        )
        return _Delivery(delivery, began)

    def _finish(self, begun: _Delivery | None) -> host_answers.Answers:
        """Wait for the answers of the hosts."""
        if begun is None:
            return {}
        answers = begun.delivery.finish()
        seconds = time.monotonic() - begun.began
        metrics.current().hosts_answered(answers.values(), path=metrics.DIRECT, seconds=seconds)
        return answers

    def _unasked(
        self, by_host: Mapping[str, Sequence[events.Event]], held_servers: base.HeldServers
    ) -> host_answers.Answers:
        """Return the answers, with reasons, of hosts that must not get an event now.

        The event is held for such a host. The other hosts of its server get it at once.
        """
        unasked: host_answers.Answers = {}
        asked = set(by_host)
        if held_servers:
            for host, sent in by_host.items():
                behind = [event for event in sent if _must_wait(event, host, held_servers)]
                unasked.update(
                    {(host, event.id): host_answers.Answer(None, host_answers.BEHIND) for event in behind}
                )
                # NOTE: no event is sent to this host now. If the breaker admitted this host for a trial, the
                # trial would not happen, and the next one would be admitted only later: a server that
                # always has a waiting event would never be tried.
                if len(behind) == len(sent):
                    asked.discard(host)
        refused = asked - self._breakers.admit(self._slow_hosts.admit(frozenset(asked)))
        unconsumed = self._breakers.unconsumed_among(refused) if refused else frozenset()
        for host in refused:
            answer = host_answers.Answer(
                None, liveness.NO_CONSUMER if host in unconsumed else host_answers.NOT_WAITED_FOR
            )
            for event in by_host[host]:
                unasked.setdefault((host, event.id), answer)
        return unasked

    def _follow_moves(self, routing: _Routing, answers: host_answers.Answers) -> plan.Plan:
        """Read the map again for servers that none of their hosts has, and try the new hosts, once.

        :param answers: the answers of the new hosts are added
        :returns: the plan after that, with all hosts of each event
        """
        first = routing.plan
        stale = [
            event
            for event in routing.batch
            if (hosts := first.hosts.get(event.id)) and host_answers.is_stale(event, hosts, answers)
        ]
        if not stale:
            return first
        try:
            return self._try_new_hosts(routing, stale, answers)
        except Exception:  # the other events of the batch are delivered
            LOG.exception(
                'Could not look for new hosts of the servers of %d events; holding them', len(stale)
            )
            return first.with_decided(
                [events.Outcome(event, events.Code.UNDELIVERED, MAP_NOT_READ) for event in stale]
            )

    def _try_new_hosts(
        self, routing: _Routing, stale: Sequence[events.Event], answers: host_answers.Answers
    ) -> plan.Plan:
        first = routing.plan
        found, held_servers = self._lookup.hosts_and_held_servers(
            _servers(stale), deadline=routing.deadlines.lookups
        )
        # NOTE: the cached hosts were already asked; only the map knows the current host of the server.
        unread = [event for event in stale if event.server_uuid in found.remembered]
        again = plan.by_host([event for event in stale if event.server_uuid not in found.remembered], found)
        by_host = again.without(answers)
        answers |= self._unasked(by_host, held_servers)
        routing.settled = signal.Signal()
        answers |= self._finish(self._begin_delivery(routing, again.without(answers), found))
        return first.extended(again).with_decided(
            [events.Outcome(event, events.Code.UNDELIVERED, MAP_NOT_READ) for event in unread]
        )

    def _hold_rest(
        self,
        ctxt: context.RequestContext,
        outcomes: Sequence[events.Outcome],
        final: plan.Plan,
        answers: host_answers.Answers,
        *,
        deadline: float,
    ) -> list[events.Outcome]:
        """Hold the events that some host has not acknowledged and may acknowledge later."""
        items = {
            outcome.event.id: self._item(outcome, final.hosts.get(outcome.event.id, ()), answers)
            for outcome in outcomes
            if self._is_worth_holding(outcome, final)
        }
        if not items:
            return list(outcomes)
        problem = self._hold.hold(ctxt, list(items.values()), deadline=deadline)
        return [_held(outcome, problem) if outcome.event.id in items else outcome for outcome in outcomes]

    def _is_worth_holding(self, outcome: events.Outcome, final: plan.Plan) -> bool:
        hosts = final.hosts.get(outcome.event.id)
        if outcome.code is events.Code.NO_HOST:
            return not hosts and self._hold.lifetimes.unassigned > 0
        # A server that could not be looked up has no hosts here: it may not exist.
        return outcome.code is events.Code.UNDELIVERED and bool(hosts)

    def _item(
        self, outcome: events.Outcome, hosts: Sequence[str], answers: host_answers.Answers
    ) -> hold_base.Item:
        handled = host_answers.hosts_that_handled(outcome.event, hosts, answers)
        lifetimes = self._hold.lifetimes
        unassigned = outcome.code is events.Code.NO_HOST
        return hold_base.Item(
            event=outcome.event,
            ttl=lifetimes.unassigned if unassigned else lifetimes.of(outcome.event),
            hosts=tuple(host for host in hosts if host not in handled),
            acknowledged=handled,
            reason=outcome.reason or '',
        )


def _servers(batch: Sequence[events.Event]) -> frozenset[str]:
    return frozenset(event.server_uuid for event in batch)


def _must_wait(event: events.Event, host: str, held_servers: base.HeldServers) -> bool:
    """Return whether a host has not yet acknowledged all earlier events of the server of an event."""
    free_hosts = held_servers.get(event.server_uuid)
    return free_hosts is not None and host not in free_hosts


def _held(outcome: events.Outcome, problem: str | None) -> events.Outcome:
    if problem is None:
        return events.Outcome(outcome.event, events.Code.DELIVERED, f'{event_log.HELD}{outcome.reason}')
    code = outcome.code if outcome.code is events.Code.NO_HOST else events.Code.UNDELIVERED
    return events.Outcome(outcome.event, code, f'{outcome.reason}; not held: {problem}')


def _log(outcomes: Sequence[events.Outcome], *, hosts: int, seconds: float) -> None:
    # NOTE: the API logs each batch at INFO.
    if LOG.isEnabledFor(logging.DEBUG):
        counts = collections.Counter(int(outcome.code) for outcome in outcomes)
        LOG.debug(
            'Routed %d events to %d hosts in %.3f s: %s',
            len(outcomes),
            hosts,
            seconds,
            ', '.join(f'{count} x {code}' for code, count in sorted(counts.items())),
        )
