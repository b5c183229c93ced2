"""Log messages about repeated problems: the first message, then at intervals, then the end.

While a database is unavailable, every batch fails; a message for each would hide all others.
:class:`ThrottledLog` is for one problem that occurs repeatedly, :class:`Summary` for many
objects with the same problem, :class:`Totals` for a number, and :class:`Bounded` for messages that
differ each time.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Collection
import itertools
import logging
import threading
import time

#: Seconds between two messages.
EVERY = 30.0


class ThrottledLog:
    """One repeated problem. Thread-safe."""

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
        # Guards everything below.
        self._lock = threading.Lock()
        self._next = float('-inf')
        self._suppressed = 0
        self._present = False
        self._logged = False

    @property
    def is_present(self) -> bool:
        """Whether the problem has occurred, and not ended yet."""
        return self._present

    def occurred(self, level: int, message: str, *args: object) -> None:
        """Log that the problem occurred, unless it was logged a short time ago.

        :param level: a level of ``logging``
        """
        with self._lock:
            self._present = True
            now = self._clock()
            if now < self._next:
                self._suppressed += 1
                return
            self._next = now + self._every
            suppressed, self._suppressed = self._suppressed, 0
            self._logged = True
        if suppressed:
            message, args = f'{message} (and %d times since the last message)', (*args, suppressed)
        self._log.log(level, message, *args)

    def over(self, message: str, *args: object) -> None:
        """Log that the problem has ended, if its occurrence was logged."""
        # NOTE: first without the lock, because this is called for every batch.
        if not self._present:
            return
        with self._lock:
            self._present = False
            # NOTE: a problem that comes and goes is logged at intervals, and so is its end.
            logged, self._logged = self._logged, False
            if not logged:
                return
            suppressed, self._suppressed = self._suppressed, 0
        if logged:
            self._log.info(f'{message} (%d failures were not logged)', *args, suppressed)


#: Seconds that the first message of a :class:`Summary` waits for more objects with the same problem.
GATHER = 0.5

#: Maximum number of objects that a :class:`Summary` names.
EXAMPLES = 3


class Summary:
    """One message for all objects with the same problem. Thread-safe.

    The owner has to call :meth:`flush` regularly, and at the end.
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
        """:param level: a level of ``logging``
        :param one: message for a single object, with ``%s`` for its name
        :param many: message for several objects, with ``%d`` for their number and ``%s`` for examples
        :param every: minimum seconds between two messages
        """
        self._log = log
        self._level = level
        self._one = one
        self._many = many
        self._every = every
        self._clock = clock
        # Guards the attributes below. _names is an ordered set.
        self._lock = threading.Lock()
        self._names: dict[str, None] = {}
        self._due = 0.0
        self._not_before = float('-inf')

    def add(self, names: Collection[str]) -> None:
        """Record objects with the problem."""
        if not names:
            return
        with self._lock:
            if not self._names:
                self._due = max(self._clock() + GATHER, self._not_before)
            self._names.update(dict.fromkeys(names))

    def flush(self, *, now: bool = False) -> None:
        """Write the message if it is due.

        :param now: write it even if it is not due
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
    """A message with the number of occurrences since the last message. Thread-safe."""

    def __init__(
        self,
        log: logging.Logger | logging.LoggerAdapter[logging.Logger],
        level: int,
        message: str,
        *,
        every: float = EVERY,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """:param level: a level of ``logging``
        :param message: with ``%d`` for the number
        :param every: minimum seconds between two messages
        """
        self._log = log
        self._level = level
        self._message = message
        self._every = every
        self._clock = clock
        # Guards the attributes below.
        self._lock = threading.Lock()
        self._number = 0
        self._not_before = float('-inf')

    def add(self, number: int) -> None:
        """Record this number of occurrences."""
        with self._lock:
            self._number += number

    def flush(self, *, now: bool = False) -> None:
        """Write the message if it is due.

        :param now: write it even if it is not due
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
    """Messages with a maximum number per period; further messages are counted. Thread-safe."""

    def __init__(
        self,
        log: logging.Logger | logging.LoggerAdapter[logging.Logger],
        *,
        lines: int,
        period: float = 60.0,
        rest: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """:param lines: maximum number of messages in a period
        :param period: seconds
        :param rest: message after a period with more messages, with ``%d`` for their number
        """
        self._log = log
        self._lines = lines
        self._period = period
        self._rest = rest
        self._clock = clock
        # Guards the attributes below.
        self._lock = threading.Lock()
        self._ends = float('-inf')
        self._written = 0
        self._level = 0
        self._unwritten = 0

    def write(self, level: int, message: str, *args: object) -> None:
        """Write a message, or count it.

        :param level: a level of ``logging``
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
        """Log the number of messages that were not written, if the period has ended.

        :param now: log it even if the period has not ended
        """
        if not self._unwritten:
            return
        with self._lock:
            if not self._unwritten or (self._clock() < self._ends and not now):
                return
            unwritten, self._unwritten = self._unwritten, 0
            level, self._level = self._level, 0
        self._log.log(level, self._rest, unwritten)
