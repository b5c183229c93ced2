"""``db``: commands for the schema of the database."""

from __future__ import annotations

import argparse
import contextlib

from cliff import command

from external_events_router.cmd.manage import app
from external_events_router.db import migration
from external_events_router.journal import recorder


class Upgrade(command.Command):
    """Upgrade the schema of the database, and of the journal's own database, to the newest version.

    Existing data stays in the database. Run this command before you start services of a new
    release. If the schema is already the newest, the command changes nothing.
    """

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        migration.upgrade(app.open_database(self))
        conf = app.configuration(self)
        if conf.journal.connection:
            with contextlib.closing(recorder.open_database(conf)) as journal:
                migration.upgrade(journal)


class Version(app.ShowOne):
    """Show the current version of the schema, and the newest version in this release."""

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[tuple[str, ...], tuple[str | None, ...]]:
        return ('current', 'newest'), (migration.current(app.open_database(self)), migration.head())


COMMANDS: dict[str, type[command.Command]] = {'db upgrade': Upgrade, 'db version': Version}
