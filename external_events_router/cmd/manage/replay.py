"""``replay``: have recorded events sent again."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
import sys
from typing import Any

from cliff import command
from oslo_config import cfg

from external_events_router import events
from external_events_router import exceptions
from external_events_router.cmd.manage import actions
from external_events_router.cmd.manage import app
from external_events_router.cmd.manage import journal
from external_events_router.cmd.manage import times
from external_events_router.journal import operators
from external_events_router.operations import events as event_operations
from external_events_router.operations import replay as operation

#: Exit status if the operator did not agree, and if an event that was sent is neither delivered nor held.
DECLINED = 1
NOT_DELIVERED = 3

_COLUMNS = ('name', 'sent', 'delivered', 'held', 'not_delivered', 'late', 'already_held')


class Replay(app.Lister):
    """Send recorded events again, marked as replayed, with the ids that they had.

    Use it after a host lost its memory. A running agent ignores an event that it has handled.
    The events go through a resolver: they get a code and are held, like events of a sender.
    Events that are held now are left out, and events past their deadline, unless --force is
    given. The command first shows the number of events for each name and asks. The exit status is 0 if all
    events that were sent are delivered or held, 3 if others were sent, and 1 if nothing was sent because
    of the answer.
    """

    _status = 0

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        which = parser.add_mutually_exclusive_group(required=True)
        which.add_argument('--host', metavar='HOST', help='The events of servers that were on this host.')
        which.add_argument('--server', metavar='SERVER', help='The events of the server with this uuid.')
        parser.add_argument(
            '--since',
            metavar='TIME',
            type=times.Moment,
            required=True,
            help=f'Events that arrived since this time: {times.FORMS}.',
        )
        parser.add_argument(
            '--name',
            metavar='EVENT',
            type=journal.event_name,
            action='append',
            default=[],
            help='Only events with this name; may be repeated.',
        )
        parser.add_argument('--dry-run', action='store_true', help='Only show the numbers.')
        parser.add_argument('--force', action='store_true', help='Also send events past their deadline.')
        parser.add_argument('--yes', action='store_true', help='Do not ask.')
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[tuple[str, ...], Iterator[tuple[object, ...]]]:
        conf, rows = app.configuration(self), journal.opened(self)
        chosen = event_operations.Filter(
            server=parsed_args.server, host=parsed_args.host, name=frozenset(parsed_args.name)
        )
        since = parsed_args.since.seconds(rows.now())
        plan = operation.plan(conf, rows, chosen, since=since, force=parsed_args.force)
        if not plan.chosen or parsed_args.dry_run:
            return _COLUMNS, _rows(operation.results(plan.selected, []))
        if not self._confirmed(plan, parsed_args):
            self._status = DECLINED
            return _COLUMNS, _rows(operation.results(plan.selected, []))
        described = {
            'host': chosen.host,
            'server': chosen.server,
            'name': sorted(chosen.name),
            'since': times.utc(since),
            'force': parsed_args.force,
        }
        outcomes = self._send(conf, plan, described)
        if any(outcome.code is not events.Code.DELIVERED for outcome in outcomes):
            self._status = NOT_DELIVERED
        return _COLUMNS, _rows(operation.results(plan.selected, outcomes, plan.chosen))

    def run(self, parsed_args: argparse.Namespace) -> int:
        """Run the command.

        :returns: exit status
        """
        return super().run(parsed_args) or self._status

    def _send(
        self, conf: cfg.ConfigOpts, plan: operation.Plan, described: Mapping[str, Any]
    ) -> list[events.Outcome]:
        outcomes: list[events.Outcome] = []
        actor = operators.operator(conf)
        try:
            with actions.recording(self)('replay', described) as done, operation.resolver(conf) as api:
                try:
                    outcomes.extend(
                        operation.send(
                            api,
                            plan.chosen,
                            ack_timeout=conf.delivery.ack_timeout,
                            actor=actor,
                            is_due=plan.is_due,
                        )
                    )
                finally:
                    done.number = len(outcomes)
        except exceptions.RouterError:
            self.app.stderr.write(f'Sent {len(outcomes)} of {len(plan.chosen)} events before the error\n')
            raise
        return outcomes

    def _confirmed(self, plan: operation.Plan, parsed_args: argparse.Namespace) -> bool:
        """Return whether the operator agrees.

        :raises RouterError: the standard input is not a terminal
        """
        for name, due, late, held in plan.selected.counts():
            self.app.stderr.write(f'{name}: {due} due, {late} past their deadline, {held} held\n')
        if parsed_args.yes:
            return True
        if not sys.stdin.isatty():
            raise exceptions.RouterError('the standard input is not a terminal; to send the events add --yes')
        self.app.stderr.write(f'Send {len(plan.chosen)} events again? [y/N] ')
        self.app.stderr.flush()
        return sys.stdin.readline().strip().lower() in ('y', 'yes')


def _rows(results: Iterable[Mapping[str, Any]]) -> Iterator[tuple[object, ...]]:
    return (tuple(row[column] for column in _COLUMNS) for row in results)


COMMANDS: dict[str, type[command.Command]] = {'replay': Replay}
