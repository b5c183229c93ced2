"""Cache in this process for tokens that Keystone has validated.

keystonemiddleware caches tokens in memcached; without memcached, in dictionaries per thread that grow
without limit. This class replaces the dictionaries: it has the interface of a memcached client, and
limits the number and the age of entries.

It does not contain tokens: the middleware computes each key from a digest of the token, and the value is
Keystone's answer. The middleware also checks whether the token has expired.
"""

from __future__ import annotations

import collections
from collections.abc import Callable
import threading
import time as clocks


class TokenCache:
    """A cache that removes the least recently used entry when it is full. Thread-safe.

    :param size: maximum number of entries
    :param clock: returns seconds
    """

    def __init__(self, size: int, *, clock: Callable[[], float] = clocks.monotonic) -> None:
        self._size = size
        self._clock = clock
        # Guards _entries: key to the value and the instant at which it expires.
        self._lock = threading.Lock()
        self._entries: collections.OrderedDict[str, tuple[bytes, float]] = collections.OrderedDict()

    def get(self, key: str) -> bytes | None:
        """Return the value of a key, unless it has expired."""
        with self._lock:
            value, until = self._entries.get(key, (None, 0.0))
            if value is None:
                return None
            if until <= self._clock():
                del self._entries[key]
                return None
            self._entries.move_to_end(key)
            return value

    def set(self, key: str, value: bytes, time: int = 0) -> None:
        """Store a value.

        :param time: seconds, ``[keystone_authtoken] token_cache_time``; 0: without expiry; negative: do
            not store the value, as in this option
        """
        if time < 0:
            return
        until = self._clock() + time if time else float('inf')
        with self._lock:
            self._entries[key] = (value, until)
            self._entries.move_to_end(key)
            while len(self._entries) > self._size:
                self._entries.popitem(last=False)

    def __bool__(self) -> bool:
        # NOTE: the middleware treats a false object as no cache.
        return True

    def __len__(self) -> int:
        with self._lock:
            return len(self._entries)
