"""A pause for a source that fails: nobody waits for it in vain, and now and then one tries it."""

from __future__ import annotations

from collections.abc import Callable
import threading
import time

#: Look-ups that must fail one after the other before none is tried any more, and
#: the seconds until one is tried again. Until then each costs no time.
FAILURES = 3
PAUSE = 1.0


class Pause:
    """Whether a source is worth a try. Thread-safe."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        # Guards both below.
        self._lock = threading.Lock()
        self._failures = 0
        self._next_try = 0.0

    def admits(self) -> bool:
        """Whether to try; after :data:`FAILURES`, one caller in every :data:`PAUSE` may."""
        with self._lock:
            if self._failures < FAILURES:
                return True
            now = self._clock()
            if now < self._next_try:
                return False
            self._next_try = now + PAUSE
            return True

    def is_on(self) -> bool:
        """Whether it has failed so often that nobody should wait for it."""
        with self._lock:
            return self._failures >= FAILURES

    def succeeded(self) -> None:
        """The source has answered."""
        with self._lock:
            self._failures = 0

    def failed(self) -> None:
        """The source has not."""
        with self._lock:
            self._failures += 1
            self._next_try = self._clock() + PAUSE
