"""A circuit breaker per host, in the memory of one worker.

A host that does not acknowledge a delivery in time opens its breaker: batches do not wait for the host
any longer, and its events are held immediately. Any message from the host closes the breaker. While a
breaker is open, held events probe the host at intervals. If there are no held events, a batch may try
the host after :data:`RESET`. A host whose queue has no consumer is neither probed nor tried until its
queue has a consumer again (see ``health.liveness``).
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Iterable
import dataclasses
import threading
import time

from external_events_router.metrics import recorder

#: Seconds after which a batch may try a host whose breaker is open.
RESET = 15.0

#: Minimum seconds between two batches that try hosts with an open breaker. With thousands of such
#: hosts, each batch would otherwise have some that are due, and wait for them.
TRIAL_PAUSE = 1.0

#: Seconds between two probes of a host. Longer than the wait of a probe, so that an unavailable host
#: occupies less than one thread of the redelivery worker.
PROBE_PAUSE = 4.0

#: Seconds after which the breaker of a host is deleted if nothing has tried the host.
FORGET = 3600.0


@dataclasses.dataclass(slots=True)
class _Open:
    """An open breaker.

    :ivar batch: instant from which a batch may try the host
    :ivar probe: instant from which a held event may try it
    :ivar unconsumed: the queue of the host has no consumer, so the host must not be tried
    """

    batch: float
    probe: float
    unconsumed: bool = False


class CircuitBreakers:
    """The breakers of all hosts. Thread-safe."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        # Guards the attributes below.
        self._lock = threading.Lock()
        self._open: dict[str, _Open] = {}
        self._next_trial = 0.0
        self._next_cleaning = 0.0

    def closed(self, hosts: Iterable[str]) -> bool:
        """Return whether the breakers of all hosts are closed. Has no effect on the hosts."""
        with self._lock:
            return not any(host in self._open for host in hosts)

    def admit(self, hosts: Collection[str]) -> frozenset[str]:
        """Return the hosts for which a batch may wait.

        A host whose breaker is open is admitted once after :data:`RESET`, and again after the same
        time.
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
        """Return the hosts to which a held event may be sent, to find out whether they respond.

        Hosts that were probed less than :data:`PROBE_PAUSE` ago, and hosts whose queue has no
        consumer, are not returned.
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
        """Open the breakers of hosts that did not acknowledge in time, or whose queues have no consumer.

        :param unconsumed: the queues have no consumer
        :returns: hosts whose breaker was closed
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
        """Return the hosts whose breaker is open."""
        with self._lock:
            return list(self._open)

    def unconsumed(self) -> list[str]:
        """Return the hosts whose queues had no consumer at the last check."""
        if not self._open:
            return []
        with self._lock:
            return [host for host, state in self._open.items() if state.unconsumed]

    def unconsumed_among(self, hosts: Iterable[str]) -> frozenset[str]:
        """Return those of the given hosts whose queues had no consumer at the last check."""
        if not self._open:
            return frozenset()
        with self._lock:
            return frozenset(host for host in hosts if host in self._open and self._open[host].unconsumed)

    def allow_trials(self, hosts: Iterable[str]) -> None:
        """Permit trials of hosts for which it is not known any longer that their queues have no consumer."""
        with self._lock:
            now = self._clock()
            for host in hosts:
                state = self._open.get(host)
                if state is not None and state.unconsumed:
                    state.batch, state.probe, state.unconsumed = now, now, False

    def close(self, host: str) -> bool:
        """Close the breaker of a host that responds.

        :returns: whether the breaker was open
        """
        # NOTE: first without the lock, because this is called for every acknowledgement.
        if host not in self._open:
            return False
        with self._lock:
            closed = self._open.pop(host, None) is not None
        if closed:
            recorder.current().breakers_changed(closed=1)
        return closed

    def _forget(self, *, before: float) -> None:
        # A host that was removed from the cloud is not tried any longer.
        for host in [host for host, state in self._open.items() if state.batch < before]:
            del self._open[host]
