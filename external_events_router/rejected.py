"""Invalid input from the broker, databases and files: counted, and logged at a limited rate.

Imports only the standard library and leaf modules. Each kind of invalid input has at most one log
message in :data:`EVERY` seconds per process, with the number of items in between. The
counters are global, because all services of a process share them.
"""

from __future__ import annotations

import collections
from collections.abc import Mapping
import logging
import threading
import time

from external_events_router import checks
from external_events_router.metrics import recorder

LOG = logging.getLogger(__name__)

#: Minimum seconds between two messages about the same kind.
EVERY = 30.0

#: Maximum number of kinds and sources with separate messages; others share one message per kind.
MAX_CAUSES = 1000


class Rejections:
    """Counts rejected items by kind. Thread-safe."""

    def __init__(self) -> None:
        # Guards the attributes below. _next: for each kind and source, the time of the next message
        # and the number of items since the last one.
        self._lock = threading.Lock()
        self._counts: collections.Counter[str] = collections.Counter()
        self._next: dict[tuple[str, str], tuple[float, int]] = {}

    def note(self, kind: str, problem: str, value: object = None, *, source: str = '') -> None:
        """Count a rejected item. Log it, unless its kind was logged a short time ago.

        :param kind: one of a closed list in the code, for example ``acknowledgement``
        :param problem: the error and the consequence, a sentence without its end
        :param value: the rejected item; it is cut
        :param source: sender of the item, if each sender has separate messages; it is cut
        """
        recorder.current().rejected(kind)
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
        """Return the number of rejected items since the start of the process, by kind."""
        with self._lock:
            return dict(self._counts)

    def reset(self) -> None:
        """Delete all counts; for tests."""
        with self._lock:
            self._counts.clear()
            self._next.clear()

    def _forget(self, now: float) -> None:
        for cause in [cause for cause, (at, more) in self._next.items() if at <= now and not more]:
            del self._next[cause]


#: The counters of this process.
ALL = Rejections()
