"""Processes the events of deliveries on one host.

For each event, in this order: skip it if it was received before; pass it to threads that wait for
it; call its handlers. Waiting threads get it immediately, so that a handler can wait for a later
event of the same server. Handlers run on the pool, in order per server. Other modules receive
deliveries and send results.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Collection
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
        self._memory = memory
        self._messages = messages or bounded_messages()
        # Guards the set of unfinished deliveries.
        self._lock = threading.Lock()
        self._drained = threading.Condition(self._lock)
        self._in_hand: set[_Tally] = set()

    def receive(self, ctxt: context.RequestContext, delivery: events.Delivery) -> None:
        """Process a delivery. This must be fast, because the next delivery of the host waits for it."""
        LOG.debug('Delivery %s: %d events from %s', delivery.id, len(delivery.events), delivery.reply_to)
        tally = _Tally(delivery, self._ended, self._messages)
        if self._clock.left(delivery.deadline) <= 0:
            self._warn_late(delivery.events)
            tally.count(_LATE, len(delivery.events))
            return
        if delivery.events:
            with self._lock:
                self._in_hand.add(tally)
        receipt = acker.Receipt(ctxt, self._host, delivery.id, delivery.reply_to, delivery.deadline)
        answered = [self._try_to_admit(event, receipt, tally) for event in delivery.events]
        # NOTE: the pool calls send() for the other results when it becomes idle. Do not also call it
        # here for them: the results would then be sent one by one instead of together.
        if any(answered):
            self._results.send()

    def drain(self, timeout: float) -> int:
        """Wait for the handlers of received events.

        :returns: number of events that were unfinished at the end of the timeout
        """
        with self._lock:
            self._drained.wait_for(lambda: not self._in_hand, timeout)
            return sum(tally.left for tally in self._in_hand)

    def _try_to_admit(self, event: events.Event, receipt: acker.Receipt, tally: _Tally) -> bool:
        """Call :meth:`_admit`. If it raises, the event is treated as not received."""
        try:
            return self._admit(event, receipt, tally)
        except Exception:  # continue with the other events of the delivery
            LOG.exception(
                'Could not process %s of server %s; it is not acknowledged and is sent again',
                event.name,
                event.server_uuid,
            )
            self._memory.forget(event.id)
            tally.stop(event.server_uuid, _FAILED)
            tally.count(_FAILED)
            return False

    def _admit(self, event: events.Event, receipt: acker.Receipt, tally: _Tally) -> bool:
        """Start to process an event.

        :returns: whether its result is already known and added to the acker
        """
        begun = self._memory.begin(event.id, receipt)
        if begun is not True:
            LOG.debug('Event %s (%s) was received again', event.id, event.name)
            if begun:
                self._results.add(receipt, begun)
            tally.count(_REPEATED)
            return bool(begun)
        waited = self._waiting.deliver(event)
        if waited.waiter and not self._handling.of(event.name):
            result = events.Result(event.id, events.Verdict.HANDLED, handling=waited)
            self._told(result)
            tally.count(result.verdict)
            return True
        self._enqueue(event, receipt, tally, waited=waited)
        return False

    def _enqueue(
        self, event: events.Event, receipt: acker.Receipt, tally: _Tally, *, waited: events.Handling
    ) -> None:
        task = functools.partial(self._run, event, receipt.ctxt, tally, waited=waited)
        # NOTE: a place may become free while a delivery is processed. An event must not overtake an
        # earlier event of its server that was dropped.
        full = tally.stopped(event.server_uuid) == _NO_ROOM
        if full or not self._pool.submit((self._host, event.server_uuid), task):
            self._memory.forget(event.id)
            self._messages.write(
                logging.WARNING,
                'Too many events wait; dropping %s of server %s, which is sent again',
                event.name,
                event.server_uuid,
            )
            tally.stop(event.server_uuid, _NO_ROOM)
            tally.count(_NO_ROOM)

    def _run(
        self, event: events.Event, ctxt: context.RequestContext, tally: _Tally, *, waited: events.Handling
    ) -> None:
        fate: str = _FAILED
        try:
            if tally.stopped(event.server_uuid) == _FAILED:
                # An earlier event of the server has to be sent again first.
                self._memory.forget(event.id)
                return
            # Log messages of a handler contain the request id.
            ctxt.update_store()
            if self._memory.forget_late(event.id, self._clock.now()):
                self._warn_late((event,))
                fate = _LATE
            else:
                result = self._handle(event, ctxt, tally, waited=waited)
                self._told(result)
                fate = result.verdict
        except BaseException:
            # NOTE: otherwise the event would stay in progress and not be handled when it is sent again.
            self._memory.forget(event.id)
            tally.stop(event.server_uuid, _FAILED)
            raise
        finally:
            tally.count(fate)

    def _handle(
        self, event: events.Event, ctxt: context.RequestContext, tally: _Tally, *, waited: events.Handling
    ) -> events.Result:
        gone = tally.stopped(event.server_uuid) == events.Verdict.NOT_HERE
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
            tally.stop(event.server_uuid, events.Verdict.NOT_HERE)
        return result

    def _call(
        self,
        handling: Sequence[handlers.Handler],
        ctxt: context.RequestContext,
        event: events.Event,
        *,
        waited: events.Handling,
    ) -> events.Result:
        if not handling and not waited.waiter:
            self._messages.write(
                logging.INFO,
                'No handler and no waiting thread for %s of server %s; acknowledging it as handled',
                event.name,
                event.server_uuid,
            )
        return handlers.handle(handling, ctxt, event, waited=waited)

    def _is_here(self, server_uuid: str) -> bool:
        try:
            servers: Collection[str] | None = self._source.servers(self._host)
        except Exception:
            # A source is a plug-in. If it fails, treat every server as on this host.
            LOG.exception('The source of servers failed for host %s; accepting all events', self._host)
            return True
        return servers is None or server_uuid in servers

    def _told(self, result: events.Result) -> None:
        for receipt in self._memory.finish(result.event_id, result):
            self._results.add(receipt, result)

    def _warn_late(self, late: Sequence[events.Event]) -> None:
        named = ', '.join(f'{event.name} of server {event.server_uuid}' for event in late[:MAX_NAMED])
        more = f' and {len(late) - MAX_NAMED} more' if len(late) > MAX_NAMED else ''
        self._messages.write(
            logging.WARNING, 'Events arrived after their deadline and were not handled: %s%s', named, more
        )

    def _ended(self, tally: _Tally) -> None:
        with self._lock:
            self._in_hand.discard(tally)
            if not self._in_hand:
                self._drained.notify_all()


class _Tally:
    """Counts the results of the events of a delivery, and logs them once at the end.

    It also records the servers whose later events in the delivery must not be handled, because an
    earlier event was not.

    :ivar left: number of unfinished events
    """

    def __init__(
        self, delivery: events.Delivery, ended: Callable[[_Tally], None], messages: throttled_log.Bounded
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
        seconds = time.monotonic() - self._since
        recorder.current().agent_delivery_ended(self._counts, seconds=seconds)
        self._log()
        self._ended(self)

    def _log(self) -> None:
        ordinary = self._counts.keys() == {events.Verdict.HANDLED}
        # NOTE: logging a normal delivery would take as long as all other processing of it.
        if ordinary and not LOG.isEnabledFor(logging.DEBUG):
            return
        counts = ', '.join(f'{number} {fate}' for fate, number in sorted(self._counts.items()))
        write = LOG.log if ordinary else self._messages.write
        write(
            logging.DEBUG if ordinary else logging.INFO,
            'Delivery %s: %d events in %.3f s: %s',
            self._delivery.id,
            len(self._delivery.events),
            time.monotonic() - self._since,
            counts,
        )


def bounded_messages() -> throttled_log.Bounded:
    """Return a limit for log messages about single events, for all hosts of a process."""
    return throttled_log.Bounded(
        LOG, lines=MESSAGES, rest='%d more events had no handler or were not handled'
    )
