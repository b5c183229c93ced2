"""``events``: commands that show the events of the journal."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
import csv
import functools
import io
import json
import time
from typing import Any

from cliff import command

from external_events_router import exceptions
from external_events_router.cmd.manage import app
from external_events_router.cmd.manage import csv_format
from external_events_router.cmd.manage import host_map
from external_events_router.cmd.manage import journal
from external_events_router.cmd.manage import times
from external_events_router.journal import completeness
from external_events_router.journal import reads
from external_events_router.journal import records
from external_events_router.journal import states
from external_events_router.operations import events
from external_events_router.process import printable

Columns = tuple[str, ...]

#: Default maximum number of listed events.
LIMIT = 1000

_HISTORY = ('seconds', 'time', 'kind', 'host', 'what_happened')
_SHORT = ('time', 'event', 'name', 'tag', 'server', 'code', 'state', 'hosts')
_LONG = (
    *_SHORT,
    'status',
    'reason',
    'detail',
    'ack_ms',
    'sender',
    'project',
    'request',
    'sender_request',
    'replayed',
    'marker',
)


class List(app.Lister):
    """List events that arrived, the newest first, with their states.

    The column "state" is delivered, held, expired, refused (by a handler), gone (the server was
    deleted), damaged, dropped (by an operator) or failed (a code other than 200 and 500). Times
    are UTC, from the clock of the database.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        _add_filters(parser)
        _add_period(parser)
        parser.add_argument(
            '--limit',
            metavar='NUMBER',
            type=app.natural,
            default=LIMIT,
            help=f'Maximum number of events to list; 0: no limit. Default: {LIMIT}.',
        )
        parser.add_argument(
            '--marker',
            metavar='MARKER',
            type=_marker,
            help='Continue after the event with this marker, see --long.',
        )
        parser.add_argument('--oldest-first', action='store_true', help='List the oldest events first.')
        parser.add_argument('--long', action='store_true', help='Show all columns.')
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Columns, Iterator[tuple[object, ...]]]:
        rows = journal.opened(self)
        now = rows.now()
        period = reads.Period(
            since=times.microseconds(parsed_args.since.seconds(now)),
            until=times.microseconds(parsed_args.until.seconds(now) if parsed_args.until else now),
            after=parsed_args.marker,
            newest_first=not parsed_args.oldest_first,
        )
        columns = _LONG if parsed_args.long else _SHORT
        return columns, self._rows(
            _filter(parsed_args).matches(rows.reader), period, columns, parsed_args.limit
        )

    def _rows(
        self, matches: events.Matches, period: reads.Period, columns: Columns, limit: int
    ) -> Iterator[tuple[object, ...]]:
        for listed, (event, state) in enumerate(matches.of(period), start=1):
            yield _row(event, state, columns)
            if listed == limit:
                self.app.stderr.write(
                    f'Listed {limit} events; for more add --marker {events.marker(event)}\n'
                )
                return


class Show(app.Lister):
    """Show everything that happened to an event: each time that it was posted, and each attempt."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument('event', metavar='EVENT', help='The id of the event.')
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Columns, Iterator[tuple[object, ...]]]:
        rows, conf = journal.opened(self), app.configuration(self)
        _, found = events.history(rows, parsed_args.event, keep=conf.journal.keep)
        listed = events.entries(found)
        return _HISTORY, (tuple(entry[column] for column in _HISTORY) for entry in listed)


class Tail(command.Command):
    """Print events as they arrive, until the command is interrupted (Ctrl-C).

    An event is printed when its worker has written it to the journal, mostly within a second.
    The state is that of this moment; "events show" prints what happens to a held event later.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        _add_filters(parser)
        parser.add_argument(
            '--since',
            metavar='TIME',
            type=times.Moment,
            help=f'Begin with the events since this time: {times.FORMS}. Default: now.',
        )
        parser.add_argument(
            '-f',
            '--format',
            choices=('text', 'json', 'csv'),
            default='text',
            help='The form of a line; json: one object per line. Default: text.',
        )
        parser.add_argument(
            '--for', dest='seconds', metavar='DURATION', type=times.duration, help='End after this time.'
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        rows = journal.opened(self)
        line = _LINES[parsed_args.format]
        since = parsed_args.since.seconds(rows.now()) if parsed_args.since else rows.now()
        end = None if parsed_args.seconds is None else time.monotonic() + parsed_args.seconds
        try:
            matches = _filter(parsed_args).matches(rows.reader)
            written_until = functools.partial(completeness.written_until, rows.database)
            begin = times.microseconds(since)
            for event, state in events.follow(matches, begin, end, written_until=written_until):
                self.app.stdout.write(f'{line(events.document(event, state))}\n')
                self.app.stdout.flush()
        except KeyboardInterrupt:
            # NOTE: the ordinary end of this command.
            return


COMMANDS: dict[str, type[command.Command]] = {
    'events list': List,
    'events show': Show,
    'events tail': Tail,
}


def _filter(parsed_args: argparse.Namespace) -> events.Filter:
    return events.Filter(
        server=parsed_args.server,
        port=parsed_args.port,
        request=parsed_args.request,
        sender=parsed_args.sender,
        host=parsed_args.host,
        code=frozenset(parsed_args.code),
        name=frozenset(parsed_args.name),
        state=states.State(parsed_args.state) if parsed_args.state else None,
    )


def _add_filters(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--server', metavar='SERVER', help='Only events of the server with this uuid.')
    parser.add_argument('--port', metavar='TAG', help='Only events with this tag, for example of one port.')
    parser.add_argument(
        '--request', metavar='ID', help='Only events of this request: the id of the sender or of the router.'
    )
    parser.add_argument('--sender', metavar='USER', help='Only events from the user with this id.')
    parser.add_argument('--host', metavar='HOST', help='Only events of servers that were on this host.')
    parser.add_argument(
        '--code',
        metavar='CODE',
        type=int,
        action='append',
        default=[],
        help='Only events that were answered with this code; may be repeated.',
    )
    parser.add_argument(
        '--name',
        metavar='EVENT',
        type=journal.event_name,
        action='append',
        default=[],
        help='Only events with this name; may be repeated.',
    )
    parser.add_argument(
        '--state', choices=[str(state) for state in states.State], help='Only events in this state.'
    )


def _add_period(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        '--since',
        metavar='TIME',
        type=times.Moment,
        default=times.Moment(events.SINCE),
        help=f'Only events since this time: {times.FORMS}. Default: {events.SINCE}.',
    )
    parser.add_argument(
        '--until', metavar='TIME', type=times.Moment, help='Only events until this time. Default: now.'
    )


def _marker(text: str) -> reads.Key:
    try:
        return events.parse_marker(text)
    except exceptions.InvalidArgument as exc:
        raise argparse.ArgumentTypeError(f'{exc}, see "events list --long"') from exc


def _row(event: records.EventRow, state: states.State, columns: Columns) -> tuple[object, ...]:
    cells = {**events.document(event, state), 'hosts': host_map.HostsColumn(list(event.hosts))}
    return tuple(cells[column] for column in columns)


def _text_line(cells: Mapping[str, object]) -> str:
    return ' '.join(str(_shown(cells[column])) for column in _SHORT)


def _csv_line(cells: Mapping[str, object]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator='').writerow(csv_format.safe(_shown(cell)) for cell in cells.values())
    return line.getvalue()


def _shown(cell: object) -> object:
    if isinstance(cell, list):
        return ','.join(cell) or '-'
    return '-' if cell is None else printable.escape(str(cell))


_LINES: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    'text': _text_line,
    'json': json.dumps,
    'csv': _csv_line,
}
