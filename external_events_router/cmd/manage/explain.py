"""``explain``: what happened to the events of a server."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
import json
from typing import Any

from cliff import command
import prettytable
import yaml

from external_events_router.cmd.manage import app
from external_events_router.cmd.manage import journal
from external_events_router.cmd.manage import times
from external_events_router.journal import explain
from external_events_router.journal import next_steps
from external_events_router.journal import timeline
from external_events_router.operations import explain as operation
from external_events_router.process import printable

#: Characters of a line of text in a table.
WIDTH = 90


class Explain(command.Command):
    """Show what happened to the events of a server: the timeline, a verdict, and the next step.

    The exit status is 0 if the event was delivered, 3 if it was not delivered or did not help
    because it came too early or too late, 4 if it was never posted, and 5 if the journal is
    incomplete. An error of the command itself is 1 or 2. Times are UTC; the column "seconds"
    counts from the start of the wait, if it is known.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument('server', metavar='SERVER', help='The uuid of the server.')
        parser.add_argument(
            '--port', metavar='TAG', help='Only events with this tag, for example of one port.'
        )
        parser.add_argument(
            '--name', metavar='EVENT', type=journal.event_name, help='Only events with this name.'
        )
        period = parser.add_mutually_exclusive_group()
        period.add_argument(
            '--since',
            metavar='TIME',
            type=times.Moment,
            default=times.Moment(operation.SINCE),
            help=f'Only events since this time: {times.FORMS}. Default: {operation.SINCE}.',
        )
        period.add_argument(
            '--at',
            metavar='TIME',
            type=times.Moment,
            help=f'Only events within {operation.AROUND / 60:.0f} minutes before and after this time.',
        )
        parser.add_argument(
            '-f',
            '--format',
            choices=('table', 'json', 'yaml'),
            default='table',
            help='The form of the output. Default: table.',
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> int:
        conf, rows = app.configuration(self), journal.opened(self)
        explained = operation.explain(
            conf,
            rows,
            parsed_args.server,
            period=operation.period(rows.now(), since=parsed_args.since, at=parsed_args.at),
            port=parsed_args.port,
            name=parsed_args.name,
        )
        self.app.stdout.write(rendered(explained, parsed_args.format))
        return explained.finding.exit_status


def rendered(explained: explain.Explanation, form: str = 'table') -> str:
    """Return an answer as a text that ends with a line break.

    :param form: ``table``, ``json`` or ``yaml``
    """
    if form == 'table':
        return ''.join(f'{printable.escape(line)}\n' for line in _lines(explained))
    document = explain.document(explained)
    if form == 'json':
        return f'{json.dumps(document, indent=2)}\n'
    text: str = yaml.safe_dump(document, sort_keys=False, width=WIDTH)
    return text


def _lines(explained: explain.Explanation) -> Iterator[str]:
    history = explained.history
    yield f'Server {history.server_uuid}, {timeline.utc(history.since)} to {timeline.utc(history.until)}'
    if explained.entries:
        yield from _table(explained).get_string().split('\n')
    else:
        yield 'The journal contains nothing about it.'
    for warning in history.warnings:
        yield f'Warning: {warning}'
    yield ''
    yield f'Verdict: {explained.finding.verdict}'
    yield explained.finding.sentence
    yield ''
    yield from step_lines(explained.finding.next_step)


def step_lines(step: next_steps.NextStep) -> Iterator[str]:
    """Return the next step as lines for people."""
    yield f'Next step: {step.text}'
    where = f'on {step.host}' if step.host else ''
    if step.command is not None:
        yield f'  {where + ": " if where else ""}{step.command}'
    if step.search is not None:
        yield f'  search for "{step.search}" in {step.log}{" " + where if where else ""}'


def _table(explained: explain.Explanation) -> prettytable.PrettyTable:
    table = prettytable.PrettyTable(['seconds', 'time', 'event', 'host', 'what happened'])
    table.align = 'l'
    table.align['seconds'] = 'r'
    table.max_width['what happened'] = WIDTH
    for entry in explained.entries:
        table.add_row(_row(entry, explained.zero))
    return table


def _row(entry: timeline.Entry, zero: int) -> list[Any]:
    return [
        f'{explain.relative(entry.at, zero):+.3f}',
        timeline.utc(entry.at),
        printable.escape(entry.what),
        entry.host or '',
        printable.escape(entry.text),
    ]


COMMANDS: dict[str, type[command.Command]] = {'explain': Explain}
