"""What one host does with the events of a delivery.

For each event, in this order: was it seen already? who waits for it? which
handlers has it? Waiters get it at once, so that a handler may wait for a later
event of its own server; handlers run in order per server, on the pool. How
deliveries come and results go is not known here.
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

LOG = logging.getLogger(__name__)

#: Late events that one warning names.
MAX_NAMED = 10

_REPEATED = 'repeated'
_LATE = 'late'
_NO_ROOM = 'without room'
_FAILED = 'failed'

#: Messages about single events in a minute.
MESSAGES = 20


class Dispatcher:
    """Takes deliveries of one host; results come out at the acker."""

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
        """:param messages: bounds those about single events, of all hosts of the process"""
        self._host = host
        self._pool = pool
        self._results = results
        self._clock = resolver_clock
        self._waiting = waiting
        self._handling = handling
        self._source = source
        self._memory = memory
        self._messages = messages or bounded_messages()
        # Guards the deliveries of which not all events have come to their end.
        self._lock = threading.Lock()
        self._drained = threading.Condition(self._lock)
        self._in_hand: set[_Tally] = set()

    def receive(self, ctxt: context.RequestContext, delivery: events.Delivery) -> None:
        """Take a delivery: quick, because the next of the host waits for it."""
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
        # NOTE: the pool has the rest sent when it comes to its end. Not from
        # here too, or what goes together there would go one by one.
        if any(answered):
            self._results.send()

    def drain(self, timeout: float) -> int:
        """Wait for the handlers of what was received.

        :returns: how many events were still in hand at the end of the time
        """
        with self._lock:
            self._drained.wait_for(lambda: not self._in_hand, timeout)
            return sum(tally.left for tally in self._in_hand)

    def _try_to_admit(self, event: events.Event, receipt: acker.Receipt, tally: _Tally) -> bool:
        """As :meth:`_admit`; an event that something raises for is one that did not come."""
        try:
            return self._admit(event, receipt, tally)
        except Exception:  # the other events of the delivery go on
            LOG.exception('%s of server %s cannot be taken', event.name, event.server_uuid)
            self._memory.forget(event.id)
            tally.stop(event.server_uuid, _FAILED)
            tally.count(_FAILED)
            return False

    def _admit(self, event: events.Event, receipt: acker.Receipt, tally: _Tally) -> bool:
        """Take an event.

        :returns: whether its result is known already, and at the acker
        """
        begun = self._memory.begin(event.id, receipt)
        if begun is not True:
            LOG.debug('Event %s (%s) came again', event.id, event.name)
            if begun:
                self._results.add(receipt, begun)
            tally.count(_REPEATED)
            return bool(begun)
        waited = self._waiting.deliver(event)
        if waited and not self._handling.of(event.name):
            result = events.Result(event.id, events.Verdict.HANDLED)
            self._told(result)
            tally.count(result.verdict)
            return True
        self._enqueue(event, receipt, tally, waited=waited)
        return False

    def _enqueue(self, event: events.Event, receipt: acker.Receipt, tally: _Tally, *, waited: bool) -> None:
        task = functools.partial(self._run, event, receipt.ctxt, tally, waited=waited)
        # NOTE: room may come while a delivery is taken, and an event must not
        # overtake one that had none.
        full = tally.stopped(event.server_uuid) == _NO_ROOM
        if full or not self._pool.submit((self._host, event.server_uuid), task):
            self._memory.forget(event.id)
            self._messages.write(
                logging.WARNING, 'No room for %s of server %s, it is dropped', event.name, event.server_uuid
            )
            tally.stop(event.server_uuid, _NO_ROOM)
            tally.count(_NO_ROOM)

    def _run(self, event: events.Event, ctxt: context.RequestContext, tally: _Tally, *, waited: bool) -> None:
        fate: str = _FAILED
        try:
            if tally.stopped(event.server_uuid) == _FAILED:
                # An earlier one has to be sent again first.
                self._memory.forget(event.id)
                return
            # The lines of a handler carry the request's id.
            ctxt.update_store()
            if self._memory.forget_late(event.id, self._clock.now()):
                self._warn_late((event,))
                fate = _LATE
            else:
                result = self._handle(event, ctxt, tally, waited=waited)
                self._told(result)
                fate = result.verdict
        except BaseException:
            # NOTE: else it would be in progress for ever, and not run when it is sent again.
            self._memory.forget(event.id)
            tally.stop(event.server_uuid, _FAILED)
            raise
        finally:
            tally.count(fate)

    def _handle(
        self, event: events.Event, ctxt: context.RequestContext, tally: _Tally, *, waited: bool
    ) -> events.Result:
        gone = tally.stopped(event.server_uuid) == events.Verdict.NOT_HERE
        if gone or not self._is_here(event.server_uuid):
            result = events.Result(event.id, events.Verdict.NOT_HERE)
        else:
            result = self._call(self._handling.of(event.name), ctxt, event, waited=waited)
        if waited and result.verdict is events.Verdict.NOT_HERE:
            # Someone on this host waited for it, so it was for this host.
            return events.Result(event.id, events.Verdict.HANDLED)
        if result.verdict is events.Verdict.NOT_HERE:
            # NOTE: the server may arrive at any moment; its later events then
            # wait for this one, which is going to be sent again.
            tally.stop(event.server_uuid, events.Verdict.NOT_HERE)
        return result

    def _call(
        self,
        handling: Sequence[handlers.Handler],
        ctxt: context.RequestContext,
        event: events.Event,
        *,
        waited: bool,
    ) -> events.Result:
        if not handling and not waited:
            self._messages.write(
                logging.INFO, 'Nothing waits for or handles %s of server %s', event.name, event.server_uuid
            )
        return handlers.handle(handling, ctxt, event)

    def _is_here(self, server_uuid: str) -> bool:
        try:
            servers: Collection[str] | None = self._source.servers(self._host)
        except Exception:
            # A source is a plug-in; one that fails does not know.
            LOG.exception('The source of the servers of host %s failed', self._host)
            return True
        return servers is None or server_uuid in servers

    def _told(self, result: events.Result) -> None:
        for receipt in self._memory.finish(result.event_id, result):
            self._results.add(receipt, result)

    def _warn_late(self, late: Sequence[events.Event]) -> None:
        named = ', '.join(f'{event.name} of server {event.server_uuid}' for event in late[:MAX_NAMED])
        more = f' and {len(late) - MAX_NAMED} more' if len(late) > MAX_NAMED else ''
        self._messages.write(logging.WARNING, 'Past their deadline, not handled: %s%s', named, more)

    def _ended(self, tally: _Tally) -> None:
        with self._lock:
            self._in_hand.discard(tally)
            if not self._in_hand:
                self._drained.notify_all()


class _Tally:
    """What became of the events of a delivery: counted, and logged once, at its end.

    It also says which servers' later events of the delivery must not run any
    more, because an earlier one did not.

    :ivar left: events that have not come to their end
    """

    def __init__(
        self, delivery: events.Delivery, ended: Callable[[_Tally], None], messages: throttled_log.Bounded
    ) -> None:
        """:param ended: called when all events have come to their end
        :param messages: bounds those about deliveries that were not simply handled
        """
        self.left = len(delivery.events)
        self._delivery = delivery
        self._ended = ended
        self._messages = messages
        self._since = time.monotonic()
        # Guards what is counted. The table of servers is only added to, and
        # who asks about one comes after who has stopped it.
        self._lock = threading.Lock()
        self._counts: dict[str, int] = {}
        self._stopped: dict[str, str] = {}

    def stop(self, server_uuid: str, fate: str) -> None:
        """Let no later event of the server run; the first fate counts."""
        self._stopped.setdefault(server_uuid, fate)

    def stopped(self, server_uuid: str) -> str | None:
        """What became of an earlier event of the server, if it did not run."""
        return self._stopped.get(server_uuid)

    def count(self, fate: str, number: int = 1) -> None:
        """Count events that came to their end."""
        with self._lock:
            self._counts[fate] = self._counts.get(fate, 0) + number
            self.left -= number
            if self.left:
                return
        self._log()
        self._ended(self)

    def _log(self) -> None:
        ordinary = self._counts.keys() == {events.Verdict.HANDLED}
        # NOTE: a line for what went as it should takes as long as all the rest of a delivery.
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
    """The bound of the messages about single events: many hosts in a process may have the same cause."""
    return throttled_log.Bounded(
        LOG, lines=MESSAGES, rest='%d more events were not handled, or nothing waited for them'
    )
