"""Processes whose wall clock is off.

In Python itself, before anything of ours is imported. Their monotonic clock is
everybody's, which the ledger counts on; libfaketime (0.9.10) either shifts that
too or has ``time.sleep()`` fail.
"""

from __future__ import annotations

import os
import pathlib

FOLDER = pathlib.Path(__file__).parent / 'shifted'


def shifted(seconds):
    """The environment of a process whose clock is some seconds off."""
    path = os.environ.get('PYTHONPATH')
    return {
        **os.environ,
        'PYTHONPATH': os.pathsep.join([str(FOLDER), *([path] if path else [])]),
        'EER_TEST_CLOCK_SHIFT': str(seconds),
    }
