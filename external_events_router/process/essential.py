"""Threads without which a process is of no use.

A thread that ends with an exception is noticed by ``failures``. A function that returns too early raises
nothing: :class:`EssentialThread` raises for it, so that both have the same effect.
"""

from __future__ import annotations

from collections.abc import Callable
import threading


class UnexpectedEnd(RuntimeError):
    """A thread has ended without a stop."""


class EssentialThread(threading.Thread):
    """A daemon thread whose end is a failure, unless it was stopped."""

    def __init__(self, target: Callable[[], object], *, name: str, is_stopped: Callable[[], bool]) -> None:
        """:param target: runs until the stop
        :param is_stopped: whether it may have ended; called on this thread, after the target
        """
        super().__init__(target=target, name=name, daemon=True)
        self._is_stopped = is_stopped

    def run(self) -> None:
        """Run the target.

        :raises UnexpectedEnd: it has ended without a stop; ``threading.excepthook`` is called with it
        """
        try:
            super().run()
        except SystemExit as exc:
            raise UnexpectedEnd from exc
        if not self._is_stopped():
            raise UnexpectedEnd
