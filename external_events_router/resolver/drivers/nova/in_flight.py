"""Casts without an answer yet, and answers that arrived when no batch waited for them.

A cast that hangs in a broker, or a slow nova-compute, may end after its batch. If the same event is tried
again before this end, it is not sent again: the new attempt waits for the end of the first cast, or finds
its result here.
"""

from __future__ import annotations

import collections
from collections.abc import Iterable
import threading

from external_events_router.resolver import answers
from external_events_router.resolver.drivers import rounds

#: Maximum number of late answers that are kept; older ones are removed.
REMEMBERED = 10_000


class InFlight:
    """Events in flight. Thread-safe; one per resolver worker."""

    def __init__(self, remembered: int = REMEMBERED) -> None:
        self._remembered = remembered
        # Guards both tables: the rounds that wait for events in flight, and late answers.
        self._lock = threading.Lock()
        self._waiting: dict[answers.Key, set[rounds.AckRound]] = {}
        self._late: collections.OrderedDict[answers.Key, answers.Answer] = collections.OrderedDict()

    def join(self, key: answers.Key, asks: rounds.AckRound) -> bool:
        """Add a round that waits for the result of an event at a host.

        :returns: whether the event is in flight or has a result, so that it is not sent again
        """
        with self._lock:
            late = self._late.pop(key, None)
            if late is None:
                under_way = key in self._waiting
                self._waiting.setdefault(key, set()).add(asks)
        if late is None:
            return under_way
        asks.answer(key, late)
        return True

    def leave(self, keys: Iterable[answers.Key], asks: rounds.AckRound) -> None:
        """Remove a round that does not wait any longer."""
        with self._lock:
            for key in keys:
                self._waiting.get(key, set()).discard(asks)

    def settle(self, key: answers.Key, answer: answers.Answer) -> bool:
        """Record the result of an event at a host.

        :returns: whether a round waited for it; if not, a verdict is kept
        """
        with self._lock:
            waiting = self._waiting.pop(key, set())
            if not waiting and answer.verdict is not None:
                self._late[key] = answer
                while len(self._late) > self._remembered:
                    self._late.popitem(last=False)
            # NOTE: with the lock, so that a round has all its answers when it leaves.
            for asks in waiting:
                asks.answer(key, answer)
        return bool(waiting)
