"""Processes that keep the machine busy beside the services.

Real machines are busy during a failure, because everything starts again at the
same time. ``python -m tests.faults --busy 8`` starts eight of these. Each has a
session of its own: the scheduler's automatic groups give each session an equal
share of the processors, so eight threads of one session would take the share of
one.

Run as a process of its own::

    python -m tests.faults.busy SECONDS

It ends after these seconds, or as soon as the process that started it has ended.
"""

from __future__ import annotations

import ctypes
import os
import pathlib
import signal
import sys
import time

import fixtures

from tests.integration import deployment

#: Option of ``prctl(2)``: the signal that the kernel sends when the parent ends.
PR_SET_PDEATHSIG = 1

#: Iterations between two readings of the clock.
TURN = 100_000


class Busy(fixtures.Fixture):
    """Busy processes, ended with the fixture."""

    def __init__(self, number, *, seconds):
        """:param seconds: after which they end in any case"""
        self._number = number
        self._seconds = seconds

    def _setUp(self):
        folder = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
        command = [sys.executable, '-m', 'tests.faults.busy', self._seconds]
        self.processes = [
            self.useFixture(deployment.Process(f'busy-{number}', command, folder))
            for number in range(self._number)
        ]
        for process in self.processes:
            process.wait_for('busy\n')


def main(seconds):
    """Calculate until the time is over."""
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    # NOTE: the parent may have ended before this call.
    if os.getppid() != parent or parent == 1:
        return
    print('busy\n', end='', flush=True)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for _ in range(TURN):
            pass


if __name__ == '__main__':
    main(float(sys.argv[1]))
