"""Cache in this process for tokens that Keystone has validated.

keystonemiddleware caches tokens in memcached; without memcached, in dictionaries per thread that grow
without limit. This class replaces the dictionaries: it has the interface of a memcached client, and
limits the number and the age of entries.

It does not contain tokens: the middleware computes each key from a digest of the token, and the value is
Keystone's answer. The middleware also checks whether the token has expired.
"""

from __future__ import annotations

from collections.abc import Callable
import threading
import time as clocks

from external_events_router.concurrency import bounded_store


class TokenCache:
    """A cache that removes the least recently used entry when it is full. Thread-safe.

    :param size: maximum number of entries
    :param clock: returns seconds
    """

    def __init__(self, size: int, *, clock: Callable[[], float] = clocks.monotonic) -> None:
        # Guards _entries.
        self._lock = threading.Lock()
        self._entries: bounded_store.BoundedStore[str, bytes] = bounded_store.BoundedStore(size, clock=clock)

    def get(self, key: str) -> bytes | None:
        """Return the value of a key, unless it has expired."""
        with self._lock:
            return self._entries.get(key, use=True)

    def set(self, key: str, value: bytes, time: int = 0) -> None:
        """Store a value.

        :param time: seconds, ``[keystone_authtoken] token_cache_time``; 0: without expiry; negative: do
            not store the value, as in this option
        """
        if time < 0:
            return
        with self._lock:
            self._entries.add(key, value, seconds=time or None)

    def __bool__(self) -> bool:
        # NOTE: the middleware treats a false object as no cache.
        return True

    def __len__(self) -> int:
        with self._lock:
            return len(self._entries)
