"""What goes wrong over and over, in the log: once, then every so often, and when it is over.

A database that is away fails every batch; a line for each would bury the rest.
"""

from __future__ import annotations

from collections.abc import Callable
import logging
import threading
import time

#: Seconds from one line to the next.
EVERY = 30.0


class Trouble:
    """One thing that may go wrong. Thread-safe."""

    def __init__(
        self,
        log: logging.Logger | logging.LoggerAdapter[logging.Logger],
        *,
        every: float = EVERY,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log = log
        self._every = every
        self._clock = clock
        # Guards all below.
        self._lock = threading.Lock()
        self._next = float('-inf')
        self._unsaid = 0
        self._present = False

    def occurred(self, level: int, message: str, *args: object) -> None:
        """It went wrong; say so unless that was said just now.

        :param level: of ``logging``
        """
        with self._lock:
            self._present = True
            now = self._clock()
            if now < self._next:
                self._unsaid += 1
                return
            self._next = now + self._every
            unsaid, self._unsaid = self._unsaid, 0
        if unsaid:
            message, args = f'{message} (and %d times since this was last said)', (*args, unsaid)
        self._log.log(level, message, *args)

    def over(self, message: str, *args: object) -> None:
        """It went well; say so if it had gone wrong."""
        # NOTE: without the lock, because it is asked for with every batch.
        if not self._present:
            return
        with self._lock:
            present, self._present = self._present, False
            unsaid, self._unsaid = self._unsaid, 0
        if present:
            self._log.info(f'{message} (it had failed %d times more than was said)', *args, unsaid)
