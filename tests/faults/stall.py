"""How long this machine made a process wait that had nothing to wait for.

Where the cores are busy with other things, an answer is late by as much, and the
service cannot help it: what is measured here is added to its bound.
"""

from __future__ import annotations

import threading
import time

#: Seconds between two looks.
INTERVAL = 0.05

#: Seconds of a stall that are not worth noting.
IGNORED = 0.05


class Metronome(threading.Thread):
    """Wakes up at an interval, and notes when it was woken too late."""

    def __init__(self):
        super().__init__(name='metronome', daemon=True)
        self._stopped = threading.Event()
        # Guards the stalls: when each ended, and how long it was.
        self._lock = threading.Lock()
        self._stalls = []

    def run(self):
        due = time.monotonic() + INTERVAL
        while not self._stopped.wait(max(0.0, due - time.monotonic())):
            late = time.monotonic() - due
            if late > IGNORED:
                with self._lock:
                    self._stalls.append((time.monotonic(), late))
            due = time.monotonic() + INTERVAL

    def stop(self):
        """End."""
        self._stopped.set()

    def between(self, began, ended):
        """Seconds of all stalls that touch a time."""
        with self._lock:
            return sum(late for at, late in self._stalls if at >= began and at - late < ended)
