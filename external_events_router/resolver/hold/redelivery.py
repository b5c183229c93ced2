"""Redelivers held events: claims servers that are due, tries to deliver, and records the results.

Each worker has one scheduler, which checks for due servers every second and when it is woken.
Attempts run on a few threads. Servers whose hosts do not respond are tried last, and only events of
one server probe such a host, at intervals, so that a failed host does not delay events for other
hosts. Each attempt looks up the hosts again. ``redelivery_plan`` decides the results.
"""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import functools
import logging
import threading
import time
from typing import Protocol

from oslo_log import log

from external_events_router import context
from external_events_router import exceptions
from external_events_router import throttled_log
from external_events_router.concurrency import bounded_pool
from external_events_router.journal import recorder
from external_events_router.metrics import recorder as metrics
from external_events_router.process import essential
from external_events_router.resolver import answers as host_answers
from external_events_router.resolver import event_log
from external_events_router.resolver.drivers import base as drivers_base
from external_events_router.resolver.health import circuit_breaker
from external_events_router.resolver.hold import base
from external_events_router.resolver.hold import hold
from external_events_router.resolver.hold import recording
from external_events_router.resolver.hold import redelivery_plan
from external_events_router.resolver.host_map import base as host_map_base

LOG = log.getLogger(__name__)

#: Seconds between two checks for due servers, if the worker is not woken.
POLL = 1.0

#: Maximum number of servers in one attempt.
SERVERS = 200

#: Maximum number of attempts at the same time, per worker.
THREADS = 4

#: Seconds that a claim lasts longer than the wait for acknowledgements.
LEASE_MARGIN = 15.0

#: Seconds between two deletions of old ended events, and seconds to wait after an error of the database.
PURGE_INTERVAL = 600.0
ERROR_PAUSE = 1.0


class Map(Protocol):
    """The used part of ``host_map.guarded.GuardedHostMap``."""

    def lookup(self, server_uuids: Collection[str]) -> host_map_base.Lookup: ...


@dataclasses.dataclass(frozen=True, slots=True)
class _Batch:
    """Claims, and two instants of ``time.monotonic()``: just before the claim, and its end."""

    claims: Sequence[base.Claim]
    since: float
    until: float


