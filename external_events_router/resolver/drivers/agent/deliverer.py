"""Delivers to agents: casts to each host, waits for acknowledgements, reports which hosts responded.

Batches and held events are delivered in the same way. The caller decides which events are for which host,
and evaluates the answers.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
import dataclasses
import functools
import logging
import time

from external_events_router import context
from external_events_router import events
from external_events_router import ids
from external_events_router.concurrency import signal
from external_events_router.messaging import transport as transports
from external_events_router.resolver import answers as host_answers
from external_events_router.resolver.drivers import base
from external_events_router.resolver.drivers import rounds
from external_events_router.resolver.drivers.agent import acks
from external_events_router.resolver.drivers.agent import coalescing_sender

LOG = logging.getLogger(__name__)

#: Maximum seconds for the end of a listener.
LISTENER_TIMEOUT = 5.0


class AgentDeliverer:
    """Delivers to the agents of this project, in the given order."""

    def __init__(
        self,
        casts: coalescing_sender.CoalescingSender,
        collector: acks.Collector,
        observer: base.HostObserver,
        *,
        reply_to: str,
        transport: transports.Transport,
        listener: transports.Listener,
    ) -> None:
        """:param casts: sends the deliveries over the transport
        :param reply_to: name under which this worker receives acknowledgements
        :param listener: receives them
        """
        self._casts = casts
        self._collector = collector
        self._observer = observer
        self._reply_to = reply_to
        self._transport = transport
        self._listener = listener

    def start(self) -> None:
        """See ``drivers.base.Deliverer``. With oslo.messaging, blocks while the broker is unavailable."""
        self._transport.start()
        self._listener.start()

    def stop(self) -> None:
        """See ``drivers.base.Deliverer``."""
        self._listener.stop(LISTENER_TIMEOUT)
        self._transport.stop()

    def is_ready(self) -> bool:
        """Return whether acknowledgements can arrive."""
        return self._collector.is_connected()

    def deliver(
        self,
        ctxt: context.RequestContext,
        by_host: Mapping[str, Sequence[events.Event]],
        *,
        deadline: float,
        lifetime: Callable[[events.Event], float],
        records: Mapping[str, object] = base.NO_RECORDS,
        contexts: Mapping[str, context.RequestContext] = base.NO_CONTEXTS,
    ) -> host_answers.Answers:
        """Send each host its events in their order, and wait for the answers.

        :param deadline: an instant of ``time.monotonic()`` at which the wait ends
        :param lifetime: seconds until the deadline of an event; a host that receives the delivery later
            does not handle it
        :param records: not used
        :param contexts: not used, because a delivery has one context
        """
        if not by_host:
            return {}
        return self.begin(
            ctxt, by_host, deadline=deadline, lifetime=lifetime, records=records, settled=signal.Signal()
        ).finish()

    def begin(
        self,
        ctxt: context.RequestContext,
        by_host: Mapping[str, Sequence[events.Event]],
        *,
        deadline: float,
        lifetime: Callable[[events.Event], float],
        records: Mapping[str, object] = base.NO_RECORDS,
        settled: signal.Signal,
    ) -> base.Delivery:
        """See :class:`base.Deliverer`."""
        now = time.time()
        deliveries = {
            host: events.Delivery(
                # NOTE: it must not be guessable, because it authenticates the acknowledgement.
                id=ids.random_hex(),
                reply_to=self._reply_to,
                deadline=now + min(map(lifetime, sent)),
                events=tuple(sent),
            )
            for host, sent in by_host.items()
        }
        waiting = self._collector.begin(deliveries, settled=settled)
        ended = contextlib.ExitStack()
        unsent: Callable[[], Sequence[str]] = list
        try:
            # NOTE: of an abandoned round nothing is sent. The events are held, and delivered once the
            # acknowledgements of that can arrive.
            if not waiting.abandoned:
                casts = ended.enter_context(
                    self._casts.cast(ctxt, deliveries, on_failure=waiting.cast_failed, until=deadline)
                )
                unsent = casts.unsent
                ended.enter_context(self._observer.wait(deliveries))
        except BaseException:
            try:
                ended.close()
            finally:
                self._collector.end(deliveries, waiting)
            raise
        return _AgentDelivery(
            waiting,
            deadline,
            withdraw=ended.close,
            end=functools.partial(self._collector.end, deliveries, waiting),
            report=functools.partial(self._report, by_host, unsent),
        )

    def _report(
        self,
        by_host: Mapping[str, Sequence[events.Event]],
        unsent: Callable[[], Sequence[str]],
        answers: host_answers.Answers,
    ) -> None:
        quiet = []
        for host, sent in by_host.items():
            if any(answers[host, event.id].verdict is not None for event in sent):
                self._observer.answered(host)
            else:
                quiet.append(host)
        if not quiet:
            return
        # NOTE: a host to which nothing was sent may respond.
        for host in set(unsent()).intersection(quiet):
            _not_asked(answers, host, by_host[host])
        first = {host: answers[host, by_host[host][0].id] for host in quiet}
        silent = {
            host: answer.reason or host_answers.NO_ACK for host, answer in first.items() if answer.asked
        }
        if silent:
            self._observer.silent(silent)


def _not_asked(answers: host_answers.Answers, host: str, sent: Sequence[events.Event]) -> None:
    """Correct missing answers of a host to which nothing was sent: they show nothing about the host."""
    for event in sent:
        answer = answers[host, event.id]
        if answer.verdict is None and answer.asked:
            reason = host_answers.NOT_SENT if answer.reason == host_answers.NO_ACK else answer.reason
            answers[host, event.id] = dataclasses.replace(answer, reason=reason, asked=False)


class _AgentDelivery:
    """See ``drivers.base.Delivery``."""

    def __init__(
        self,
        waiting: rounds.AckRound,
        deadline: float,
        *,
        withdraw: Callable[[], None],
        end: Callable[[], host_answers.Answers],
        report: Callable[[host_answers.Answers], None],
    ) -> None:
        """:param withdraw: called after the wait
        :param end: called after that; returns the answers
        :param report: called with the answers then
        """
        self._waiting = waiting
        self._deadline = deadline
        self._withdraw = withdraw
        self._end = end
        self._report = report

    def finish(self) -> host_answers.Answers:
        """See ``drivers.base.Delivery``."""
        try:
            self._waiting.wait_until(self._deadline)
        finally:
            # NOTE: the answers are taken at the same moment from which an acknowledgement is late.
            answers = self._close()
        try:
            self._report(answers)
        except Exception:  # the answers are complete
            LOG.exception('Could not update the states of hosts after a delivery; continuing')
        return answers

    def cancel(self) -> None:
        """See ``drivers.base.Delivery``. A late acknowledgement still shows that its host responds."""
        self._close()

    def _close(self) -> host_answers.Answers:
        try:
            self._withdraw()
        except Exception:  # the deliveries must be forgotten
            LOG.exception('Could not withdraw the casts of a delivery; continuing')
        return self._end()
