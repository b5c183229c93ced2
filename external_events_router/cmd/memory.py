"""What a process with many threads takes of the machine's memory, and what its care takes of the time."""

from __future__ import annotations

import contextlib
import ctypes
import gc

#: glibc's number of the parameter that bounds its heaps.
_M_ARENA_MAX = -8

#: Heaps that the threads of a process share; by default eight for each core. Each keeps
#: what its threads once needed, and Python's lock lets hardly two allocate at a time.
ARENAS = 2


def share_heaps() -> None:
    """Have threads share a few heaps; without effect on a C library that has no such bound."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, ARENAS)


def freeze() -> None:
    """Exempt what is there from garbage collection: call it once, when a process has started.

    NOTE: else a full collection looks at all modules, which takes 0.1 s of processor time
    with all threads stopped, and more than a second on a busy machine.
    """
    gc.collect()
    gc.freeze()
