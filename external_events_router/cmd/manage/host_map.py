"""``host-map``: commands for the map from servers to hosts."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
import contextlib
import os
import sys
from typing import BinaryIO

from cliff import columns
from cliff import command

from external_events_router import host_lines
from external_events_router.cmd.manage import actions
from external_events_router.cmd.manage import app
from external_events_router.cmd.manage import progress
from external_events_router.resolver.host_map import base
from external_events_router.resolver.host_map import sql

Shown = tuple[tuple[str, ...], tuple[object, ...]]


class HostsColumn(columns.FormattableColumn[list[str]]):
    """A column of host names: a list for programs, one line for people."""

    def human_readable(self) -> str:
        return ', '.join(self._value)


class Import(app.ShowOne):
    """Set the hosts of the servers in a file. Servers that are not in the file do not change.

    The file has one JSON object per line: {"server": "<uuid>", "hosts": ["host-a"]}. A server
    with an empty list is known but has no host. A server with two hosts is migrating. The
    command checks the whole file first. If a line is not valid, it prints the number of the line and changes
    nothing.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument('file', metavar='FILE', help='File to read; - reads the standard input.')
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> Shown:
        with _opened(parsed_args.file) as file, progress.shown(self.app.stderr, size=_size(file)) as report:
            imported = _host_map(self).import_lines(report.counting(host_lines.read(file)), progress=report)
        total = imported.added + imported.changed + imported.unchanged
        names = ('servers', 'added', 'changed', 'unchanged')
        return names, (total, imported.added, imported.changed, imported.unchanged)


class Export(command.Command):
    """Print the whole map, in the format of ``import``."""

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        for entry in _host_map(self).export():
            self.app.stdout.write(f'{entry.to_line()}\n')


class _OfServer(app.ShowOne):
    """A command for one server. It shows the hosts of the server at the end."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument('server', metavar='SERVER', help='Server uuid.')
        return parser

    def shown(self, host_map: sql.SqlHostMap, server: str) -> Shown:
        hosts = host_map.show(server)
        return ('server', 'hosts'), (base.server_uuid(server), HostsColumn(list(hosts)))


class Show(_OfServer):
    """Show the hosts of a server."""

    def take_action(self, parsed_args: argparse.Namespace) -> Shown:
        return self.shown(_host_map(self), parsed_args.server)


class _OfServerAndHost(_OfServer):
    """A command for one server and one host."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument(
            'host', metavar='HOST', help='Host name. It must be the name that the agent of the host uses.'
        )
        return parser


class Assign(_OfServerAndHost):
    """Add a host to the hosts of a server. An unknown server becomes known."""

    def take_action(self, parsed_args: argparse.Namespace) -> Shown:
        host_map = _host_map(self)
        with _recorded(self, 'host-map:assign', parsed_args):
            host_map.assign(parsed_args.server, parsed_args.host)
        return self.shown(host_map, parsed_args.server)


class Unassign(_OfServerAndHost):
    """Remove a host from the hosts of a server. The server stays known."""

    def take_action(self, parsed_args: argparse.Namespace) -> Shown:
        host_map = _host_map(self)
        with _recorded(self, 'host-map:unassign', parsed_args):
            host_map.unassign(parsed_args.server, parsed_args.host)
        return self.shown(host_map, parsed_args.server)


class Forget(command.Command):
    """Delete a server from the map. Its events get the code 404 from then on."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument('server', metavar='SERVER', help='Server uuid.')
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        host_map = _host_map(self)
        with _recorded(self, 'host-map:forget', parsed_args):
            host_map.forget(parsed_args.server)


COMMANDS: dict[str, type[command.Command]] = {
    'host-map import': Import,
    'host-map export': Export,
    'host-map show': Show,
    'host-map assign': Assign,
    'host-map unassign': Unassign,
    'host-map forget': Forget,
}


@contextlib.contextmanager
def _recorded(cmd: command.Command, action: str, parsed_args: argparse.Namespace) -> Iterator[None]:
    """Record an action, see ``journal.actions``."""
    chosen = {'server': parsed_args.server, 'host': getattr(parsed_args, 'host', None)}
    with actions.recording(cmd)(action, chosen) as done:
        yield
        done.number = 1


def _host_map(cmd: command.Command) -> sql.SqlHostMap:
    host_map = app.open_host_map(cmd)
    host_map.check()
    return host_map


@contextlib.contextmanager
def _opened(name: str) -> Iterator[BinaryIO]:
    if name == '-':
        yield sys.stdin.buffer
        return
    with open(name, 'rb') as file:
        yield file


def _size(file: BinaryIO) -> int | None:
    # A pipe has no size.
    return os.fstat(file.fileno()).st_size or None
