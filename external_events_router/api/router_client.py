"""The front's one call to the resolver, bounded in time whatever happens.

A call on a broker that is away or in alarm can block without a bound, so it is
made on a thread of a pool and waited for until the deadline; a resolver in this
process has bounds of its own, and is called as it is. What could not be routed
comes back as outcomes, never as an error: the handler has nothing to decide. It
does not know HTTP.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
from concurrent import futures
import time
from typing import Protocol

from oslo_log import log

from external_events_router import context
from external_events_router import events
from external_events_router import exceptions
from external_events_router import pools

LOG = log.getLogger(__name__)

#: Seconds that a request may take beyond ``[delivery] ack_timeout``.
GRACE = 1.0

#: Seconds beyond its ack timeout that a call waits for its answer: until then the
#: resolver holds what was not acknowledged.
CALL_MARGIN = 0.95

#: Seconds before the request's end at which the call's own timeout comes first,
#: because it knows better what went wrong.
ANSWER_MARGIN = 0.05

#: Seconds that must be left for a second call: to hold the events takes most of them.
#: And the least ack timeout of that call, where no more than these are left.
MIN_RETRY_TIME = 0.4
MIN_RETRY_ACK_TIMEOUT = 0.05

Outcomes = list[events.Outcome]


class Router(Protocol):
    """What routes a batch: ``ResolverAPI``, ``LocalResolver`` of the resolver, or a test's own.

    :cvar bounded: whether a call ends in time, whatever is broken
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
    """Routes batches, and turns every trouble on the way into outcomes. Thread-safe.

    :param ack_timeout: seconds that a batch waits for its hosts
    :param threads: calls that may be on their way at the same time
    """

    def __init__(self, router: Router, *, ack_timeout: float, threads: int) -> None:
        self._router = router
        self._ack_timeout = ack_timeout
        self._pool = pools.DaemonPool(threads, 'route')

    def route(self, ctxt: context.RequestContext, batch: Sequence[events.Event]) -> Outcomes:
        """Have a batch delivered, within the ack timeout and :data:`GRACE`.

        :returns: an outcome per event, in their order; 503 for each where the
            resolver could not be asked
        """
        try:
            return self._route(ctxt, batch, time.monotonic() + self._ack_timeout + GRACE)
        except exceptions.RouterError as exc:
            reason = str(exc)
        except Exception as exc:
            # NOTE: an overall error would lose the codes of the whole batch to
            # its sender, so that even a fault of ours ends as outcomes here.
            LOG.exception('unexpected error while routing')
            reason = f'unexpected {type(exc).__name__}'
        LOG.error('%d events not routed: %s', len(batch), reason)
        return [events.Outcome(event, events.Code.UNDELIVERED, reason) for event in batch]

    def _route(
        self, ctxt: context.RequestContext, batch: Sequence[events.Event], deadline: float
    ) -> Outcomes:
        try:
            return self._attempt(ctxt, batch, ack_timeout=self._ack_timeout, deadline=deadline)
        except exceptions.ResolverUnavailable as exc:
            failure = exc
        left = deadline - time.monotonic()
        if left < MIN_RETRY_TIME:
            raise failure
        # NOTE: a resolver that died is noticed after 2 s, so there is often no time to
        # wait for hosts any more: then the call is there to hold the events.
        ack_timeout = max(MIN_RETRY_ACK_TIMEOUT, min(left - GRACE, self._ack_timeout))
        # NOTE: the events keep their ids, so that one which the first call did
        # deliver is not handled twice.
        LOG.warning('%s; calling again', failure)
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
            # NOTE: the log finds the request ids by thread.
            ctxt.update_store()
            left = deadline - time.monotonic() - ANSWER_MARGIN
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
        """Make a call on a thread that is left behind where it hangs."""
        future = self._pool.submit(call)
        try:
            return future.result(timeout=max(deadline - time.monotonic(), 0.0))
        except futures.TimeoutError as exc:
            if future.done():
                raise
            future.cancel()
            raise exceptions.ResolverUnavailable(reason='the call did not end in time') from exc
