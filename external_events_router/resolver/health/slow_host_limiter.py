"""Which hosts are slow, and how many batches may wait for those.

A host that is slow but answers opens no breaker. Batches that wait for such hosts
may take a part of a worker's threads and no more, so that there is always one for the
others; the events of the next are held at once.

Slow is who is overtaken: others have answered what they were sent long after. Where
all take long, nobody is: the machine has too much to do then, and holding would only be
more of it.
"""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Iterator
import contextlib
import math
import threading
import time

#: The part of a worker's threads that may wait for slow hosts.
PART = 0.5

#: Seconds by which a host has to be overtaken. On a machine that has too much to do,
#: half a second comes about by chance.
LEAST = 1.0

#: Seconds after which it is forgotten that a host was slow.
REMEMBERED = 60.0


class SlowHostLimiter:
    """What one worker sees of its hosts' pace. Thread-safe."""

    def __init__(self, batches: int) -> None:
        """:param batches: that the worker routes at the same time"""
        self._places = max(1, int(batches * PART))
        # Guards what follows. _newest: when the latest wait began that was answered.
        self._lock = threading.Lock()
        self._newest = -math.inf
        # Host to since when batches wait for it, in the order in which they began.
        self._waits: dict[str, dict[object, float]] = {}
        # Host to when it was slow last.
        self._slow: dict[str, float] = {}

    def admit(self, hosts: Collection[str]) -> frozenset[str]:
        """Those of the hosts that one more batch may wait for."""
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
        """Somebody waits for hosts within the block."""
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
        """A host has answered what it was sent at an instant of ``time.monotonic()``."""
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
