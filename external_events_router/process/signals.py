"""Waiting for signals in a service that has only one process and no supervisor."""

from __future__ import annotations

import signal
import socket
import types

#: Signals that a service handles.
HANDLED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def ending(status: int | None) -> str:
    """Return how a process ended, for the log.

    :param status: the status of ``multiprocessing``: the exit status, or the negative number of a signal
    """
    if status is not None and status < 0:
        try:
            return f'was ended by {signal.Signals(-status).name}'
        except ValueError:  # a signal without a name, such as a real-time signal
            return f'was ended by signal {-status}'
    return f'ended with status {status}'


class Signals:
    """Returns received signals in their order."""

    def __init__(self, reader: socket.socket, writer: socket.socket) -> None:
        self._reader = reader
        # Must stay open while the interpreter writes signals into it.
        self._writer = writer

    def get(self) -> int:
        """Wait for the next signal of :data:`HANDLED`."""
        while (number := self._reader.recv(1)[0]) not in HANDLED:
            pass
        return number


def catch() -> Signals:
    """Catch the signals of :data:`HANDLED` from now on. Call it on the main thread only."""
    # NOTE: a queue that a signal handler fills is not enough. Handlers run between two steps of the
    # main thread. A signal that arrives just before the main thread blocks, or on another thread,
    # does not wake it (observed: one SIGTERM in some hundred was lost). A byte that the interpreter
    # writes into a socket stays there until it is read.
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    for number in HANDLED:
        signal.signal(number, _written)
    return Signals(reader, writer)


def _written(number: int, frame: types.FrameType | None) -> None:
    """Do nothing: the interpreter writes only signals that have a handler."""
