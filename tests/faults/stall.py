"""Measurement of the time for which this machine stalls a process that does not wait for anything.

If the cores are busy with other processes, an answer is late by this time, which the
service cannot prevent. The measured time is added to the time limit of an answer.
"""

from __future__ import annotations

import threading
import time

#: Seconds between two measurements.
INTERVAL = 0.05

#: Shorter stalls (in seconds) are not recorded.
IGNORED = 0.05


class StallMonitor(threading.Thread):
    """Wakes up at an interval, and records each late wake-up."""

    def __init__(self):
        super().__init__(name='metronome', daemon=True)
        self._stopped = threading.Event()
        # Guards the stalls: the end and the duration of each.
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
        """Seconds of all stalls that overlap a period."""
        with self._lock:
            return sum(late for at, late in self._stalls if at >= began and at - late < ended)
