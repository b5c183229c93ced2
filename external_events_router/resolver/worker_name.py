"""The name under which a resolver worker hears acknowledgements.

The broker keeps a queue per name, so names must be few and come back after a
restart; and two live workers must never share one, or each would take the
other's acknowledgements. So a worker claims the first free slot of its
machine, and the operating system frees the slot when the process ends, however
it ends.
"""

from __future__ import annotations

import errno
import hashlib
import itertools
import socket


class WorkerName:
    """A claimed name, ``<machine>:<slot>``, held for the life of the process or until released."""

    def __init__(self, host: str) -> None:
        """:param host: ``[DEFAULT] host``, which differs between machines"""
        for slot in itertools.count():
            name = f'{host}:{slot}'
            claim = _claim(name)
            if claim is not None:
                self.name = name
                self._claim = claim
                return

    def release(self) -> None:
        """Let another worker have the name."""
        self._claim.close()


def _claim(name: str) -> socket.socket | None:
    # NOTE: the abstract socket namespace of Linux: unique per network
    # namespace, no file to be left behind, gone with the process. An address
    # holds 107 bytes, a host name up to 255, so it takes a digest.
    digest = hashlib.sha256(name.encode()).hexdigest()
    claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        claim.bind(f'\0external-events-resolver/{digest}')
    except OSError as exc:
        claim.close()
        if exc.errno != errno.EADDRINUSE:
            raise
        return None
    return claim
