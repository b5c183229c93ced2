"""Ids that nothing else has: random ones, and names made of digests.

A leaf: the standard library only. Random ids come from the system's generator, so that
nobody can guess one: an acknowledgement is accepted because of the id of its delivery. They
are read in blocks, because each call of the system takes longer than all the rest.
"""

from __future__ import annotations

import os

#: Ids that one call of the system makes.
_BLOCK = 256

# Ids that were not used yet, and the process that they belong to: a child has a copy of the
# list and must not use it. Taking the last one is one step of the interpreter, so threads
# need no lock.
_unused: list[str] = []
_owner = os.getpid()


def random_hex() -> str:
    """32 hexadecimal digits that nobody can guess."""
    # NOTE: not by os.register_at_fork, which a server that forks in C may not call.
    if os.getpid() != _owner:
        _after_fork()
    try:
        return _unused.pop()
    except IndexError:
        return _refill()


def random_uuid() -> str:
    """A uuid of version 4, in its canonical form."""
    return as_uuid(random_hex(), version=4)


def as_uuid(digits: str, *, version: int) -> str:
    """The uuid of a version that some random bits, or a digest's, make.

    :param digits: hexadecimal, 32 or more
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
    # NOTE: the list first, so that no thread of the child takes from the copy.
    _unused = []
    _owner = os.getpid()
