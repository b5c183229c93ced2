"""Remembers received events, so that an event that is sent again is handled once.

Events with the same id are the same event. The dispatcher decides how to treat a repeated event; this
module only remembers events, with limits on their number and age.
"""

from __future__ import annotations

import collections
from collections.abc import Callable
from collections.abc import Sequence
import threading
import time

from external_events_router import events
from external_events_router.agent import acker

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
        self._max_events = remembered_events
        self._max_seconds = remembered_seconds
        self._clock = clock
        # Guards both. _done is ordered by time. Entries beyond the limits are removed when the next
        # event arrives.
        self._lock = threading.Lock()
        self._in_progress: dict[str, tuple[acker.Receipt, ...]] = {}
        self._done: collections.OrderedDict[str, tuple[float, events.Result]] = collections.OrderedDict()

    def begin(self, event_id: str, receipt: acker.Receipt) -> bool | events.Result:
        """Record that an event was received.

        :returns: True: the event is new and now in progress; call :meth:`finish` or :meth:`forget`
            later. False: the event is in progress; :meth:`finish` will return this receipt. A result:
            the event was handled before
        """
        with self._lock:
            self._expire()
            if (done := self._done.get(event_id)) is not None:
                return done[1]
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
            self._expire()
            if self._in_progress and not self._in_progress.keys().isdisjoint(event_ids):
                return None
            now = self._clock()
            for event_id in event_ids:
                done = self._done.get(event_id)
                if done is None:
                    result = events.Result(event_id, events.Verdict.HANDLED, None, events.NOT_HANDLED)
                    self._done[event_id] = (now, result)
                else:
                    result = done[1]
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
                self._done[event_id] = (self._clock(), result)
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

    def _expire(self) -> None:
        oldest = self._clock() - self._max_seconds
        while self._done:
            finished_at, _result = next(iter(self._done.values()))
            if finished_at > oldest and len(self._done) <= self._max_events:
                return
            self._done.popitem(last=False)
