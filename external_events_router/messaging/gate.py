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

from oslo_log import log

from external_events_router import exceptions
from external_events_router import throttled_log
from external_events_router.messaging.amqp import availability
from external_events_router.metrics import recorder

LOG = log.getLogger(__name__)

#: Seconds between two casts that test whether the broker is available again.
PAUSE = 1.0


class BrokerGate:
    """The state of one broker. Thread-safe."""

    def __init__(self, name: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        """:param name: name of the broker, for the log"""
        self._name = name
        self._clock = clock
        self._log = throttled_log.ThrottledLog(LOG)
        # Guards both attributes below. _error: error of the last cast, or None.
        self._lock = threading.Lock()
        self._error: exceptions.BrokerUnavailable | None = None
        self._next = 0.0

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
                self._error, self._next = exc, self._clock() + PAUSE
            recorder.current().broker_lost(self, True)
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
