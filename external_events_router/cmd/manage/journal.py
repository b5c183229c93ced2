"""Shared parts of the commands about the journal: opening it, and the types of their arguments."""

from __future__ import annotations

import argparse

from cliff import command

from external_events_router import events
from external_events_router.cmd.manage import app
from external_events_router.operations import journal


def opened(cmd: command.Command) -> journal.Journal:
    """Open the journal for a command; it is closed when the command has ended.

    :raises ConfigurationError: its database does not answer, or its schema does not fit
    """
    found = journal.open_journal(app.configuration(cmd))
    app.keep_open(cmd, found.database)
    return found


def event_name(text: str) -> str:
    """Return the type of an option whose value is the name of an event.

    :raises ArgumentTypeError: an event with this name does not exist
    """
    if text not in events.EVENT_TYPES:
        raise argparse.ArgumentTypeError(
            f'no event has the name {text!r}; the names are {", ".join(events.EVENT_TYPES)}'
        )
    return text
