"""Which hosts are worth waiting for: a breaker per host, in the memory of one worker.

A host that lets a delivery go unanswered opens its breaker: nobody waits for it
in vain any more, and its events are held at once. Any sign of life closes it. If
none is heard, because it went to another worker, the breaker lets one batch try
after :data:`RESET`.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Iterable
import threading
import time

from oslo_log import log

LOG = log.getLogger(__name__)

#: Seconds that a breaker stays open unheard of.
RESET = 15.0


class Breakers:
    """The breakers of all hosts. Thread-safe."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        # Guards the table: host to the instant from which one may try it.
        self._lock = threading.Lock()
        self._open: dict[str, float] = {}

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
                due = self._open.get(host)
                if due is not None and due > now:
                    continue
                if due is not None:
                    self._open[host] = now + RESET
                admitted.add(host)
            return frozenset(admitted)

    def open(self, host: str, reason: str) -> None:
        """The host let a delivery go unanswered."""
        with self._lock:
            news = host not in self._open
            self._open[host] = self._clock() + RESET
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
