"""A mapping with a limit on the number and on the age of its entries.

It is the memory of the deduplicator, the cache of tokens and the cache of hosts. NOTE: cachetools has
such a mapping, ``TTLCache``, but it takes 8 microseconds to look up and add an entry, this class 2. An
agent does both for each event, and may take 30 microseconds for everything.
"""

from __future__ import annotations

import collections
from collections.abc import Callable
from collections.abc import Hashable
from collections.abc import KeysView
import time
from typing import Generic
from typing import TypeVar

K = TypeVar('K', bound=Hashable)
V = TypeVar('V')


class BoundedStore(Generic[K, V]):
    """Entries in the order in which they were added or last used.

    Not thread-safe: the owner has a lock, which it often holds for several calls.
    """

    def __init__(
        self, size: int, *, seconds: float | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """:param size: maximum number of entries; beyond it the first ones are removed
        :param seconds: time after which an entry expires, unless :meth:`add` gets another; None: never
        :param clock: returns seconds
        """
        self._size = size
        self._seconds = seconds
        self._clock = clock
        # Key to the value, and to the instant at which it expires, if it does.
        self._values: collections.OrderedDict[K, V] = collections.OrderedDict()
        self._expires: dict[K, float] = {}

    def __len__(self) -> int:
        """Return the number of entries; some of them may have expired."""
        return len(self._values)

    def keys(self) -> KeysView[K]:
        """Return the keys; entries of some of them may have expired."""
        return self._values.keys()

    def get(self, key: K, *, use: bool = False) -> V | None:
        """Return the value of a key; None: it was never added, was removed, or has expired.

        :param use: put it behind all other entries, so that it is removed after them
        """
        value = self._values.get(key)
        if value is None:
            return None
        if (expires := self._expires.get(key)) is not None and expires <= self._clock():
            self.remove(key)
            return None
        if use:
            self._values.move_to_end(key)
        return value

    def add(self, key: K, value: V, *, seconds: float | None = None) -> None:
        """Add or replace a value, behind all other entries.

        :param value: not None
        :param seconds: time after which it expires; None: the default of the store
        """
        values, seconds = self._values, self._seconds if seconds is None else seconds
        values.pop(key, None)
        values[key] = value
        if seconds is not None:
            self._expires[key] = self._clock() + seconds
        elif self._expires:
            self._expires.pop(key, None)
        while len(values) > self._size:
            self.remove(next(iter(values)))

    def replace(self, key: K, value: V) -> None:
        """Replace the value of an entry. Its position and the time of its end do not change.

        :raises KeyError: the key does not exist
        """
        if key not in self._values:
            raise KeyError(key)
        self._values[key] = value

    def remove(self, key: K) -> None:
        """Remove an entry, if it exists."""
        self._values.pop(key, None)
        self._expires.pop(key, None)

    def expire(self) -> None:
        """Remove expired entries from the front, up to the first entry that has not expired."""
        if not self._expires:
            return
        now = self._clock()
        while self._values:
            key = next(iter(self._values))
            if self._expires.get(key, now + 1.0) > now:
                return
            self.remove(key)
