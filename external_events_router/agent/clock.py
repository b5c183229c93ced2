"""The resolver's time, as told to this machine.

Deadlines on the wire are instants of the resolver's clock, and a compute host's
own may be off by more than a deadline is long. The reports that an agent makes
anyway bring the resolver's time back. Not a clock for anything else.
"""

from __future__ import annotations

from collections.abc import Callable
import logging
import threading
import time

LOG = logging.getLogger(__name__)

#: Seconds. The error of a reading is at most half its round trip; one that took
#: longer than this is used only where there is no better.
GOOD_ROUND_TRIP = 1.0


class ResolverClock:
    """How late it is for the resolver. Thread-safe.

    Until the first :meth:`note` the machine's own clock is believed.
    """

    def __init__(
        self, *, wall: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._wall = wall
        self._monotonic = monotonic
        # Of who changes the offset, which is from the monotonic clock: a step of
        # the machine's wall clock between two reports must not move deadlines.
        self._lock = threading.Lock()
        self._offset: float | None = None

    def start_reading(self) -> float:
        """An instant to hand to :meth:`note` after the resolver was asked."""
        return self._monotonic()

    def note(self, resolver_now: float, *, asked: float) -> None:
        """Take the answer of a resolver.

        :param resolver_now: seconds since the epoch by its clock, at some
            moment of the round trip; the middle is assumed
        :param asked: what :meth:`start_reading` gave before it was asked
        """
        round_trip = self._monotonic() - asked
        with self._lock:
            if self._offset is None or round_trip <= GOOD_ROUND_TRIP:
                self._offset = resolver_now - (asked + round_trip / 2)
        LOG.debug('The resolver is %+.3f s from this clock', self.now() - self._wall())

    def now(self) -> float:
        """Seconds since the epoch, by the resolver's clock."""
        offset = self._offset
        return self._wall() if offset is None else self._monotonic() + offset

    def left(self, deadline: float) -> float:
        """Seconds until a deadline of the resolver's; negative when it is past."""
        return deadline - self.now()
