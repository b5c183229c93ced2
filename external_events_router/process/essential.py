"""Threads without which a process cannot work.

``failures`` detects a thread that ends with an exception. A function that returns too early raises
nothing, so :class:`EssentialThread` raises an exception for it. Both cases then have the same effect.
"""

from __future__ import annotations

from collections.abc import Callable
import threading


class UnexpectedEnd(RuntimeError):
    """A thread has ended although it was not stopped."""


class EssentialThread(threading.Thread):
    """A daemon thread whose end is a failure, unless it was stopped."""

    def __init__(self, target: Callable[[], object], *, name: str, is_stopped: Callable[[], bool]) -> None:
        """:param target: runs until it is stopped
        :param is_stopped: whether the thread was stopped; called on this thread after the target returned
        """
        super().__init__(target=target, name=name, daemon=True)
        self._was_stopped = is_stopped

    def run(self) -> None:
        """Run the target.

        :raises UnexpectedEnd: the target returned, but it was not stopped; calls ``threading.excepthook``
        """
        try:
            super().run()
        except SystemExit as exc:
            raise UnexpectedEnd from exc
        if not self._was_stopped():
            raise UnexpectedEnd
