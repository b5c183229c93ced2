"""Shifts the wall clock of a Python process by ``EER_TEST_CLOCK_SHIFT`` seconds.

The interpreter imports this module at its start if ``PYTHONPATH`` contains this folder;
see ``tests.faults.clock``.
"""

import os
import time

_shift = int(os.environ['EER_TEST_CLOCK_SHIFT'])
_time, _time_ns = time.time, time.time_ns


def _shifted():
    return _time() + _shift


def _shifted_ns():
    return _time_ns() + _shift * 1_000_000_000


time.time, time.time_ns = _shifted, _shifted_ns
