"""A circuit breaker for a broker that is used through oslo.messaging.

A cast may take seconds until it fails, while the broker is unavailable. After the first failure, the
next casts fail immediately, except for one in :data:`PAUSE` seconds, until a cast succeeds. The direct
AMQP connections do not need it: they know whether they are connected.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import threading
import time
import weakref

from oslo_log import log

from external_events_router import exceptions
from external_events_router import throttled_log
from external_events_router.messaging.amqp import availability
from external_events_router.metrics import recorder

LOG = log.getLogger(__name__)

#: Seconds between two casts that test whether the broker is available again.
PAUSE = 1.0

#: Seconds after the last failed cast until the metrics do not show it any longer. If nothing is cast, for
#: example in a cell without events, no cast can show that the broker is available again.
MEMORY = 300.0


class BrokerGate:
    """The state of one broker. Thread-safe."""

    def __init__(self, name: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        """:param name: name of the broker, for the log"""
        self._name = name
        self._clock = clock
        self._log = throttled_log.ThrottledLog(LOG)
        # Guards the attributes below. _error: error of the last cast, or None. _failed_at: its instant.
        # _forgetting: a timer runs that calls _forget().
        self._lock = threading.Lock()
        self._error: exceptions.BrokerUnavailable | None = None
        self._next = 0.0
        self._failed_at = 0.0
        self._forgetting = False

    @contextlib.contextmanager
    def cast(self) -> Iterator[None]:
        """Cast within the block, which may raise ``BrokerUnavailable``.

        :raises BrokerUnavailable: immediately, while the broker is unavailable
        """
        self._enter()
        try:
            yield
        except exceptions.BrokerUnavailable as exc:
            with self._lock:
                self._error, self._failed_at = exc, self._clock()
                self._next = self._failed_at + PAUSE
                recorder.current().broker_lost(self, True)
                if not self._forgetting:
                    self._forget_in(MEMORY)
            # NOTE: connections to RabbitMQ log this themselves, once for all.
            self._log.occurred(
                availability.level(),
                '%s is unavailable; holding events until it is back: %s',
                self._name,
                exc,
            )
            raise
        except exceptions.RouterError:
            # The host has answered, or has no queue: in both cases the broker is available.
            self._passed()
            raise
        self._passed()

    def _enter(self) -> None:
        if self._error is None:
            return
        with self._lock:
            now = self._clock()
            if self._error is not None and now < self._next:
                raise exceptions.BrokerUnavailable(**self._error.kwargs)
            self._next = now + PAUSE

    def _passed(self) -> None:
        if self._error is None:
            return
        with self._lock:
            self._error = None
            recorder.current().broker_lost(self, False)
        self._log.over('%s is available again', self._name)

    def _forget_in(self, seconds: float) -> None:
        timer = threading.Timer(seconds, _forget, [weakref.ref(self)])
        timer.daemon = True
        try:
            timer.start()
        except RuntimeError:
            # NOTE: the process has too many threads. The next failure tries again.
            self._forgetting = False
        else:
            self._forgetting = True

    def forget(self) -> None:
        """Report the broker as available to the metrics, if no cast has failed for some time."""
        with self._lock:
            left = self._failed_at + MEMORY - self._clock()
            if self._error is not None and left > 0:
                self._forget_in(left)
                return
            self._forgetting = False
            recorder.current().broker_lost(self, False)


def _forget(reference: weakref.ref[BrokerGate]) -> None:
    if (found := reference()) is not None:
        found.forget()
