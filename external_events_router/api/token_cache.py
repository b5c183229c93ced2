"""Tokens that Keystone has vouched for, remembered in this process.

keystonemiddleware keeps them in memcached; where there is none, in dictionaries
that grow without a bound, one per thread. This takes their place: it looks to
the middleware like a memcached client, and is bounded in entries and in time.

It holds no token. The middleware makes each key from a digest of one, and the
value is what Keystone said of it; whether that has expired meanwhile is for the
middleware to see.
"""

from __future__ import annotations

import collections
from collections.abc import Callable
import threading
import time as clocks


class TokenCache:
    """The least recently used entry goes first. Thread-safe.

    :param size: entries that are kept
    :param clock: seconds
    """

    def __init__(self, size: int, *, clock: Callable[[], float] = clocks.monotonic) -> None:
        self._size = size
        self._clock = clock
        # Guards _entries: key to value and the instant at which it ends.
        self._lock = threading.Lock()
        self._entries: collections.OrderedDict[str, tuple[bytes, float]] = collections.OrderedDict()

    def get(self, key: str) -> bytes | None:
        """The value of a key, unless its time is over."""
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
        """Keep a value.

        :param time: seconds, ``[keystone_authtoken] token_cache_time``; as there,
            0 is without end, and what is negative is not kept
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
        # NOTE: the middleware takes what is false for none at all.
        return True

    def __len__(self) -> int:
        with self._lock:
            return len(self._entries)
