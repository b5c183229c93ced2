"""Unique ids: random ids, and ids derived from digests.

Imports only the standard library. Random ids come from the system's generator, so that they cannot be
guessed: an acknowledgement is accepted because of the id of its delivery. Random bits are read in
blocks, because a system call takes longer than all other steps.
"""

from __future__ import annotations

import os

#: Number of ids per system call.
_BLOCK = 256

# Unused ids, and the process to which they belong: a child process has a copy of the list and must not
# use it. list.pop() is one step of the interpreter, so no lock is needed.
_unused: list[str] = []
_owner = os.getpid()


def random_hex() -> str:
    """Return 32 hexadecimal digits that cannot be guessed."""
    # NOTE: os.register_at_fork is not sufficient: a server that forks in C may not call it.
    if os.getpid() != _owner:
        _after_fork()
    try:
        return _unused.pop()
    except IndexError:
        return _refill()


def random_uuid() -> str:
    """Return a uuid of version 4 in canonical form."""
    return as_uuid(random_hex(), version=4)


def as_uuid(digits: str, *, version: int) -> str:
    """Build a uuid of a version from random bits or from a digest.

    :param digits: 32 or more hexadecimal digits
    """
    variant = '89ab'[int(digits[16], 16) & 3]
    return f'{digits[:8]}-{digits[8:12]}-{version}{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:32]}'


def _refill() -> str:
    digits = os.urandom(16 * _BLOCK).hex()
    made = [digits[start : start + 32] for start in range(0, len(digits), 32)]
    last = made.pop()
    _unused.extend(made)
    return last


def _after_fork() -> None:
    global _owner, _unused
    # NOTE: replace the list first, so that no thread of the child takes an id from the copy.
    _unused = []
    _owner = os.getpid()
