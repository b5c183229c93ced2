"""The way of one batch through the resolver: look up, cast, await, decide.

The steps live in ``host_map``, ``dispatch``, ``acks`` and ``plan``; here is
their order and their deadline. It knows no RPC: ``endpoint`` calls it.
"""

from __future__ import annotations

import collections
from collections.abc import Collection
from collections.abc import Mapping
from collections.abc import Sequence
import itertools
import time
from typing import Protocol

from oslo_log import log

from external_events_router import context
from external_events_router import events
from external_events_router.resolver import acks
from external_events_router.resolver import dispatch
from external_events_router.resolver import plan
from external_events_router.resolver.host_map import base

LOG = log.getLogger(__name__)

#: Host to its answer, for each position in the batch that a host was asked about.
Answers = dict[int, dict[str, plan.Answer]]


class Map(Protocol):
    """The part of ``host_map.guarded.GuardedHostMap`` that is used here."""

    def lookup(self, server_uuids: Collection[str]) -> base.Lookup: ...


class Router:
    """Routes batches. Thread-safe; one per resolver worker."""

    def __init__(
        self,
        host_map: Map,
        dispatcher: dispatch.Dispatcher,
        collector: acks.Collector,
        *,
        reply_to: str,
    ) -> None:
        """:param reply_to: the server name under which this worker hears acknowledgements"""
        self._host_map = host_map
        self._dispatcher = dispatcher
        self._collector = collector
        self._reply_to = reply_to
        # NOTE: the start is in the ids, so that a late acknowledgement for a
        # worker that died cannot be taken for its successor's.
        started = time.time_ns()
        self._delivery_ids = (f'{started:x}.{number}' for number in itertools.count())

    def route(
        self, ctxt: context.RequestContext, batch: Sequence[events.Event], *, ack_timeout: float
    ) -> list[events.Outcome]:
        """Deliver a batch and say what became of each event.

        :param ack_timeout: seconds after which no acknowledgement is waited for
        :returns: an outcome per event, in their order
        """
        began = time.monotonic()
        deadline = began + ack_timeout
        first = self._plan(dict(enumerate(batch)))
        answers = self._deliver(ctxt, batch, first.by_host, deadline)
        decided = {**first.decided, **self._follow_moves(ctxt, batch, answers, deadline)}
        outcomes = [
            decided[position] if position in decided else plan.outcome_of(event, answers[position])
            for position, event in enumerate(batch)
        ]
        _log(outcomes, hosts=len(first.by_host), seconds=time.monotonic() - began)
        return outcomes

    def _plan(self, batch: Mapping[int, events.Event]) -> plan.Plan:
        lookup = self._host_map.lookup({event.server_uuid for event in batch.values()})
        return plan.by_host(batch, lookup)

    def _deliver(
        self,
        ctxt: context.RequestContext,
        batch: Sequence[events.Event],
        by_host: Mapping[str, Sequence[int]],
        deadline: float,
    ) -> Answers:
        expires = time.time() + max(0.0, deadline - time.monotonic())
        deliveries = {
            host: events.Delivery(
                id=next(self._delivery_ids),
                reply_to=self._reply_to,
                deadline=expires,
                events=tuple(batch[position] for position in positions),
            )
            for host, positions in by_host.items()
        }
        answers: Answers = collections.defaultdict(dict)
        if not deliveries:
            return answers
        with self._collector.expect(deliveries) as waiting:
            with self._dispatcher.cast(ctxt, deliveries, on_failure=waiting.fail):
                waiting.wait(deadline)
            for host, positions in by_host.items():
                for position in positions:
                    answers[position][host] = waiting.answer(host, batch[position].id)
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
        again = self._plan(stale)
        new_hosts: dict[str, list[int]] = {}
        for host, positions in again.by_host.items():
            for position in positions:
                if host not in answers[position]:
                    new_hosts.setdefault(host, []).append(position)
        for position, told in self._deliver(ctxt, batch, new_hosts, deadline).items():
            answers[position].update(told)
        return again.decided


def _log(outcomes: Sequence[events.Outcome], *, hosts: int, seconds: float) -> None:
    counts = collections.Counter(int(outcome.code) for outcome in outcomes)
    LOG.info(
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
