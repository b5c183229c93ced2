"""Which hosts are worth waiting for: a circuit breaker per host, in the memory of one worker.

A host that lets a delivery go unanswered opens its breaker: no batch waits for it
any more, and its events are held at once. Any sign of life closes it. Held events
are what an open breaker is probed with, now and then; where there are none, it lets
one batch try after :data:`RESET`. A host whose queue has no consumer is neither
probed nor tried: somebody has to see a consumer first (see ``health.liveness``).
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Iterable
import dataclasses
import threading
import time

from external_events_router.metrics import recorder

#: Seconds that a breaker stays open without a sign of life until a batch may try the host.
RESET = 15.0

#: Seconds between two batches that try hosts whose breaker is open. Where thousands are,
#: each batch would meet some that are due, and wait for them.
TRIAL_PAUSE = 1.0

#: Seconds between two probes of a host. Longer than one waits, so that a host
#: that is away takes less than one thread of the courier.
PROBE_PAUSE = 4.0

#: Seconds after which a host that nobody has tried any more is forgotten.
FORGET = 3600.0


@dataclasses.dataclass(slots=True)
class _Open:
    """An open breaker.

    :ivar batch: the instant from which a batch may try the host
    :ivar probe: the same for a held event
    :ivar unconsumed: nobody consumes from the host's queue, so nothing may try it
    """

    batch: float
    probe: float
    unconsumed: bool = False


class CircuitBreakers:
    """The breakers of all hosts. Thread-safe."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        # Guards what follows.
        self._lock = threading.Lock()
        self._open: dict[str, _Open] = {}
        self._next_trial = 0.0
        self._next_cleaning = 0.0

    def closed(self, hosts: Iterable[str]) -> bool:
        """Whether all of the hosts are worth waiting for; asks nothing of them."""
        with self._lock:
            return not any(host in self._open for host in hosts)

    def admit(self, hosts: Collection[str]) -> frozenset[str]:
        """Those of the hosts that a batch may wait for.

        One whose breaker has been open for :data:`RESET` is let through once,
        and the next one after the same time.
        """
        if not self._open:
            return frozenset(hosts)
        with self._lock:
            now = self._clock()
            due = []
            admitted = set()
            for host in hosts:
                state = self._open.get(host)
                if state is None:
                    admitted.add(host)
                elif state.batch <= now and not state.unconsumed:
                    due.append((host, state))
            if due and now >= self._next_trial:
                self._next_trial = now + TRIAL_PAUSE
                for host, state in due:
                    state.batch = now + RESET
                    admitted.add(host)
            return frozenset(admitted)

    def probe(self, hosts: Iterable[str]) -> frozenset[str]:
        """Those of the hosts that a held event may be tried at, to see whether they are there.

        Not those that were let through less than :data:`PROBE_PAUSE` ago, and not those
        whose queue nobody consumes from.
        """
        with self._lock:
            now = self._clock()
            chosen = set()
            for host in hosts:
                state = self._open.get(host)
                if state is not None:
                    if state.probe > now or state.unconsumed:
                        continue
                    state.probe = now + PROBE_PAUSE
                chosen.add(host)
            return frozenset(chosen)

    def open(self, hosts: Iterable[str], *, unconsumed: bool = False) -> list[str]:
        """The hosts let a delivery go unanswered, or nobody consumes from their queues.

        :param unconsumed: the latter
        :returns: those whose breaker was closed
        """
        opened = []
        with self._lock:
            now = self._clock()
            for host in hosts:
                state = self._open.get(host)
                if state is None:
                    self._open[host] = _Open(now + RESET, now, unconsumed)
                    opened.append(host)
                else:
                    state.batch = now + RESET
                    state.unconsumed |= unconsumed
            if now >= self._next_cleaning:
                self._next_cleaning = now + RESET
                self._forget(before=now - FORGET)
        if opened:
            recorder.current().breakers_changed(opened=len(opened))
        return opened

    def hosts(self) -> list[str]:
        """The hosts whose breaker is open."""
        with self._lock:
            return list(self._open)

    def unconsumed(self) -> list[str]:
        """The hosts whose queues nobody consumed from when that was looked at last."""
        if not self._open:
            return []
        with self._lock:
            return [host for host, state in self._open.items() if state.unconsumed]

    def unconsumed_among(self, hosts: Iterable[str]) -> frozenset[str]:
        """Those of the hosts whose queues nobody consumed from when that was looked at last."""
        if not self._open:
            return frozenset()
        with self._lock:
            return frozenset(host for host in hosts if host in self._open and self._open[host].unconsumed)

    def allow_trials(self, hosts: Iterable[str]) -> None:
        """It is not known any more that nobody consumes from the hosts' queues: they may be tried now."""
        with self._lock:
            now = self._clock()
            for host in hosts:
                state = self._open.get(host)
                if state is not None and state.unconsumed:
                    state.batch, state.probe, state.unconsumed = now, now, False

    def close(self, host: str) -> bool:
        """The host gave a sign of life.

        :returns: whether that was news
        """
        # NOTE: without the lock, because it is asked for with every acknowledgement.
        if host not in self._open:
            return False
        with self._lock:
            closed = self._open.pop(host, None) is not None
        if closed:
            recorder.current().breakers_changed(closed=1)
        return closed

    def _forget(self, *, before: float) -> None:
        # A host that was taken out of the cloud is tried no more.
        for host in [host for host, state in self._open.items() if state.batch < before]:
            del self._open[host]
