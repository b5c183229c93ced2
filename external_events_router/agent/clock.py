"""The clock of the resolver, as known on this machine.

Deadlines in messages are instants of the resolver's clock. The clock of a compute host may differ
by more than the time until a deadline. The response to each report contains the resolver's time.
Use this clock only for deadlines.
"""

from __future__ import annotations

from collections.abc import Callable
import logging
import threading
import time

LOG = logging.getLogger(__name__)

#: Seconds. The error of a measurement is at most half its round trip. A measurement with a longer
#: round trip is used only if there is no better one.
GOOD_ROUND_TRIP = 1.0


class ResolverClock:
    """The current time of the resolver. Thread-safe.

    Until the first :meth:`note`, the clock of this machine is used.
    """

    def __init__(
        self, *, wall: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._wall = wall
        self._monotonic = monotonic
        # Serialises changes of the offset. The offset is relative to the monotonic clock: a step of
        # the machine's wall clock between two reports must not move deadlines.
        self._lock = threading.Lock()
        self._offset: float | None = None

    def start_reading(self) -> float:
        """Return an instant that is passed to :meth:`note` after the resolver has answered."""
        return self._monotonic()

    def note(self, resolver_now: float, *, asked: float) -> None:
        """Record the time of the resolver.

        :param resolver_now: seconds since the epoch by the resolver's clock, at some moment of the
            round trip; the middle is assumed
        :param asked: the result of :meth:`start_reading` before the request
        """
        round_trip = self._monotonic() - asked
        with self._lock:
            if self._offset is None or round_trip <= GOOD_ROUND_TRIP:
                self._offset = resolver_now - (asked + round_trip / 2)
        LOG.debug('The clock of the resolver differs by %+.3f s from this clock', self.now() - self._wall())

    def now(self) -> float:
        """Return seconds since the epoch, by the resolver's clock."""
        offset = self._offset
        return self._wall() if offset is None else self._monotonic() + offset

    def left(self, deadline: float) -> float:
        """Return seconds until a deadline of the resolver; negative after the deadline."""
        return deadline - self.now()
