"""``actions list`` and ``summary``: the actions of operators, and the overall state."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from cliff import command

from external_events_router.cmd.manage import app
from external_events_router.cmd.manage import journal
from external_events_router.cmd.manage import times
from external_events_router.db import migration
from external_events_router.journal import actions
from external_events_router.operations import actions as operation
from external_events_router.operations import summary

#: Default period, and number of listed actions.
SINCE = '1d'
LIMIT = 1000

COLUMNS = ('time', 'action', 'user', 'user_id', 'filter', 'count', 'problem', 'request')


class List(app.Lister):
    """List the actions of operators, the newest first: of the commands and of the admin API."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument(
            '--since',
            metavar='TIME',
            type=times.Moment,
            default=times.Moment(SINCE),
            help=f'Only actions since this time: {times.FORMS}. Default: {SINCE}.',
        )
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[tuple[str, ...], Iterator[tuple[object, ...]]]:
        rows = journal.opened(self)
        since = times.microseconds(parsed_args.since.seconds(rows.now()))
        found, _ = operation.page(actions.Actions(rows.database), since=since, limit=LIMIT)
        documents = (operation.document(row) for row in found)
        return COLUMNS, (tuple(document[column] for column in COLUMNS) for document in documents)


class Summary(app.ShowOne):
    """Show the overall state: held events, hosts that do not respond, gaps of the journal."""

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[tuple[str, ...], tuple[object, ...]]:
        database = app.open_database(self)
        migration.check(database)
        found = summary.summary(database, journal.opened(self))
        return tuple(found), tuple(found.values())


COMMANDS: dict[str, type[command.Command]] = {'actions list': List, 'summary': Summary}


def recording(cmd: command.Command) -> actions.Recording:
    """Return a context manager that records an action of the command, see ``journal.actions``."""
    conf = app.configuration(cmd)
    recorded, database = actions.open_actions(conf)
    app.keep_open(cmd, database)
    return actions.recording(recorded, actions.of_command(conf))
