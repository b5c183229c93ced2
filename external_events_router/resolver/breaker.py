"""Which hosts are worth waiting for: a breaker per host, in the memory of one worker.

A host that lets a delivery go unanswered opens its breaker: nobody waits for it
in vain any more, and its events are held at once. Any sign of life closes it.
Held events are what an open breaker is probed with, now and then; where there
are none, it lets one batch try after :data:`RESET`.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Iterable
import dataclasses
import threading
import time

from oslo_log import log

LOG = log.getLogger(__name__)

#: Seconds that a breaker stays open unheard of.
RESET = 15.0

#: Seconds between two probes of a host. Longer than one waits, so that a host
#: that is away takes less than one thread of the courier.
PROBE_PAUSE = 4.0

#: Seconds after which a host that nobody has tried any more is forgotten.
FORGET = 3600.0


@dataclasses.dataclass(slots=True)
class _Open:
    """An open breaker: the instants from which a batch, and a probe, may try the host."""

    batch: float
    probe: float


class Breakers:
    """The breakers of all hosts. Thread-safe."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        # Guards the table.
        self._lock = threading.Lock()
        self._open: dict[str, _Open] = {}

    def closed(self, hosts: Iterable[str]) -> bool:
        """Whether all of the hosts are worth waiting for; asks nothing of them."""
        with self._lock:
            return not any(host in self._open for host in hosts)

    def admit(self, hosts: Collection[str]) -> frozenset[str]:
        """Those of the hosts that a batch may wait for.

        One whose breaker has been open for :data:`RESET` is let through once,
        and the next one after the same time.
        """
        with self._lock:
            if not self._open:
                return frozenset(hosts)
            now = self._clock()
            admitted = set()
            for host in hosts:
                state = self._open.get(host)
                if state is not None:
                    if state.batch > now:
                        continue
                    state.batch = now + RESET
                admitted.add(host)
            return frozenset(admitted)

    def probe(self, hosts: Iterable[str]) -> frozenset[str]:
        """Those of the hosts that a held event may be tried at, to see whether they are there.

        Not those that were let through less than :data:`PROBE_PAUSE` ago.
        """
        with self._lock:
            now = self._clock()
            chosen = set()
            for host in hosts:
                state = self._open.get(host)
                if state is not None:
                    if state.probe > now:
                        continue
                    state.probe = now + PROBE_PAUSE
                chosen.add(host)
            return frozenset(chosen)

    def open(self, host: str, reason: str) -> None:
        """The host let a delivery go unanswered."""
        with self._lock:
            now = self._clock()
            state = self._open.get(host)
            news = state is None
            if state is None:
                self._forget(before=now - FORGET)
                self._open[host] = _Open(batch=now + RESET, probe=now)
            else:
                state.batch = now + RESET
        if news:
            LOG.warning('Host %s is not waited for: %s', host, reason)

    def close(self, host: str) -> bool:
        """The host gave a sign of life.

        :returns: whether that was news
        """
        with self._lock:
            news = self._open.pop(host, None) is not None
        if news:
            LOG.info('Host %s is there again', host)
        return news

    def _forget(self, *, before: float) -> None:
        # A host that was taken out of the cloud is tried no more.
        for host in [host for host, state in self._open.items() if state.batch < before]:
            del self._open[host]
