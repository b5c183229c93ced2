"""``simulate``: the expected answer to an event that is not sent."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
import dataclasses
from typing import Any

from cliff import columns
from cliff import command

from external_events_router import events
from external_events_router.cmd.manage import app
from external_events_router.cmd.manage import journal
from external_events_router.db import migration
from external_events_router.journal import simulate
from external_events_router.operations import simulate as operation
from external_events_router.resolver.host_map import base


class HostsColumn(columns.FormattableColumn[list[dict[str, Any]]]):
    """Formats hosts: as objects for programs, and as one text per host for people."""

    def __init__(self, hosts: Sequence[simulate.Host]) -> None:
        super().__init__([dataclasses.asdict(host) for host in hosts])
        self._texts = [_described(host) for host in hosts]

    def human_readable(self) -> str:
        return '; '.join(self._texts) or 'none'


class Simulate(app.ShowOne):
    """Predict the answer to an event, and send nothing.

    Shows the hosts of the server and where they are from, the queue and the circuit breaker of
    each host, the number of held events before this one, and the expected code with its reason.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument('--server', metavar='SERVER', required=True, help='The uuid of the server.')
        parser.add_argument(
            '--name', metavar='EVENT', type=journal.event_name, required=True, help='The name of the event.'
        )
        parser.add_argument('--tag', metavar='TAG', help='The tag of the event, for example the port.')
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[tuple[str, ...], tuple[object, ...]]:
        conf = app.configuration(self)
        database = app.open_database(self)
        migration.check(database)
        event = events.Event(parsed_args.name, base.server_uuid(parsed_args.server), parsed_args.tag)
        facts, answer = operation.simulate(conf, database, event, breakers=operation.asking(conf))
        cells = {**answer, 'hosts': HostsColumn(facts.hosts)}
        return tuple(cells), tuple(cells.values())


def _described(host: simulate.Host) -> str:
    match host.queue, host.consumers:
        case None, _:
            queue = 'queue not known'
        case False, _:
            queue = 'no queue'
        case _:
            queue = f'queue with {host.consumers} consumers'
    cell = f' in {host.cell}' if host.cell else ''
    behind = ', behind held events' if host.behind else ''
    return f'{host.name}{cell}: {queue}, circuit breaker {host.breaker}{behind}'


COMMANDS: dict[str, type[command.Command]] = {'simulate': Simulate}
