"""Log messages of libraries that report normal operation, so that they are not logged."""

from __future__ import annotations

import logging


class Without(logging.Filter):
    """Drops the messages that begin in one of some ways."""

    def __init__(self, *beginnings: str) -> None:
        """:param beginnings: of the message, before its arguments are inserted"""
        super().__init__()
        self._beginnings = beginnings

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether to log a record."""
        return not str(record.msg).startswith(self._beginnings)


def drop(logger: str, *beginnings: str) -> None:
    """Drop messages of a logger. Repeated calls have no effect."""
    found = logging.getLogger(logger)
    if not any(isinstance(each, Without) for each in found.filters):
        found.addFilter(Without(*beginnings))
