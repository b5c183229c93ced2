"""What was sent and has no answer yet, and answers that came when nobody waited any more.

A cast that hangs in a broker, or a compute that is slow, ends after the batch
whose it was. When the same event is tried again meanwhile, it is not sent
again: who tries waits for the first one's end, or finds it here.
"""

from __future__ import annotations

import collections
from collections.abc import Iterable
import threading

from external_events_router.resolver import answers
from external_events_router.resolver.drivers import rounds

#: Answers that nobody waited for which are kept, the latest.
REMEMBERED = 10_000


class InFlight:
    """What is on its way. Thread-safe; one per resolver worker."""

    def __init__(self, remembered: int = REMEMBERED) -> None:
        self._remembered = remembered
        # Guards both tables: who waits for what is on its way, and late answers.
        self._lock = threading.Lock()
        self._waiting: dict[answers.Key, set[rounds.AckRound]] = {}
        self._late: collections.OrderedDict[answers.Key, answers.Answer] = collections.OrderedDict()

    def join(self, key: answers.Key, asks: rounds.AckRound) -> bool:
        """Have a round told how an event ends at a host.

        :returns: whether it is on its way, or has ended, without being sent again
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
        """The round waits no more."""
        with self._lock:
            for key in keys:
                self._waiting.get(key, set()).discard(asks)

    def settle(self, key: answers.Key, answer: answers.Answer) -> bool:
        """An event has come to its end at a host.

        :returns: whether somebody waited; if not, a verdict is kept
        """
        with self._lock:
            waiting = self._waiting.pop(key, set())
            if not waiting and answer.verdict is not None:
                self._late[key] = answer
                while len(self._late) > self._remembered:
                    self._late.popitem(last=False)
        for asks in waiting:
            asks.answer(key, answer)
        return bool(waiting)
