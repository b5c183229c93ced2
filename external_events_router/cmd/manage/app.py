"""Shared parts of all commands: global options, configuration, database, error messages.

This module knows no command. ``__init__`` lists them.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
import contextlib
import logging
from typing import Any
from typing import TextIO
from typing import cast

from cliff import app
from cliff import command
from cliff import commandmanager
from cliff import lister
from cliff import show
from oslo_config import cfg
from oslo_log import log

from external_events_router import checks
from external_events_router.db import session
from external_events_router.process import printable
from external_events_router.process import startup
from external_events_router.resolver.host_map import sql

NAME = 'external-events-manage'

#: Exit status of ``doctor`` after a failed check.
FAILED_CHECK = 2

#: Seconds. A statement of an operator may read a million servers, or change their table.
READ_TIMEOUT = 3600.0


class ManageApp(app.App):
    """The application object of cliff. It has a configuration when a command runs, and opens the database."""

    NAME = NAME
    LOG = logging.getLogger(f'{__name__}.errors')

    def __init__(
        self,
        commands: Mapping[str, type[command.Command]],
        *,
        stdout: TextIO | None = None,
        stderr: TextIO | None = None,
    ) -> None:
        """:param stdout: replaces the standard output; ``stderr`` likewise"""
        manager = commandmanager.CommandManager('external_events_router.manage')
        for name, factory in commands.items():
            manager.add_command(name, factory)
        super().__init__(
            description='Manage the database of external-events-router.',
            version=startup.version(),
            command_manager=manager,
            # NOTE: "COMMAND --help" shows the help of the command, not of the program.
            deferred_help=True,
            stdout=stdout,
            stderr=stderr,
        )
        self._conf: cfg.ConfigOpts | None = None
        self._closing = contextlib.ExitStack()

    def build_option_parser(
        self, description: str | None, version: str | None, argparse_kwargs: dict[str, Any] | None = None
    ) -> argparse.ArgumentParser:
        """Add the options for configuration files."""
        parser = super().build_option_parser(description, version, {'prog': NAME, **(argparse_kwargs or {})})
        for option, metavar in (('--config-file', 'PATH'), ('--config-dir', 'DIR')):
            parser.add_argument(
                option,
                metavar=metavar,
                action='append',
                default=[],
                help='Configuration file or folder to read. This option may be repeated.',
            )
        return parser

    def configure_logging(self) -> None:
        """Write the error of a command to the terminal as one line; oslo.log handles other messages."""
        handler = logging.StreamHandler(self.stderr)
        handler.setFormatter(_OneLine(f'{NAME}: %(message)s'))
        self.LOG.handlers = [handler]
        self.LOG.propagate = False

    def initialize_app(self, argv: list[str]) -> None:
        """Read the configuration.

        :raises ConfigurationError: a value or a file is not valid
        """
        options = self.options
        arguments = [f'--config-file={path}' for path in options.config_file]
        arguments += [f'--config-dir={path}' for path in options.config_dir]
        arguments += ['--log-file', options.log_file] if options.log_file else []
        arguments += ['--debug'] if options.debug or options.verbose_level > 1 else []
        # NOTE: oslo.log would write to the standard output, between the results.
        log.register_options(cfg.CONF)
        cfg.CONF.set_default('use_stderr', True)
        self._conf = startup.load(NAME, arguments)
        if not self._conf.debug:
            # NOTE: the terminal is for the result of the command. oslo.db logs an error with a
            # traceback, but the message of the command already describes the error.
            logging.getLogger().setLevel(logging.WARNING)
            logging.getLogger('oslo_db').setLevel(logging.CRITICAL)

    def run(self, argv: list[str]) -> int:
        """Run a command.

        :returns: exit status; for ``doctor``, an invalid configuration counts as a failed check
        """
        status = super().run(argv)
        return FAILED_CHECK if status and self._conf is None and 'doctor' in argv else status

    def interact(self) -> None:
        """Print the help if no command is given."""
        self.parser.print_help(self.stderr)

    def clean_up(self, cmd: command.Command, result: int, err: BaseException | None) -> None:
        """Close the database."""
        self._closing.close()

    @property
    def conf(self) -> cfg.ConfigOpts:
        """The configuration."""
        assert self._conf is not None  # noqa: S101 - commands run after initialize_app
        return self._conf

    def open_database(self) -> session.Database:
        """Open the database of the configuration. It is closed when the command ends.

        :raises ConfigurationError: the database cannot be used
        """
        return self.keep_open(session.Database.from_conf(self.conf, read_timeout=READ_TIMEOUT))

    def keep_open(self, database: session.Database) -> session.Database:
        """Close a database when the command ends.

        :returns: the database
        """
        self._closing.callback(database.close)
        return database


class ShowOne(show.ShowOne):
    """A command that shows one object, in any format of cliff or as CSV."""

    @property
    def formatter_namespace(self) -> str:
        return 'external_events_router.manage.show'


class Lister(lister.Lister):
    """A command that lists objects in its own order, in any format of cliff or as CSV."""

    @property
    def formatter_namespace(self) -> str:
        return 'external_events_router.manage.list'

    @property
    def need_sort_by_cliff(self) -> bool:
        return False


def natural(text: str) -> int:
    """Return the value of an option that limits a number.

    :raises ArgumentTypeError: it is less than 0
    """
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f'{text} is less than 0; use 0 for no limit')
    return number


def configuration(cmd: command.Command) -> cfg.ConfigOpts:
    """Return the configuration for a command."""
    return cast(ManageApp, cmd.app).conf


def open_host_map(cmd: command.Command) -> sql.SqlHostMap:
    """Open the host map in the configured database, for a command; see :func:`open_database`."""
    longest_host = checks.longest_host(cast(ManageApp, cmd.app).conf.compute.topic)
    return sql.SqlHostMap(open_database(cmd), longest_host=longest_host)


def keep_open(cmd: command.Command, database: session.Database) -> session.Database:
    """Close a database when a command ends; see :meth:`ManageApp.keep_open`."""
    return cast(ManageApp, cmd.app).keep_open(database)


def open_database(cmd: command.Command) -> session.Database:
    """Open the database for a command; see :meth:`ManageApp.open_database`."""
    return cast(ManageApp, cmd.app).open_database()


class _OneLine(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        if record.exc_info:
            return '\n'.join(map(printable.escape, super().format(record).split('\n')))
        return printable.escape(' '.join(super().format(record).split()))
