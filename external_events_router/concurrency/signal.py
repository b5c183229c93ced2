"""A signal that any thread can set once, and for which one thread waits.

It costs a quarter of an event of ``threading``, which has a separate condition and lock.
"""

from __future__ import annotations

import contextlib
import threading
import time


class Signal:
    """A signal that is set once and never reset. Thread-safe."""

    __slots__ = ('_lock',)

    def __init__(self) -> None:
        # Held until the signal is set.
        self._lock = threading.Lock()
        self._lock.acquire()

    def set(self) -> None:
        """End every wait, now and later; a second call has no effect."""
        # NOTE: a waiting thread releases the lock, too, so it may be free already.
        with contextlib.suppress(RuntimeError):
            self._lock.release()

    def wait_until(self, deadline: float) -> bool:
        """Wait until it is set, or until the deadline.

        :param deadline: instant of ``time.monotonic()``; it may be over
        :returns: whether it was set
        """
        timeout = max(0.0, min(deadline - time.monotonic(), threading.TIMEOUT_MAX))
        if not self._lock.acquire(timeout=timeout):
            return False
        self.set()
        return True
