"""What was sent and has no answer yet, and answers that came when nobody waited any more.

A cast that hangs in a broker, or a compute that is slow, ends after the batch
whose it was. When the same event is tried again meanwhile, it is not sent
again: who tries waits for the first one's end, or finds it here.
"""

from __future__ import annotations

import collections
from collections.abc import Iterable
import threading
import time

from external_events_router.resolver import answers

#: Answers that nobody waited for which are kept, the latest.
REMEMBERED = 10_000


class AckRound:
    """The answers of one round of casts: begun at once, awaited together. Thread-safe."""

    def __init__(self, keys: Iterable[answers.Key]) -> None:
        # Guards both below; notified when nothing is missing any more.
        self._settled = threading.Condition()
        self._missing = set(keys)
        self._answers: answers.Answers = {}

    def answer(self, key: answers.Key, answer: answers.Answer) -> None:
        """Take the answer for one event at one host; a second one is ignored."""
        with self._settled:
            if key in self._missing:
                self._missing.remove(key)
                self._answers[key] = answer
                if not self._missing:
                    self._settled.notify_all()

    def wait(self, deadline: float) -> answers.Answers:
        """The answers, once there are all, or at the deadline.

        :param deadline: an instant of ``time.monotonic()``
        """
        with self._settled:
            self._settled.wait_for(lambda: not self._missing, max(0.0, deadline - time.monotonic()))
            return dict(self._answers)


class InFlight:
    """What is on its way. Thread-safe; one per resolver worker."""

    def __init__(self, remembered: int = REMEMBERED) -> None:
        self._remembered = remembered
        # Guards both tables: who waits for what is on its way, and late answers.
        self._lock = threading.Lock()
        self._waiting: dict[answers.Key, set[AckRound]] = {}
        self._late: collections.OrderedDict[answers.Key, answers.Answer] = collections.OrderedDict()

    def join(self, key: answers.Key, asks: AckRound) -> bool:
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

    def leave(self, keys: Iterable[answers.Key], asks: AckRound) -> None:
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
