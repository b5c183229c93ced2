"""Which events were seen, so that one that is sent again is handled once.

An event is the same by its id. What is done with a repeated one is decided by
the dispatcher; here is only the memory, bounded in number and time.
"""

from __future__ import annotations

import collections
from collections.abc import Callable
import threading
import time

from external_events_router import events
from external_events_router.agent import acker

#: Deliveries of one event in progress that are told its result: the newest ones.
MAX_RECEIPTS = 16


class Deduplicator:
    """The memory of one host. Thread-safe.

    Not of a process: a server that migrates has two hosts, and both get the
    event, with one id.
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
        # Guards both. _done is in the order of time, and what is too much or too
        # old in it goes when the next event comes.
        self._lock = threading.Lock()
        self._in_progress: dict[str, tuple[acker.Receipt, ...]] = {}
        self._done: collections.OrderedDict[str, tuple[float, events.Result]] = collections.OrderedDict()

    def begin(self, event_id: str, receipt: acker.Receipt) -> bool | events.Result:
        """Note that an event came.

        :returns: True: it is new and now in progress, and :meth:`finish` or
            :meth:`forget` has to follow; False: it is in progress, the receipt
            will be among those of :meth:`finish`; a result: what became of it
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

    def finish(self, event_id: str, result: events.Result) -> tuple[acker.Receipt, ...]:
        """Note what became of an event.

        That a server is not here is not remembered: it may arrive.

        :returns: everyone to be told
        """
        with self._lock:
            if result.verdict is not events.Verdict.NOT_HERE:
                self._done[event_id] = (self._clock(), result)
            return self._in_progress.pop(event_id, ())

    def forget(self, event_id: str) -> None:
        """Note that an event in progress is not going to be handled."""
        with self._lock:
            self._in_progress.pop(event_id, None)

    def forget_late(self, event_id: str, now: float) -> bool:
        """Forget an event in progress if all its deliveries are past their deadlines.

        :param now: seconds since the epoch by the resolver's clock
        :returns: whether it was forgotten
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
            noted, _result = next(iter(self._done.values()))
            if noted > oldest and len(self._done) <= self._max_events:
                return
            self._done.popitem(last=False)
