"""The call from the API to the resolver, with a time limit for every case.

A call over a broker that is unavailable or in alarm can block without limit. So the call runs on
a thread of a pool, and the request waits for it only until the deadline. A resolver in this process
limits its time itself, and is called directly. If a batch cannot be routed, the result is a code
for each event and never an exception, so the handler needs no error handling. This module does not
depend on HTTP.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
from concurrent import futures
import logging
import time
from typing import Protocol

from oslo_log import log

from external_events_router import context
from external_events_router import events
from external_events_router import exceptions
from external_events_router import throttled_log
from external_events_router.api import refusals
from external_events_router.concurrency import bounded_pool
from external_events_router.messaging.amqp import availability

LOG = log.getLogger(__name__)

#: Maximum seconds of a request in addition to ``[delivery] ack_timeout``.
GRACE = 1.0

#: Seconds that a call waits for its response in addition to its ack timeout. In this time the
#: resolver holds the events that were not acknowledged.
CALL_MARGIN = 0.95

#: Seconds by which the timeout of the call itself ends before the deadline of the request, because
#: its exception describes the reason more precisely.
ANSWER_MARGIN = 0.05

#: Minimum seconds for a second call, most of which are needed to hold the events; and the minimum
#: ack timeout of this call.
MIN_RETRY_TIME = 0.4
MIN_RETRY_ACK_TIMEOUT = 0.05

Outcomes = list[events.Outcome]


class Router(Protocol):
    """Routes a batch: ``ResolverAPI``, ``EmbeddedResolver`` of the resolver, or a fake in tests.

    :cvar bounded: a call always ends in time
    """

    bounded: bool

    def route(
        self,
        ctxt: context.RequestContext,
        batch: Sequence[events.Event],
        *,
        ack_timeout: float,
        timeout: float,
    ) -> Outcomes:
        """See ``ResolverAPI.route``."""
        ...


class RouterClient:
    """Routes batches, and converts all errors into codes of events. Thread-safe.

    :param ack_timeout: seconds that a batch waits for its hosts
    :param threads: maximum number of calls at the same time
    :param refused: records batches that reached no resolver
    :param clock: for the deadlines, in seconds
    """

    def __init__(
        self,
        router: Router,
        *,
        ack_timeout: float,
        threads: int,
        refused: refusals.Sink | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._refused = refused
        self._router = router
        self._ack_timeout = ack_timeout
        self._pool = bounded_pool.BoundedPool(threads, 'route')
        # NOTE: while the broker or all resolvers are unavailable, every batch fails.
        self._repeated = throttled_log.ThrottledLog(LOG)
        self._not_routed = throttled_log.ThrottledLog(LOG)

    def route(self, ctxt: context.RequestContext, batch: Sequence[events.Event]) -> Outcomes:
        """Deliver a batch within the ack timeout and :data:`GRACE`.

        :returns: an outcome per event, in the order of the events; code 503 for all if no resolver
            answered
        """
        began = time.monotonic()
        try:
            outcomes = self._route(ctxt, batch, self._clock() + self._ack_timeout + GRACE)
        except exceptions.RouterError as exc:
            self._not_routed.occurred(
                _level(exc, began),
                'Could not route %d events; answering 503 for each, and they are lost: %s',
                len(batch),
                exc,
            )
            reason = str(exc)
        except Exception as exc:
            # NOTE: with an error for the whole request, the sender would lose the codes of the batch,
            # so an unexpected error also becomes a code per event.
            LOG.exception('Unexpected error while routing %d events; answering 503 for each', len(batch))
            reason = f'unexpected {type(exc).__name__}'
        else:
            self._not_routed.over('Events are routed again')
            return outcomes
        if self._refused is not None:
            self._refused([refusals.not_routed(ctxt, batch, reason)])
        return [events.Outcome(event, events.Code.UNDELIVERED, reason) for event in batch]

    def _route(
        self, ctxt: context.RequestContext, batch: Sequence[events.Event], deadline: float
    ) -> Outcomes:
        began = time.monotonic()
        try:
            return self._attempt(ctxt, batch, ack_timeout=self._ack_timeout, deadline=deadline)
        except exceptions.ResolverUnavailable as exc:
            failure = exc
        left = deadline - self._clock()
        if left < MIN_RETRY_TIME:
            raise failure
        # NOTE: a failed resolver is detected after 2 s, so often no time is left for waiting for hosts.
        # Then the second call only holds the events.
        ack_timeout = max(MIN_RETRY_ACK_TIMEOUT, min(left - GRACE, self._ack_timeout))
        # NOTE: the events keep their ids, so that an event that the first call did deliver is not
        # handled twice.
        self._repeated.occurred(_level(failure, began), '%s; sending the batch to another resolver', failure)
        return self._attempt(ctxt, batch, ack_timeout=ack_timeout, deadline=deadline)

    def _attempt(
        self,
        ctxt: context.RequestContext,
        batch: Sequence[events.Event],
        *,
        ack_timeout: float,
        deadline: float,
    ) -> Outcomes:
        def call() -> Outcomes:
            # NOTE: the log reads the request ids from thread-local data.
            ctxt.update_store()
            left = deadline - self._clock() - ANSWER_MARGIN
            return self._router.route(
                ctxt,
                batch,
                ack_timeout=ack_timeout,
                timeout=max(min(ack_timeout + CALL_MARGIN, left), ANSWER_MARGIN),
            )

        outcomes = call() if self._router.bounded else self._within(call, deadline)
        if [outcome.event.id for outcome in outcomes] != [event.id for event in batch]:
            raise exceptions.MalformedMessage(what='answer of the resolver', value='other events')
        return outcomes

    def _within(self, call: Callable[[], Outcomes], deadline: float) -> Outcomes:
        """Make a call on a thread of the pool. If the call hangs, its thread is abandoned."""
        future = self._pool.submit(call)
        try:
            return future.result(timeout=max(deadline - self._clock(), 0.0))
        except futures.TimeoutError as exc:
            if future.done():
                raise
            future.cancel()
            raise exceptions.ResolverUnavailable(reason='the call did not end in time') from exc


def _level(error: exceptions.RouterError, began: float) -> int:
    """Of the message about a call that failed; the connections log an unavailable broker themselves.

    :param began: the instant of ``time.monotonic()`` before the call
    """
    if isinstance(error, (exceptions.BrokerUnavailable, exceptions.ResolverUnavailable)):
        return availability.level(began)
    return logging.ERROR
