"""Limits the number of batches that wait for slow hosts.

The breaker of a host that is slow but answers stays closed. Batches that wait for such hosts may use
only a part of a worker's threads, so that other batches always find a free thread. Above this limit,
events for slow hosts are held immediately.

A host is slow if other hosts have already answered messages that were sent much later. If all hosts take
long, none of them is slow: then the machine is overloaded, and holding events would increase the load.
"""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Iterator
import contextlib
import math
import threading
import time

#: Part of a worker's threads that may wait for slow hosts.
PART = 0.5

#: Seconds by which other hosts must be faster. On an overloaded machine, differences of half a second
#: occur by chance.
LEAST = 1.0

#: Seconds for which a host counts as slow.
REMEMBERED = 60.0


class SlowHostLimiter:
    """Records how fast the hosts answer one worker. Thread-safe."""

    def __init__(self, batches: int) -> None:
        """:param batches: number of batches that the worker routes at the same time"""
        self._places = max(1, int(batches * PART))
        # Guards the attributes below. _newest: start of the latest wait that was answered.
        self._lock = threading.Lock()
        self._newest = -math.inf
        # Host to the starts of the waits for it, in their order.
        self._waits: dict[str, dict[object, float]] = {}
        # Host to the time at which it was slow last.
        self._slow: dict[str, float] = {}

    def admit(self, hosts: Collection[str]) -> frozenset[str]:
        """Return the hosts for which one more batch may wait."""
        with self._lock:
            now = time.monotonic()
            slow = {host for host in hosts if self._is_slow(host, now)}
            if slow:
                waits = sum(len(waits) for host, waits in self._waits.items() if self._is_slow(host, now))
                if waits >= self._places:
                    return frozenset(hosts) - slow
        return frozenset(hosts)

    @contextlib.contextmanager
    def wait(self, hosts: Collection[str]) -> Iterator[None]:
        """Record that a batch waits for hosts within the block."""
        key, now = object(), time.monotonic()
        with self._lock:
            for host in hosts:
                self._waits.setdefault(host, {})[key] = now
        try:
            yield
        finally:
            with self._lock:
                for host in hosts:
                    waits = self._waits[host]
                    del waits[key]
                    if not waits:
                        del self._waits[host]

    def answered(self, host: str, began: float) -> None:
        """Record the answer of a host to a message that was sent at an instant of ``time.monotonic()``."""
        with self._lock:
            self._newest = max(self._newest, began)
            if self._newest - began > LEAST:
                self._slow[host] = time.monotonic()
            else:
                self._slow.pop(host, None)

    def _is_slow(self, host: str, now: float) -> bool:
        if (seen := self._slow.get(host)) is not None:
            if now - seen < REMEMBERED:
                return True
            del self._slow[host]
        waits = self._waits.get(host)
        return waits is not None and self._newest - next(iter(waits.values())) > LEAST
