"""Settings that reduce the memory of a process with many threads, and the time of garbage collection."""

from __future__ import annotations

import contextlib
import ctypes
import gc

#: Number of the glibc parameter that limits the number of its heaps.
_M_ARENA_MAX = -8

#: Heaps that the threads of a process share. The default is eight per core. A heap keeps the memory
#: that its threads once needed, and with Python's lock rarely two threads allocate at the same time.
ARENAS = 2


def share_heaps() -> None:
    """Let threads share a few heaps. Has no effect with a C library other than glibc."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, ARENAS)


def freeze() -> None:
    """Exempt all present objects from garbage collection. Call it once, when a process has started.

    NOTE: otherwise a full collection visits all modules. This takes 0.1 s of processor time with
    all threads stopped, and more than a second on a busy machine.
    """
    gc.collect()
    gc.freeze()