class RedeliveryWorker:
    """The scheduler and the threads for redelivery. Thread-safe."""

    def __init__(
        self,
        hold: hold.Hold,
        host_map: Map,
        deliverer: drivers_base.Deliverer,
        breakers: circuit_breaker.CircuitBreakers,
        *,
        worker: str,
        ack_timeout: float,
        max_interval: float,
        keep_ended: float,
        journal: recorder.Recorder = recorder.NOTHING,
        events_log: event_log.EventLog | None = None,
    ) -> None:
        """:param worker: identifies the claims of this worker; a new name at each start
        :param ack_timeout: seconds that an attempt waits for its hosts
        :param max_interval: maximum seconds between two attempts for a server
        :param keep_ended: seconds for which ended events are kept
        :param journal: records the results of attempts
        :param events_log: the event log of the worker; None: a new one
        """
        self._journal = journal
        self._hold = hold
        self._store = hold.store
        self._host_map = host_map
        self._deliverer = deliverer
        self._breakers = breakers
        self._worker = worker
        self._ack_timeout = ack_timeout
        self._max_interval = max_interval
        self._keep_ended = keep_ended
        self._database_away = throttled_log.ThrottledLog(LOG)
        self._not_recorded = throttled_log.ThrottledLog(LOG)
        self._late = throttled_log.ThrottledLog(LOG)
        self._event_log = events_log or event_log.EventLog()
        self._pool = bounded_pool.BoundedPool(THREADS, 'redelivery')
        self._places = threading.Semaphore(THREADS)
        # NOTE: one transaction at a time, so that writes of new events find free locks and connections:
        # redelivery can wait, but a sender cannot.
        self._transaction = threading.Lock()
        # Guards the two attributes below.
        self._woken = threading.Condition()
        self._news = False
        self._stopping = False
        self._thread = essential.EssentialThread(
            self._schedule, name='redelivery', is_stopped=lambda: self._stopping
        )
        self._next_purge = time.monotonic() + PURGE_INTERVAL

    def start(self) -> None:
        """Start to check for due servers."""
        self._thread.start()

    def wake(self) -> None:
        """Check for due servers now."""
        with self._woken:
            self._news = True
            self._woken.notify_all()

    def stop(self) -> None:
        """Claim no more servers, and wait for running attempts, at most as long as they wait for hosts."""
        with self._woken:
            if self._stopping:
                return
            self._stopping = True
            self._woken.notify_all()
        deadline = time.monotonic() + self._ack_timeout + LEASE_MARGIN
        if self._thread.is_alive():
            self._thread.join(self._ack_timeout + LEASE_MARGIN)
        for _ in range(THREADS):
            self._places.acquire(timeout=max(0.0, deadline - time.monotonic()))
        self._pool.close()

    def run_once(self) -> bool:
        """Claim due servers and try to deliver their events, on the calling thread.

        :returns: whether there were due servers
        :raises DatabaseUnavailable: the database is unavailable
        """
        batch = self._claim()
        if batch.claims:
            self._attempt(batch)
        return bool(batch.claims)

    def _schedule(self) -> None:
        # NOTE: the first time immediately: until a worker knows which servers have held events, it treats
        # every server as one of them.
        going_on = True
        while going_on:
            try:
                while self._claim_some():
                    pass
                self._hold.learn()
                self._purge()
            except exceptions.DatabaseUnavailable as exc:
                self._database_away.occurred(
                    logging.WARNING, 'Could not check for held events to retry: %s; trying again', exc
                )
                self._pause()
            except Exception:  # the outermost loop of this thread
                LOG.exception('Unexpected error while checking for held events; trying again')
                self._pause()
            else:
                self._database_away.over('Held events are retried again')
            self._flush_log()
            going_on = self._wait()
        self._flush_log(now=True)

    def _wait(self) -> bool:
        with self._woken:
            self._woken.wait_for(lambda: self._news or self._stopping, POLL)
            self._news = False
            return not self._stopping

    def _pause(self) -> None:
        with self._woken:
            self._woken.wait_for(lambda: self._stopping, ERROR_PAUSE)

    def _claim_some(self) -> bool:
        """Claim servers and start an attempt; return whether more servers may be due."""
        # NOTE: a claim that cannot be tried would only delay its servers.
        if self._stopping or not self._deliverer.is_ready() or not self._places.acquire(timeout=POLL):
            return False
        try:
            batch = self._claim()
        except BaseException:
            self._places.release()
            raise
        if not batch.claims:
            self._places.release()
            return False
        future = self._pool.submit(functools.partial(self._attempt, batch))
        future.add_done_callback(lambda _done: self._places.release())
        return True

    def _claim(self) -> _Batch:
        lease = self._ack_timeout + LEASE_MARGIN
        with self._transaction:
            began = time.monotonic()
            claims = self._store.claim(self._worker, limit=SERVERS, lease=lease)
        return _Batch(claims, began, began + lease)

    def _attempt(self, batch: _Batch) -> None:
        try:
            lookup = self._host_map.lookup({claim.server_uuid for claim in batch.claims})
            plans = [redelivery_plan.plan(claim, lookup) for claim in batch.claims]
            hosts: frozenset[str] = frozenset().union(*(plan.hosts for plan in plans))
            closed = frozenset(host for host in hosts if self._breakers.closed([host]))
            self._try(batch, [plan for plan in plans if plan.hosts <= closed], lookup, ask=closed)
            others = [plan for plan in plans if not plan.hosts <= closed]
            if others:
                probed = self._breakers.probe(hosts - closed)
                # When a host answers, ``recovery`` schedules an immediate retry of all events for it.
                self._try(batch, others, lookup, ask=closed, probe=probed)
        except exceptions.DatabaseUnavailable as exc:
            self._not_recorded.occurred(
                logging.WARNING,
                'Could not record the results of attempts for %d servers: %s; the attempts are repeated',
                len(batch.claims),
                exc,
            )
        except Exception:  # the outermost frame of this thread's work
            LOG.exception('Attempts for %d servers failed; they are repeated', len(batch.claims))
        else:
            self._not_recorded.over('The results of attempts are recorded again')

    def _try(
        self,
        batch: _Batch,
        plans: Sequence[redelivery_plan.Plan],
        lookup: host_map_base.Lookup,
        *,
        ask: frozenset[str],
        probe: frozenset[str] = frozenset(),
    ) -> None:
        """Deliver events and record the results.

        :param ask: hosts to ask
        :param probe: hosts that may not respond: events of one server are sent to each of them
        """
        if not plans:
            return
        if time.monotonic() + self._ack_timeout > batch.until:
            # NOTE: this worker was suspended. Another worker may have delivered these events meanwhile, and
            # later events, which must not be overtaken.
            self._late.occurred(
                logging.WARNING,
                'Attempts for %d servers are too late, their claims have expired; other workers make them',
                len(plans),
            )
            return
        answers = self._deliver(batch, _by_host(plans, ask=ask, probe=probe), lookup)
        unconsumed = self._breakers.unconsumed_among(frozenset().union(*(plan.hosts for plan in plans)))
        settlements = [
            redelivery_plan.settle(plan, answers, max_interval=self._max_interval, unconsumed=unconsumed)
            for plan in plans
        ]
        with self._transaction:
            due_again = self._store.settle(self._worker, settlements)
        self._journal.steps(recording.attempts(plans, answers, settlements, worker=self._worker))
        if due_again:
            self.wake()
        self._log(plans, settlements, lookup)

    def _deliver(
        self, batch: _Batch, by_host: Mapping[str, Sequence[base.Held]], lookup: host_map_base.Lookup
    ) -> host_answers.Answers:
        elapsed = time.monotonic() - batch.since
        # NOTE: a delivery has one deadline. Without this minimum, an event just before its deadline would
        # shorten the deadline of all events in the delivery. Therefore an event may be handled after its
        # own deadline, later by at most the wait of a batch.
        left = {
            held.event.id: max(self._ack_timeout, held.remaining - elapsed)
            for sent in by_host.values()
            for held in sent
        }
        everything = [held for sent in by_host.values() for held in sent]
        began = time.monotonic()
        answers = self._deliverer.deliver(
            _context(everything),
            {host: [held.event for held in sent] for host, sent in by_host.items()},
            deadline=time.monotonic() + self._ack_timeout,
            lifetime=lambda event: left[event.id],
            records=lookup.records,
            contexts={held.event.id: _own_context(held) for held in everything},
        )
        seconds = time.monotonic() - began
        metrics.current().hosts_answered(answers.values(), path=metrics.HELD, seconds=seconds)
        return answers

    def _log(
        self,
        plans: Sequence[redelivery_plan.Plan],
        settlements: Sequence[base.Settlement],
        found: host_map_base.Lookup,
    ) -> None:
        _count(plans, settlements)
        for plan, settlement in zip(plans, settlements, strict=True):
            of_server = found.hosts.get(plan.claim.server_uuid, ())
            for held in plan.claim.events:
                hosts = plan.targets.get(held.seq) or frozenset(of_server) - held.acknowledged
                if held.seq in settlement.ended:
                    state, reason = settlement.ended[held.seq]
                    self._event_log.ended(held.event, held.context, state=state, hosts=hosts, reason=reason)
                elif held.seq in settlement.delivered:
                    self._event_log.late(
                        held.event,
                        held.context,
                        hosts=hosts,
                        attempt=plan.claim.attempts + 1,
                        age=held.age,
                    )

    def _flush_log(self, *, now: bool = False) -> None:
        self._event_log.flush(now=now)

    def _purge(self) -> None:
        if time.monotonic() >= self._next_purge:
            self._next_purge = time.monotonic() + PURGE_INTERVAL
            self._store.purge(self._keep_ended)


