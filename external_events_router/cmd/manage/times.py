"""Times and durations as arguments of a command, see ``operations.times``."""

from __future__ import annotations

import argparse

from external_events_router import exceptions
from external_events_router.operations import times

FORMS = times.FORMS

microseconds = times.microseconds
utc = times.utc


def duration(text: str) -> float:
    """Return the seconds of a duration, such as ``90s``, ``15m``, ``1h``, ``2d``.

    :raises ArgumentTypeError: the text has another form
    """
    try:
        return times.duration(text)
    except exceptions.InvalidArgument as exc:
        raise argparse.ArgumentTypeError(str(exc)) from exc


class Moment(times.Moment):
    """A time, or a duration before a time that is known later.

    :raises ArgumentTypeError: the text has another form
    """

    def __init__(self, text: str) -> None:
        try:
            super().__init__(text)
        except exceptions.InvalidArgument as exc:
            raise argparse.ArgumentTypeError(str(exc)) from exc
