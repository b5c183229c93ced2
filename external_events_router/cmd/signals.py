"""Waiting for signals in a process of one, which has no supervisor to do it."""

from __future__ import annotations

import queue
import signal
import types

#: The signals that a service answers to.
HANDLED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def catch() -> queue.SimpleQueue[int]:
    """Put every signal of :data:`HANDLED` that comes from now on into a queue; main thread only."""
    # NOTE: a SimpleQueue, because its put() may interrupt its own get(), which
    # an Event's set() must not.
    signals: queue.SimpleQueue[int] = queue.SimpleQueue()

    def note(number: int, frame: types.FrameType | None) -> None:
        signals.put(number)

    for number in HANDLED:
        signal.signal(number, note)
    return signals
