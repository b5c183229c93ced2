"""Keeps metrics that are slow to determine, and determines them on a separate thread."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Sequence
import logging
import threading
import time

from prometheus_client import core

LOG = logging.getLogger(__name__)


#: Seconds after which a call that has not ended makes the last result invalid.
LONGEST = 15.0


class Cached:
    """Keeps the last result of a function. Thread-safe; a call waits only a limited time.

    A database that hangs occupies one thread. Until :data:`LONGEST` the answer has the last values.
    """

    def __init__(
        self,
        determine: Callable[[], Iterable[core.Metric]],
        *,
        interval: float,
        wait_limit: float = 1.0,
        overdue: Callable[[], Iterable[core.Metric]] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """:param determine: must handle the errors that it expects
        :param interval: minimum number of seconds between two calls of it
        :param wait_limit: seconds that a caller waits for it
        :param overdue: the result while a call of ``determine`` takes longer than :data:`LONGEST`; None:
            the last result stays valid
        """
        self._determine = determine
        self._interval = interval
        self._wait_limit = wait_limit
        self._overdue = overdue
        self._clock = clock
        # Guards _ended (set while no call is in progress), _began (instant of the last call), _next, _kept.
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._ended.set()
        self._next = float('-inf')
        self._began = 0.0
        self._kept: Sequence[core.Metric] = ()

    def collect(self) -> Sequence[core.Metric]:
        """Return the last result; determine it again if it is older than the interval."""
        with self._lock:
            due = self._ended.is_set() and self._clock() >= self._next
            if due:
                self._ended.clear()
                self._began = self._clock()
                self._next = self._began + self._interval
        if due:
            threading.Thread(target=self._run, name='metrics-read', daemon=True).start()
        self._ended.wait(self._wait_limit)
        with self._lock:
            hangs = not self._ended.is_set() and self._clock() - self._began > LONGEST
            if hangs and self._overdue is not None:
                return list(self._overdue())
            return self._kept

    def _run(self) -> None:
        found: Sequence[core.Metric] = ()
        try:
            found = list(self._determine())
        except Exception:  # the outermost frame of this thread
            LOG.exception('A part of the metrics could not be determined')
        finally:
            with self._lock:
                self._kept = found
                self._ended.set()
