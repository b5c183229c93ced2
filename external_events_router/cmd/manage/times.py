"""Times and durations as operators type them."""

from __future__ import annotations

import argparse
import datetime
import re

_UNITS = {'': 1.0, 's': 1.0, 'm': 60.0, 'h': 3600.0, 'd': 86400.0, 'w': 604800.0}
_DURATION = re.compile(r'(\d+(?:\.\d+)?)([smhdw]?)')

#: Numbers from here on are seconds since the epoch, not a duration: the year 2001.
_EPOCH = 1e9

#: The accepted formats, for the help of options.
FORMS = 'a duration before now (90s, 15m, 1h, 2d), a time in UTC (2026-03-02T10:41:07), or seconds since 1970'


def duration(text: str) -> float:
    """Return the seconds of a duration, such as ``90s``, ``15m``, ``1h``, ``2d``.

    :raises ArgumentTypeError: it is none
    """
    match = _DURATION.fullmatch(text)
    if match is None:
        raise argparse.ArgumentTypeError(f'{text!r} is not a duration such as 90s, 15m, 1h or 2d')
    return float(match[1]) * _UNITS[match[2]]


class Moment:
    """A time, or a duration before a time that is known later.

    :raises ArgumentTypeError: the text is neither
    """

    def __init__(self, text: str) -> None:
        self._before: float | None = None
        self._at = 0.0
        match = _DURATION.fullmatch(text)
        if match is not None and not (match[2] == '' and float(match[1]) >= _EPOCH):
            self._before = duration(text)
        else:
            self._at = float(text) if match is not None else _parsed(text)

    def seconds(self, now: float) -> float:
        """Return seconds since the epoch.

        :param now: seconds since the epoch
        """
        return self._at if self._before is None else now - self._before


def utc(seconds: float) -> str:
    """Return a time in UTC with seconds, from seconds since the epoch."""
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime('%Y-%m-%dT%H:%M:%SZ')


def microseconds(seconds: float) -> int:
    """Return a time of the journal."""
    return round(seconds * 1_000_000)


def _parsed(text: str) -> float:
    try:
        at = datetime.datetime.fromisoformat(text)
    except ValueError as exc:
        raise argparse.ArgumentTypeError(f'{text!r} is not {FORMS}') from exc
    if at.tzinfo is None:
        at = at.replace(tzinfo=datetime.UTC)
    return at.timestamp()
