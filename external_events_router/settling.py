"""Reports the result of each item exactly once, whatever exceptions occur.

Imports only the standard library. A function that gets items and a callback has to report the result
of each item once: not twice if an exception occurs after some results were reported, and not never.
"""

from __future__ import annotations

from collections.abc import Callable
import logging
from typing import Generic
from typing import TypeVar

LOG = logging.getLogger(__name__)

E = TypeVar('E', bound=Exception)


class Once(Generic[E]):
    """Reports the result of each item, by its number, exactly once. Thread-safe.

    It never raises: an exception of the callback is logged, and the item counts as reported.
    """

    def __init__(self, items: int, done: Callable[[int, E | None], None]) -> None:
        """:param done: called with the number of an item, and its error or None"""
        # NOTE: removing a number is one step of the interpreter, so this needs no lock.
        self._open = set(range(items))
        self._done = done

    def settle(self, item: int, error: E | None) -> None:
        """Report the result of an item, unless it was reported before."""
        try:
            self._open.remove(item)
        except KeyError:
            return
        self._report(item, error)

    def settle_rest(self, error: E | None) -> None:
        """Report the same result for all items without a reported result, in their order."""
        for item in sorted(self._open):
            self.settle(item, error)

    def _report(self, item: int, error: E | None) -> None:
        try:
            self._done(item, error)
        except Exception:  # continue with the other items
            LOG.exception('A callback failed after a message was sent or refused; continuing')
