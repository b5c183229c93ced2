"""Remembers received events, so that an event that is sent again is handled once.

Events with the same id are the same event. The dispatcher decides how to treat a repeated event; this
module only remembers events, with limits on their number and age.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
import threading
import time

from external_events_router import events
from external_events_router.agent import acker
from external_events_router.concurrency import bounded_store

#: Maximum number of deliveries that get the result of one event in progress; older ones are dropped.
MAX_RECEIPTS = 16


class Deduplicator:
    """The memory of one host. Thread-safe.

    Each host of a process needs its own: a migrating server has two hosts, and both get the event
    with the same id.
    """

    def __init__(
        self,
        *,
        remembered_events: int = 100_000,
        remembered_seconds: float = 900.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        # Guards both. _done is ordered by time.
        self._lock = threading.Lock()
        self._in_progress: dict[str, tuple[acker.Receipt, ...]] = {}
        self._done: bounded_store.BoundedStore[str, events.Result] = bounded_store.BoundedStore(
            remembered_events, seconds=remembered_seconds, clock=clock
        )

    def begin(self, event_id: str, receipt: acker.Receipt) -> bool | events.Result:
        """Record that an event was received.

        :returns: True: the event is new and now in progress; call :meth:`finish` or :meth:`forget`
            later. False: the event is in progress; :meth:`finish` will return this receipt. A result:
            the event was handled before
        """
        with self._lock:
            self._done.expire()
            if (done := self._done.get(event_id)) is not None:
                return done
            if (receipts := self._in_progress.get(event_id)) is not None:
                if receipts[-1] is not receipt:
                    self._in_progress[event_id] = (*receipts[1 - MAX_RECEIPTS :], receipt)
                return False
            self._in_progress[event_id] = (receipt,)
            return True

    def finish_all(self, event_ids: Sequence[str]) -> tuple[list[events.Result], int] | None:
        """Record that events were received and handled, without handler and waiter.

        :returns: their results in their order, and the number of events that were handled before; None
            if an event is in progress, and then nothing was recorded
        """
        results, repeated = list[events.Result](), 0
        with self._lock:
            self._done.expire()
            if self._in_progress and not self._in_progress.keys().isdisjoint(event_ids):
                return None
            for event_id in event_ids:
                result = self._done.get(event_id)
                if result is None:
                    result = events.Result(event_id, events.Verdict.HANDLED, None, events.NOT_HANDLED)
                    self._done.add(event_id, result)
                else:
                    repeated += 1
                results.append(result)
        return results, repeated

    def finish(self, event_id: str, result: events.Result) -> tuple[acker.Receipt, ...]:
        """Record the result of an event.

        The result "not here" is not remembered, because the server may arrive later.

        :returns: receipts of all deliveries that have to get the result
        """
        with self._lock:
            if result.verdict is not events.Verdict.NOT_HERE:
                self._done.add(event_id, result)
            return self._in_progress.pop(event_id, ())

    def forget(self, event_id: str) -> None:
        """Record that an event in progress will not be handled."""
        with self._lock:
            self._in_progress.pop(event_id, None)

    def forget_late(self, event_id: str, now: float) -> bool:
        """Forget an event in progress if the deadlines of all its deliveries have passed.

        :param now: seconds since the epoch, by the clock of the resolver
        :returns: whether the event was forgotten
        """
        with self._lock:
            for receipt in self._in_progress[event_id]:
                if receipt.deadline > now:
                    return False
            del self._in_progress[event_id]
            return True
