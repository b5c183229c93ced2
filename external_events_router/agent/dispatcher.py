"""Processes the events of deliveries on one host.

For each event, in this order: skip it if it was received before; pass it to threads that wait for
it; call its handlers. Waiting threads get it immediately, so that a handler can wait for a later
event of the same server. Handlers run on the pool, in order per server. If there is no handler to
call, no source to ask, and no unfinished event of the host, the events end on the thread that
receives them. Other modules receive deliveries and send results.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Mapping
from collections.abc import Sequence
import functools
import logging
import threading
import time

from external_events_router import context
from external_events_router import events
from external_events_router import throttled_log
from external_events_router.agent import acker
from external_events_router.agent import clock
from external_events_router.agent import deduplicator
from external_events_router.agent import handlers
from external_events_router.agent import sources
from external_events_router.agent import waiters
from external_events_router.concurrency import keyed_pool
from external_events_router.metrics import recorder

LOG = logging.getLogger(__name__)

#: Maximum number of late events that one log message names.
MAX_NAMED = 10

_REPEATED = 'repeated'
_LATE = 'late'
_NO_ROOM = 'without room'
_FAILED = 'failed'

#: The results of a delivery that is not worth a log message.
_ORDINARY = {events.Verdict.HANDLED}

#: Maximum number of log messages per minute about single events.
MESSAGES = 20


class Dispatcher:
    """Processes deliveries of one host, and adds the results to the acker."""

    def __init__(
        self,
        host: str,
        *,
        pool: keyed_pool.KeyedPool,
        results: acker.Acker,
        resolver_clock: clock.ResolverClock,
        waiting: waiters.Waiters,
        handling: handlers.Handlers,
        source: sources.Source,
        memory: deduplicator.Deduplicator,
        messages: throttled_log.Bounded | None = None,
    ) -> None:
        """:param messages: limits log messages about single events, for all hosts of the process"""
        self._host = host
        self._pool = pool
        self._results = results
        self._clock = resolver_clock
        self._waiting = waiting
        self._handling = handling
        self._source = source
        self._has_source = type(source) is not sources.NoSource
        self._memory = memory
        self._messages = messages or bounded_messages()
        # Guards the set of unfinished deliveries.
        self._lock = threading.Lock()
        self._drained = threading.Condition(self._lock)
        self._unfinished: set[_Progress] = set()

    def receive(self, ctxt: context.Deferred, delivery: events.Delivery) -> None:
        """Process a delivery. This must be fast, because the next delivery of the host waits for it.

        Called on one thread at a time.
        """
        LOG.debug('Delivery %s: %d events from %s', delivery.id, len(delivery.events), delivery.reply_to)
        receipt = acker.Receipt(ctxt, self._host, delivery.id, delivery.reply_to, delivery.deadline)
        is_late = self._clock.left(delivery.deadline) <= 0
        at_once = not is_late and self._needs_no_thread(delivery.events)
        if at_once and self._waiting.is_idle and self._acknowledge(delivery, receipt):
            return
        progress = _Progress(delivery, self._ended, self._messages)
        if is_late:
            self._warn_late(delivery.events, ctxt)
            progress.count(_LATE, len(delivery.events))
            return
        if delivery.events:
            with self._lock:
                self._unfinished.add(progress)
        for event in delivery.events:
            self._try_to_admit(event, receipt, progress, at_once=at_once)

    def _needs_no_thread(self, received: Sequence[events.Event]) -> bool:
        """Return whether events end at once: nothing is called for them, and nothing is before them."""
        if self._has_source or self._unfinished:
            return False
        return not any(map(self._handling.of, {event.name for event in received}))

    def _acknowledge(self, delivery: events.Delivery, receipt: acker.Receipt) -> bool:
        """End the events of a delivery for which no handler is called and no thread waits.

        :returns: False: one of the events is in progress; nothing was done
        """
        finished = self._memory.finish_all([event.id for event in delivery.events])
        if finished is None:
            return False
        results, repeated = finished
        self._results.add(receipt, results)
        counts: dict[str, int] = {events.Verdict.HANDLED: len(results)}
        if repeated:
            counts = {events.Verdict.HANDLED: len(results) - repeated, _REPEATED: repeated}
        if LOG.isEnabledFor(logging.DEBUG):
            for event in delivery.events:
                self._log_unhandled(event)
        _ended(delivery, counts, 0.0, self._messages)
        return True

    def drain(self, timeout: float) -> int:
        """Wait for the handlers of received events.

        :returns: number of events that were unfinished at the end of the timeout
        """
        with self._lock:
            self._drained.wait_for(lambda: not self._unfinished, timeout)
            return sum(progress.left for progress in self._unfinished)

    def _try_to_admit(
        self, event: events.Event, receipt: acker.Receipt, progress: _Progress, *, at_once: bool
    ) -> None:
        """Call :meth:`_admit`. If it raises, the event is treated as not received."""
        try:
            self._admit(event, receipt, progress, at_once=at_once)
        except Exception:  # continue with the other events of the delivery
            receipt.ctxt.get()
            LOG.exception(
                'Could not process %s of server %s; it is not acknowledged and is sent again',
                event.name,
                event.server_uuid,
            )
            self._memory.forget(event.id)
            progress.stop(event.server_uuid, _FAILED)
            progress.count(_FAILED)

    def _admit(
        self, event: events.Event, receipt: acker.Receipt, progress: _Progress, *, at_once: bool
    ) -> None:
        """Start to process an event.

        :param at_once: see :meth:`_needs_no_thread`
        """
        begun = self._memory.begin(event.id, receipt)
        if begun is not True:
            LOG.debug('Event %s (%s) was received again', event.id, event.name)
            if begun:
                self._results.add(receipt, [begun])
            progress.count(_REPEATED)
            return
        waited = self._waiting.deliver(event)
        if at_once and progress.stopped(event.server_uuid) is None:
            self._report(self._call((), receipt.ctxt, event, waited=waited))
            progress.count(events.Verdict.HANDLED)
        elif waited.waiter and not self._handling.of(event.name):
            self._report(events.Result(event.id, events.Verdict.HANDLED, handling=waited))
            progress.count(events.Verdict.HANDLED)
        else:
            self._enqueue(event, receipt, progress, waited=waited)

    def _enqueue(
        self, event: events.Event, receipt: acker.Receipt, progress: _Progress, *, waited: events.Handling
    ) -> None:
        task = functools.partial(self._run, event, receipt.ctxt, progress, waited=waited)
        # NOTE: a place may become free while a delivery is processed. An event must not overtake an
        # earlier event of its server that was dropped.
        full = progress.stopped(event.server_uuid) == _NO_ROOM
        if full or not self._pool.submit((self._host, event.server_uuid), task):
            self._memory.forget(event.id)
            receipt.ctxt.get()
            self._messages.write(
                logging.WARNING,
                'Too many events wait; dropping %s of server %s, which is sent again',
                event.name,
                event.server_uuid,
            )
            progress.stop(event.server_uuid, _NO_ROOM)
            progress.count(_NO_ROOM)

    def _run(
        self, event: events.Event, ctxt: context.Deferred, progress: _Progress, *, waited: events.Handling
    ) -> None:
        fate: str = _FAILED
        try:
            if progress.stopped(event.server_uuid) == _FAILED:
                # An earlier event of the server has to be sent again first.
                self._memory.forget(event.id)
                return
            if self._memory.forget_late(event.id, self._clock.now()):
                self._warn_late((event,), ctxt)
                fate = _LATE
            else:
                result = self._handle(event, ctxt, progress, waited=waited)
                self._report(result)
                fate = result.verdict
        except BaseException:
            # NOTE: otherwise the event would stay in progress and not be handled when it is sent again.
            self._memory.forget(event.id)
            progress.stop(event.server_uuid, _FAILED)
            raise
        finally:
            progress.count(fate)

    def _handle(
        self, event: events.Event, ctxt: context.Deferred, progress: _Progress, *, waited: events.Handling
    ) -> events.Result:
        gone = progress.stopped(event.server_uuid) == events.Verdict.NOT_HERE
        if gone or not self._is_here(event.server_uuid):
            result = events.Result(event.id, events.Verdict.NOT_HERE)
        else:
            result = self._call(self._handling.of(event.name), ctxt, event, waited=waited)
        if waited.waiter and result.verdict is events.Verdict.NOT_HERE:
            # A thread on this host waited for the event, so the event was for this host.
            return events.Result(event.id, events.Verdict.HANDLED, handling=waited)
        if result.verdict is events.Verdict.NOT_HERE:
            # NOTE: the server may arrive at any moment. Its later events then wait for this event,
            # which is sent again.
            progress.stop(event.server_uuid, events.Verdict.NOT_HERE)
        return result

    def _call(
        self,
        handling: Sequence[handlers.Handler],
        ctxt: context.Deferred,
        event: events.Event,
        *,
        waited: events.Handling,
    ) -> events.Result:
        if handling:
            # Log messages of a handler contain the request id.
            return handlers.handle(handling, ctxt.get(), event, waited=waited)
        if not waited.waiter and LOG.isEnabledFor(logging.DEBUG):
            self._log_unhandled(event)
        return events.Result(event.id, events.Verdict.HANDLED, handling=waited)

    def _log_unhandled(self, event: events.Event) -> None:
        # NOTE: at a level that is usually off, because this took as long as all other processing.
        LOG.debug(
            'No handler and no waiting thread for %s of server %s; acknowledging it as handled',
            event.name,
            event.server_uuid,
        )

    def _is_here(self, server_uuid: str) -> bool:
        try:
            servers: Collection[str] | None = self._source.servers(self._host)
        except Exception:
            # A source is a plug-in. If it fails, treat every server as on this host.
            LOG.exception('The source of servers failed for host %s; accepting all events', self._host)
            return True
        return servers is None or server_uuid in servers

    def _report(self, result: events.Result) -> None:
        for receipt in self._memory.finish(result.event_id, result):
            self._results.add(receipt, [result])

    def _warn_late(self, late: Sequence[events.Event], ctxt: context.Deferred) -> None:
        ctxt.get()
        named = ', '.join(f'{event.name} of server {event.server_uuid}' for event in late[:MAX_NAMED])
        more = f' and {len(late) - MAX_NAMED} more' if len(late) > MAX_NAMED else ''
        self._messages.write(
            logging.WARNING, 'Events arrived after their deadline and were not handled: %s%s', named, more
        )

    def _ended(self, progress: _Progress) -> None:
        with self._lock:
            self._unfinished.discard(progress)
            if not self._unfinished:
                self._drained.notify_all()


class _Progress:
    """Counts the results of the events of a delivery, and logs them once at the end.

    It also records the servers whose later events in the delivery must not be handled, because an
    earlier event was not.

    :ivar left: number of unfinished events
    """

    def __init__(
        self, delivery: events.Delivery, ended: Callable[[_Progress], None], messages: throttled_log.Bounded
    ) -> None:
        """:param ended: called when all events are finished
        :param messages: limits log messages about deliveries with events that were not handled
        """
        self.left = len(delivery.events)
        self._delivery = delivery
        self._ended = ended
        self._messages = messages
        self._since = time.monotonic()
        # Guards the counts. The table of servers is only extended, and a server is looked up only
        # after an earlier event of it was stopped.
        self._lock = threading.Lock()
        self._counts: dict[str, int] = {}
        self._stopped: dict[str, str] = {}

    def stop(self, server_uuid: str, fate: str) -> None:
        """Skip later events of the server. The first reason is kept."""
        self._stopped.setdefault(server_uuid, fate)

    def stopped(self, server_uuid: str) -> str | None:
        """Return why an earlier event of the server was not handled, or None."""
        return self._stopped.get(server_uuid)

    def count(self, fate: str, number: int = 1) -> None:
        """Count finished events."""
        with self._lock:
            self._counts[fate] = self._counts.get(fate, 0) + number
            self.left -= number
            if self.left:
                return
        _ended(self._delivery, self._counts, time.monotonic() - self._since, self._messages)
        self._ended(self)


def _ended(
    delivery: events.Delivery, counts: Mapping[str, int], seconds: float, messages: throttled_log.Bounded
) -> None:
    """Count the results of a delivery whose events have ended, and log them."""
    recorder.current().agent_delivery_ended(counts, seconds=seconds)
    ordinary = counts.keys() == _ORDINARY
    # NOTE: logging a normal delivery would take as long as all other processing of it.
    if ordinary and not LOG.isEnabledFor(logging.DEBUG):
        return
    listed = ', '.join(f'{number} {fate}' for fate, number in sorted(counts.items()) if number)
    write = LOG.log if ordinary else messages.write
    write(
        logging.DEBUG if ordinary else logging.INFO,
        'Delivery %s: %d events in %.3f s: %s',
        delivery.id,
        len(delivery.events),
        seconds,
        listed,
    )


def bounded_messages() -> throttled_log.Bounded:
    """Return a limit for log messages about single events, for all hosts of a process."""
    return throttled_log.Bounded(LOG, lines=MESSAGES, rest='%d more messages about events were not written')
