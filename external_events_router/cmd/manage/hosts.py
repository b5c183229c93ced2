"""``host``: the hosts, and the problems that prevent events from reaching them."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from collections.abc import Mapping

from cliff import command

from external_events_router.cmd.manage import app
from external_events_router.db import migration
from external_events_router.operations import hosts as operation
from external_events_router.resolver import host_overview

COLUMNS = ('host', 'servers', 'last_report', 'breakers_open', 'held', 'queue', 'problem')


class List(app.Lister):
    """List the hosts of the host map, of reports, of circuit breakers and of held events.

    "breakers_open" is the number of resolver workers whose circuit breaker for the host is open, "held" the
    number of held events of servers that wait for the host. Times are UTC by the clock of the database.
    With RabbitMQ, "queue" is the number of consumers of the queue of the host.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument(
            '--problem', action='store_true', help='List only hosts that may not receive events in time.'
        )
        parser.add_argument('--no-queues', action='store_true', help='Do not connect to the broker.')
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[tuple[str, ...], Iterator[tuple[object, ...]]]:
        conf = app.configuration(self)
        database = app.open_database(self)
        migration.check(database)
        found = host_overview.HostOverview(database).read()
        queues: Mapping[str, int | None] = {}
        if not parsed_args.no_queues:
            queues, problem = operation.ask_queues(conf, [host.name for host in found])
            if problem is not None:
                self.app.stderr.write(f'The state of the queues is not known: {problem}\n')
        rows = operation.list_hosts(conf, found, queues, only_problems=parsed_args.problem)
        return COLUMNS, (_row(row) for row in rows)


def _row(host: Mapping[str, object]) -> tuple[object, ...]:
    problems = host['problems']
    assert isinstance(problems, list)  # noqa: S101 - see list_hosts
    cells = {**host, 'last_report': host['last_report'] or 'never', 'problem': ', '.join(problems)}
    return tuple(cells[column] for column in COLUMNS)


COMMANDS: dict[str, type[command.Command]] = {'host list': List}