def _by_host(
    plans: Sequence[redelivery_plan.Plan], *, ask: frozenset[str], probe: frozenset[str]
) -> dict[str, list[base.Held]]:
    """Return the events for each host, in the order of the events of each server."""
    by_host: dict[str, list[base.Held]] = {}
    for plan in plans:
        probing = probe - by_host.keys()
        for host, held in plan.by_host().items():
            if host in ask or host in probing:
                by_host.setdefault(host, []).extend(held)
    return by_host


def _count(plans: Sequence[redelivery_plan.Plan], settlements: Sequence[base.Settlement]) -> None:
    counting = metrics.current()
    if not counting.is_counting:
        return
    for plan, settlement in zip(plans, settlements, strict=True):
        counting.redelivered(held.age for held in plan.claim.events if held.seq in settlement.delivered)
        counting.ended(str(state) for state, _reason in settlement.ended.values())


def _context(held: Sequence[base.Held]) -> context.RequestContext:
    # A delivery has one context: the context of the request, if all events are from one request.
    kept = [one.context for one in held]
    if kept and all(other == kept[0] for other in kept):
        return context.from_wire(kept[0])
    return context.for_service()


def _own_context(held: base.Held) -> context.RequestContext:
    return context.RequestContext.from_dict(held.context, overwrite=False)
