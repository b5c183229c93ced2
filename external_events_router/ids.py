"""Ids that nothing else has: random ones, and names made of digests.

A leaf: the standard library only. ``uuid`` asks the system for each random id, which
lets other threads go first, and takes ten times as long to write one down.
"""

from __future__ import annotations

import random


def random_hex() -> str:
    """32 hexadecimal digits, to tell apart and not to keep a secret.

    The generator behind it has begun with the system's randomness, and begins anew
    in a process that was forked.
    """
    return f'{random.getrandbits(128):032x}'


def random_uuid() -> str:
    """A uuid of version 4, in its canonical form."""
    return as_uuid(random_hex(), version=4)


def as_uuid(digits: str, *, version: int) -> str:
    """The uuid of a version that some random bits, or a digest's, make.

    :param digits: hexadecimal, 32 or more
    """
    variant = '89ab'[int(digits[16], 16) & 3]
    return f'{digits[:8]}-{digits[8:12]}-{version}{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:32]}'
