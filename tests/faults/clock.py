"""Processes with a wrong wall clock.

Only Python's functions for the wall clock are changed, before any module of the service is imported.
The monotonic clock, which the ledger relies on, stays the same; libfaketime (0.9.10) either shifts
it too or makes ``time.sleep()`` fail.
"""

from __future__ import annotations

import os
import pathlib

FOLDER = pathlib.Path(__file__).parent / 'shifted'


def shifted(seconds):
    """The environment of a process whose wall clock differs by some seconds."""
    path = os.environ.get('PYTHONPATH')
    return {
        **os.environ,
        'PYTHONPATH': os.pathsep.join([str(FOLDER), *([path] if path else [])]),
        'EER_TEST_CLOCK_SHIFT': str(seconds),
    }
