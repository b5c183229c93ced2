"""``db``: the schema of the database."""

from __future__ import annotations

import argparse

from cliff import command

from external_events_router.cmd.manage import app
from external_events_router.db import migration


class Upgrade(command.Command):
    """Bring the schema of the database to the newest version.

    An existing schema keeps its data. Run it before services of a new release
    are started; it does nothing where there is nothing to do.
    """

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        migration.upgrade(app.open_database(self))


class Version(app.ShowOne):
    """Show the version of the schema, and the newest that this release knows."""

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[tuple[str, ...], tuple[str | None, ...]]:
        return ('current', 'newest'), (migration.current(app.open_database(self)), migration.head())


COMMANDS: dict[str, type[command.Command]] = {'db upgrade': Upgrade, 'db version': Version}
