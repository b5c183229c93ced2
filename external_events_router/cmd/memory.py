"""What a process with many threads takes of the machine's memory."""

from __future__ import annotations

import contextlib
import ctypes

#: glibc's number of the parameter that bounds its heaps.
_M_ARENA_MAX = -8

#: Heaps that the threads of a process share; by default eight for each core. Each keeps
#: what its threads once needed, and Python's lock lets hardly two allocate at a time.
ARENAS = 2


def share_heaps() -> None:
    """Have threads share a few heaps; without effect on a C library that has no such bound."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, ARENAS)
