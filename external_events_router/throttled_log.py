"""What goes wrong over and over, in the log: once, then every so often, and when it is over.

A database that is away fails every batch; a line for each would bury the rest.
:class:`ThrottledLog` is for one thing that fails repeatedly, :class:`Summary` for many
objects to which the same thing happens, and :class:`Bounded` for messages that are
different each time.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Collection
import itertools
import logging
import threading
import time

#: Seconds from one line to the next.
EVERY = 30.0


class ThrottledLog:
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
        self._said = False

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
            self._said = True
        if unsaid:
            message, args = f'{message} (and %d times since this was last said)', (*args, unsaid)
        self._log.log(level, message, *args)

    def over(self, message: str, *args: object) -> None:
        """It went well; say so if it had gone wrong, and that was said."""
        # NOTE: without the lock, because it is asked for with every batch.
        if not self._present:
            return
        with self._lock:
            self._present = False
            # NOTE: what comes and goes is said at intervals, and so is its end.
            said, self._said = self._said, False
            if not said:
                return
            unsaid, self._unsaid = self._unsaid, 0
        if said:
            self._log.info(f'{message} (it had failed %d times more than was said)', *args, unsaid)


#: Seconds that the first message of a :class:`Summary` waits for more objects with the same cause.
GATHER = 0.5

#: Objects that a :class:`Summary` names.
EXAMPLES = 3


class Summary:
    """One message for all objects to which the same thing happened. Thread-safe.

    Somebody has to call :meth:`flush` now and then, and at the end.
    """

    def __init__(
        self,
        log: logging.Logger | logging.LoggerAdapter[logging.Logger],
        level: int,
        *,
        one: str,
        many: str,
        every: float = EVERY,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """:param level: of ``logging``
        :param one: the message for a single object, with ``%s`` for its name
        :param many: the message for several, with ``%d`` for their number and ``%s`` for examples
        :param every: seconds between two messages at least
        """
        self._log = log
        self._level = level
        self._one = one
        self._many = many
        self._every = every
        self._clock = clock
        # Guards what follows. _names is ordered as a dict is.
        self._lock = threading.Lock()
        self._names: dict[str, None] = {}
        self._due = 0.0
        self._not_before = float('-inf')

    def add(self, names: Collection[str]) -> None:
        """It happened to these objects."""
        if not names:
            return
        with self._lock:
            if not self._names:
                self._due = max(self._clock() + GATHER, self._not_before)
            self._names.update(dict.fromkeys(names))

    def flush(self, *, now: bool = False) -> None:
        """Write the message if it is due.

        :param now: whether it is due or not
        """
        if not self._names:
            return
        with self._lock:
            if not self._names or (self._clock() < self._due and not now):
                return
            names, self._names = self._names, {}
            self._not_before = self._clock() + self._every
        if len(names) == 1:
            self._log.log(self._level, self._one, next(iter(names)))
        else:
            examples = ', '.join(itertools.islice(names, EXAMPLES))
            self._log.log(self._level, self._many, len(names), examples)


class Totals:
    """A message with the number of times that something happened since the last one. Thread-safe."""

    def __init__(
        self,
        log: logging.Logger | logging.LoggerAdapter[logging.Logger],
        level: int,
        message: str,
        *,
        every: float = EVERY,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """:param level: of ``logging``
        :param message: with ``%d`` for the number
        :param every: seconds between two messages at least
        """
        self._log = log
        self._level = level
        self._message = message
        self._every = every
        self._clock = clock
        # Guards what follows.
        self._lock = threading.Lock()
        self._number = 0
        self._not_before = float('-inf')

    def add(self, number: int) -> None:
        """It happened so many times."""
        with self._lock:
            self._number += number

    def flush(self, *, now: bool = False) -> None:
        """Write the message if it is due.

        :param now: whether it is due or not
        """
        if not self._number:
            return
        with self._lock:
            if not self._number or (self._clock() < self._not_before and not now):
                return
            number, self._number = self._number, 0
            self._not_before = self._clock() + self._every
        self._log.log(self._level, self._message, number)


class Bounded:
    """Messages of which so many are written in a period; the others are counted. Thread-safe."""

    def __init__(
        self,
        log: logging.Logger | logging.LoggerAdapter[logging.Logger],
        *,
        lines: int,
        period: float = 60.0,
        rest: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """:param lines: messages that are written in a period
        :param period: seconds
        :param rest: the message after a period with more, with ``%d`` for the number of the others
        """
        self._log = log
        self._lines = lines
        self._period = period
        self._rest = rest
        self._clock = clock
        # Guards what follows.
        self._lock = threading.Lock()
        self._ends = float('-inf')
        self._written = 0
        self._level = 0
        self._unwritten = 0

    def write(self, level: int, message: str, *args: object) -> None:
        """Write a message, or count it.

        :param level: of ``logging``
        """
        self.flush()
        with self._lock:
            if self._clock() >= self._ends:
                self._ends, self._written = self._clock() + self._period, 0
            self._written += 1
            if self._written > self._lines:
                self._unwritten += 1
                self._level = max(self._level, level)
                return
        self._log.log(level, message, *args)

    def flush(self, *, now: bool = False) -> None:
        """Say how many were not written, if the period has ended.

        :param now: whether it has ended or not
        """
        if not self._unwritten:
            return
        with self._lock:
            if not self._unwritten or (self._clock() < self._ends and not now):
                return
            unwritten, self._unwritten = self._unwritten, 0
            level, self._level = self._level, 0
        self._log.log(level, self._rest, unwritten)
