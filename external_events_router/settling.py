"""Results that are told exactly once for each item, whatever raises on the way.

A leaf: the standard library only. A function that takes items and a callback has to tell the
result of each item once: not twice if an exception comes after some were told, and not never.
"""

from __future__ import annotations

from collections.abc import Callable
import logging
from typing import Generic
from typing import TypeVar

LOG = logging.getLogger(__name__)

E = TypeVar('E', bound=Exception)


class Once(Generic[E]):
    """Tells the result of each of some items, by its number, exactly once. Thread-safe.

    It never raises: what the callback raises is logged, and the item counts as told.
    """

    def __init__(self, items: int, done: Callable[[int, E | None], None]) -> None:
        """:param done: called with the number of an item, and its error or None"""
        # NOTE: removing a number is one step of the interpreter, so this needs no lock.
        self._open = set(range(items))
        self._done = done

    def settle(self, item: int, error: E | None) -> None:
        """Tell the result of an item, unless that was done before."""
        try:
            self._open.remove(item)
        except KeyError:
            return
        self._tell(item, error)

    def settle_rest(self, error: E | None) -> None:
        """Tell the result of all items that were not told yet, in their order."""
        for item in sorted(self._open):
            self.settle(item, error)

    def _tell(self, item: int, error: E | None) -> None:
        try:
            self._done(item, error)
        except Exception:  # one callback must not prevent the others
            LOG.exception('A callback failed after a message was sent or refused')
