"""Invalid input from the broker, databases and files: counted, and logged without flooding the log.

A leaf: the standard library and other leaves only. Each kind of invalid input has one log
message in :data:`EVERY` seconds for the whole process, with the number of those in between.
The counters are this module's own, because all services of a process share them.
"""

from __future__ import annotations

import collections
from collections.abc import Mapping
import logging
import threading
import time

from external_events_router import checks

LOG = logging.getLogger(__name__)

#: Seconds from one message about a kind to the next.
EVERY = 30.0

#: Kinds and sources that have a message of their own at the same time; others share one.
MAX_CAUSES = 1000


class Rejections:
    """Counts rejected items by kind. Thread-safe."""

    def __init__(self) -> None:
        # Guards what follows. _next: kind and source to the time of the next message, and
        # how many there were since the last one.
        self._lock = threading.Lock()
        self._counts: collections.Counter[str] = collections.Counter()
        self._next: dict[tuple[str, str], tuple[float, int]] = {}

    def note(self, kind: str, problem: str, value: object = None, *, source: str = '') -> None:
        """Count a rejected item; log it unless its kind was logged just now.

        :param kind: from a closed list in the code, for example ``acknowledgement``
        :param problem: what is wrong with it and what was done, a sentence without its end
        :param value: what was rejected; it is cut
        :param source: who sent it, where each has a message of its own; it is cut
        """
        now = time.monotonic()
        with self._lock:
            self._counts[kind] += 1
            cause = (kind, source[: checks.MAX_SHOWN])
            if cause not in self._next and len(self._next) >= MAX_CAUSES:
                self._forget(now)
                cause = cause if len(self._next) < MAX_CAUSES else (kind, '')
            at, more = self._next.get(cause, (now, 0))
            if now < at:
                self._next[cause] = (at, more + 1)
                return
            self._next[cause] = (now + EVERY, 0)
        repeated = f' ({more} more of this kind since the last message)' if more else ''
        LOG.warning('Invalid %s: %s: %s%s', kind, checks.clean_text(problem), checks.shown(value), repeated)

    def counts(self) -> Mapping[str, int]:
        """Items that were rejected since the process started, by kind."""
        with self._lock:
            return dict(self._counts)

    def reset(self) -> None:
        """Forget everything; for tests."""
        with self._lock:
            self._counts.clear()
            self._next.clear()

    def _forget(self, now: float) -> None:
        for cause in [cause for cause, (at, more) in self._next.items() if at <= now and not more]:
            del self._next[cause]


#: Those of this process.
ALL = Rejections()
