"""A pause for a source that fails: callers do not wait for it, except for one attempt per interval."""

from __future__ import annotations

from collections.abc import Callable
import threading
import time

#: Number of consecutive failures after which callers do not try the source, and seconds until the
#: next attempt. During the pause a call takes no time.
FAILURES = 3
PAUSE = 1.0


class Pause:
    """Decides whether to try a source. Thread-safe."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        # Guards both attributes below.
        self._lock = threading.Lock()
        self._failures = 0
        self._next_try = 0.0

    def admits(self) -> bool:
        """Return whether to try; after :data:`FAILURES` failures, once in :data:`PAUSE` seconds."""
        with self._lock:
            if self._failures < FAILURES:
                return True
            now = self._clock()
            if now < self._next_try:
                return False
            self._next_try = now + PAUSE
            return True

    def is_on(self) -> bool:
        """Return whether the source has failed so often that callers should not wait for it."""
        with self._lock:
            return self._failures >= FAILURES

    def succeeded(self) -> None:
        """Record that the source has answered."""
        with self._lock:
            self._failures = 0

    def failed(self) -> None:
        """Record that the source has failed."""
        with self._lock:
            self._failures += 1
            self._next_try = self._clock() + PAUSE
