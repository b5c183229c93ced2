"""Times and durations as operators type them."""

from __future__ import annotations

import datetime
import re

from external_events_router import checks
from external_events_router import exceptions

_UNITS = {'': 1.0, 's': 1.0, 'm': 60.0, 'h': 3600.0, 'd': 86400.0, 'w': 604800.0}
_DURATION = re.compile(r'(\d{1,15}(?:\.\d{1,6})?)([smhdw]?)', re.ASCII)

#: Numbers from here on are seconds since the epoch, not a duration: the year 2001.
_EPOCH = 1e9

#: The last second of the year 9999, the last that ISO 8601 and ``datetime`` can represent.
_LAST = 253_402_300_799.0

#: The accepted formats, for the help of options.
FORMS = 'a duration before now (90s, 15m, 1h, 2d), a time in UTC (2026-03-02T10:41:07), or seconds since 1970'


def duration(text: str) -> float:
    """Return the seconds of a duration, such as ``90s``, ``15m``, ``1h``, ``2d``.

    :raises InvalidArgument: the text has another form
    """
    match = _DURATION.fullmatch(text)
    if match is None:
        raise exceptions.InvalidArgument(f'{checks.shown(text)} is not a duration such as 90s, 15m, 1h or 2d')
    return float(match[1]) * _UNITS[match[2]]


class Moment:
    """A time, or a duration before a time that is known later.

    :raises InvalidArgument: the text has another form
    """

    def __init__(self, text: str) -> None:
        self._before: float | None = None
        self._at = 0.0
        match = _DURATION.fullmatch(text)
        if match is not None and not (match[2] == '' and float(match[1]) >= _EPOCH):
            self._before = duration(text)
        else:
            self._at = float(text) if match is not None else _parsed(text)
            if not 0 <= self._at <= _LAST:
                raise exceptions.InvalidArgument(f'{checks.shown(text)} is before 1970 or after 9999')

    def seconds(self, now: float) -> float:
        """Return seconds since the epoch.

        :param now: seconds since the epoch
        """
        return self._at if self._before is None else max(0.0, now - self._before)


def _parsed(text: str) -> float:
    try:
        at = datetime.datetime.fromisoformat(text)
        return (at.replace(tzinfo=datetime.UTC) if at.tzinfo is None else at).timestamp()
    except (ValueError, OverflowError) as exc:
        raise exceptions.InvalidArgument(f'{checks.shown(text)} is not {FORMS}') from exc


def microseconds(seconds: float) -> int:
    """Return a time of the journal, which has microseconds."""
    return round(seconds * 1_000_000)


def utc(seconds: float) -> str:
    """Return a time as ISO 8601 in UTC, to the second.

    :param seconds: since the epoch
    """
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime('%Y-%m-%dT%H:%M:%SZ')
