"""Processes whose wall clock is off, by libfaketime.

Their monotonic clock is everybody's, which the ledger counts on.
"""

from __future__ import annotations

import os
import pathlib

from tests.integration import services

#: Debian's folders, one per architecture.
_FOUND = sorted(pathlib.Path('/usr/lib').glob('*/faketime/libfaketime.so.1'))


def is_there():
    """Whether the library is installed."""
    return bool(_FOUND)


def shifted(seconds):
    """The environment of a process whose clock is some seconds off."""
    if not _FOUND:
        services.missing('libfaketime', 'clocks are shifted by it')
    return {
        **os.environ,
        'LD_PRELOAD': str(_FOUND[0]),
        'FAKETIME': f'{seconds:+d}s',
        'FAKETIME_DONT_FAKE_MONOTONIC': '1',
        'DONT_FAKE_MONOTONIC': '1',
        # NOTE: else it keeps its state in shared memory, and processes started
        # by one of ours in a name that only that one knows.
        'FAKETIME_DISABLE_SHM': '1',
    }
