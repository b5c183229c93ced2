"""Numbered slots: a process claims the lowest number that no other running process has.

The numbers are small and are used again after a restart. So queues at the broker, and files in a folder, can
have names with these numbers without accumulating. The operating system ends a claim when the process ends,
also after SIGKILL.
"""

from __future__ import annotations

from collections.abc import Mapping
import contextlib
import errno
import fcntl
import hashlib
import itertools
import os
import pathlib
import re
import socket
import struct
from typing import Protocol

#: ``struct flock`` of Linux, for the whole file: type, whence, start, length, pid.
_FLOCK = struct.Struct('hhqqi0q')

_LOCK_FILE = re.compile('slot_([0-9]{1,5})[.]lock')


class Claim(Protocol):
    """A claimed number, until it is closed or the process ends."""

    def close(self) -> None: ...


class Claims(Protocol):
    """A way to claim numbers."""

    def claim(self, number: int) -> Claim | None:
        """Claim a number; None: another process has it.

        :raises OSError: numbers cannot be claimed
        """
        ...


class Slot:
    """A claimed number.

    :ivar number: from 0
    """

    def __init__(self, number: int, claim: Claim) -> None:
        self.number = number
        self._claim = claim

    def release(self) -> None:
        """Let another process have the number."""
        self._claim.close()


def claim_first(claims: Claims) -> Slot:
    """Claim the lowest free number.

    :raises OSError: numbers cannot be claimed
    """
    for number in itertools.count():
        claim = claims.claim(number)
        if claim is not None:
            return Slot(number, claim)
    raise AssertionError('unreachable: the numbers are unlimited')


class SocketClaims:
    """Claims by names in the abstract socket namespace of Linux.

    They are unique per network namespace and leave no file behind.
    """

    def __init__(self, purpose: str, name: str) -> None:
        """:param purpose: prefix of the names in the namespace
        :param name: each name has independent numbers
        """
        self._purpose = purpose
        self._name = name

    def claim(self, number: int) -> Claim | None:
        """See :class:`Claims`."""
        # NOTE: an address holds 107 bytes, a host name up to 255, so it takes a digest.
        digest = hashlib.sha256(f'{self._name}:{number}'.encode()).hexdigest()
        claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            claim.bind(f'\0{self._purpose}/{digest}')
        except OSError as exc:
            claim.close()
            if exc.errno != errno.EADDRINUSE:
                raise
            return None
        return claim


class FileClaims:
    """Claims by locks on files of a folder, unique among all processes that use the folder.

    NOTE: open file description locks. A POSIX lock would end as soon as the process closes any other
    descriptor of the file, and flock() has no way to ask for a lock without taking it.
    """

    def __init__(self, folder: pathlib.Path) -> None:
        """:param folder: must exist"""
        self._folder = folder

    def claim(self, number: int) -> Claim | None:
        """See :class:`Claims`; the file contains the id of the process."""
        return lock(self._path(number))

    def claimed(self) -> Mapping[int, int]:
        """Return the claimed numbers, each with the id of its process; claim nothing.

        :raises OSError: the folder cannot be read
        """
        found = {}
        for name in os.listdir(self._folder):
            match = _LOCK_FILE.fullmatch(name)
            pid = self._owner(int(match[1])) if match else None
            if match and pid is not None:
                found[int(match[1])] = pid
        return found

    def _owner(self, number: int) -> int | None:
        # NOTE: skip a file that cannot be read (for example of another user), and read the other files.
        with contextlib.suppress(OSError, ValueError):
            with open(self._path(number), 'rb') as file:
                if _is_locked(file.fileno()):
                    return int(file.read(32))
        return None

    def _path(self, number: int) -> pathlib.Path:
        return self._folder / f'slot_{number}.lock'


def lock(path: pathlib.Path) -> Claim | None:
    """Lock a file, which is created and contains the id of the process; None: another process has it locked.

    :raises OSError: it cannot be locked
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _lock(descriptor)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f'{os.getpid()}\n'.encode(), 0)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except BaseException:
        os.close(descriptor)
        raise
    return _LockedFile(descriptor)


class _LockedFile:
    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _lock(descriptor: int) -> None:
    """Lock a file.

    :raises BlockingIOError: another process has it locked
    """
    fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))


def _is_locked(descriptor: int) -> bool:
    asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    answer = fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, asked)
    return bool(_FLOCK.unpack(answer)[0] != fcntl.F_UNLCK)
