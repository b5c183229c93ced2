"""Waiting for signals in a process of one, which has no supervisor to do it."""

from __future__ import annotations

import signal
import socket
import types

#: The signals that a service answers to.
HANDLED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Signals:
    """The signals that came, in their order."""

    def __init__(self, reader: socket.socket, writer: socket.socket) -> None:
        self._reader = reader
        # Open for as long as signals are written into it.
        self._writer = writer

    def get(self) -> int:
        """Wait for the next one of :data:`HANDLED`."""
        while (number := self._reader.recv(1)[0]) not in HANDLED:
            pass
        return number


def catch() -> Signals:
    """Catch every signal of :data:`HANDLED` that comes from now on; main thread only."""
    # NOTE: not a queue that a handler puts them into. Handlers run between two
    # steps of the main thread; a signal that comes when it is about to block,
    # or that another thread takes, wakes nobody (seen: one SIGTERM of some
    # hundred). What the interpreter writes into a socket waits to be read.
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    for number in HANDLED:
        signal.signal(number, _written)
    return Signals(reader, writer)


def _written(number: int, frame: types.FrameType | None) -> None:
    """Does nothing: a signal must have a handler to be written."""
