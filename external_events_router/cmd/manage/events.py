"""``events``: commands that show the events of the journal."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
import csv
import dataclasses
import io
import itertools
import json
import time
from typing import Any

from cliff import command

from external_events_router import exceptions
from external_events_router.cmd.manage import app
from external_events_router.cmd.manage import host_map
from external_events_router.cmd.manage import journal
from external_events_router.cmd.manage import times
from external_events_router.journal import explain
from external_events_router.journal import reads
from external_events_router.journal import records
from external_events_router.journal import states
from external_events_router.journal import timeline
from external_events_router.process import printable
from external_events_router.resolver.host_map import base

Columns = tuple[str, ...]

#: Default maximum number of listed events, and default period.
LIMIT = 1000
SINCE = '1h'

#: Events that are read at a time, and steps of one event at most.
PAGE = 500
STEPS = 200

#: Seconds between two reads of ``tail``, and how far back it reads: workers write their rows
#: within this time.
POLL = 1.0
OVERLAP = 15.0

#: Rows that one read of ``tail`` takes at most.
BURST = 20_000

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
        return columns, self._rows(_matches(rows.reader, parsed_args), period, columns, parsed_args.limit)

    def _rows(
        self, matches: Matches, period: reads.Period, columns: Columns, limit: int
    ) -> Iterator[tuple[object, ...]]:
        for listed, (event, state) in enumerate(matches.of(period), start=1):
            yield _row(event, state, columns)
            if listed == limit:
                self.app.stderr.write(f'Listed {limit} events; for more add --marker {marker(event)}\n')
                return


class Show(app.Lister):
    """Show everything that happened to an event: each time that it was posted, and each attempt."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument('event', metavar='EVENT', help='The id of the event.')
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Columns, Iterator[tuple[object, ...]]]:
        rows, event_id = journal.opened(self), parsed_args.event
        conf = app.configuration(self)
        now = rows.reader.now()
        period = reads.Period(now - times.microseconds(conf.journal.keep), now)
        chosen = reads.Selection(event_id=event_id)
        events = rows.reader.events(chosen, period)
        if not events:
            raise exceptions.NoSuchEvent(event_id=event_id)
        steps = rows.reader.steps(chosen, period, limit=STEPS)
        history = timeline.History(
            events[0].server_uuid, period.since, now, events=tuple(events), steps=tuple(steps)
        )
        return ('seconds', 'time', 'kind', 'host', 'what_happened'), _entries(timeline.build(history))


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
            for event, state in _follow(_matches(rows.reader, parsed_args), times.microseconds(since), end):
                self.app.stdout.write(f'{line(_cells(event, state))}\n')
                self.app.stdout.flush()
        except KeyboardInterrupt:
            # NOTE: the ordinary end of this command.
            return


COMMANDS: dict[str, type[command.Command]] = {
    'events list': List,
    'events show': Show,
    'events tail': Tail,
}


class Matches:
    """The events that some filters select, with their states."""

    def __init__(
        self, reader: reads.Reader, selection: reads.Selection, state: states.State | None = None
    ) -> None:
        """:param state: only events in this state"""
        self.reader = reader
        self._state = state
        chosen = None if state is None else states.REASONS[state]
        self._selection = dataclasses.replace(selection, reasons=chosen)

    def of(
        self, period: reads.Period, *, page: int = PAGE, most: int | None = None
    ) -> Iterator[tuple[records.EventRow, states.State]]:
        """Return the events of a period, in its order.

        :param page: events that are read at a time
        :param most: events at most; None: all
        """
        return itertools.islice(self._of(period, page), most)

    def _of(self, period: reads.Period, page: int) -> Iterator[tuple[records.EventRow, states.State]]:
        while True:
            found = self.reader.events(self._selection, period, limit=page)
            for event in found:
                state = self._state_of(event)
                if self._state in (None, state):
                    yield event, state
            if len(found) < page:
                return
            period = reads.Period(period.since, period.until, _key(found[-1]), period.newest_first)

    def _state_of(self, event: records.EventRow) -> states.State:
        state = states.state(event, ())
        if state is not states.State.HELD:
            return state
        later = reads.Period(event.received_at, self.reader.now())
        return states.state(
            event, self.reader.steps(reads.Selection(event_id=event.event_id), later, limit=STEPS)
        )


def _matches(reader: reads.Reader, parsed_args: argparse.Namespace) -> Matches:
    selection = reads.Selection(
        server_uuid=None if parsed_args.server is None else base.server_uuid(parsed_args.server),
        host=parsed_args.host,
        tag=parsed_args.port,
        request_id=parsed_args.request,
        user_id=parsed_args.sender,
        codes=frozenset(parsed_args.code) or None,
        names=frozenset(parsed_args.name) or None,
    )
    return Matches(reader, selection, states.State(parsed_args.state) if parsed_args.state else None)


def _follow(
    matches: Matches, since: int, end: float | None
) -> Iterator[tuple[records.EventRow, states.State]]:
    """New events as they are written, each once.

    :param since: microseconds since the epoch
    :param end: an instant of ``time.monotonic()``; None: never
    """
    seen: dict[reads.Key, None] = {}
    while True:
        now = matches.reader.now()
        for event, state in matches.of(reads.Period(since, now), page=BURST):
            if _key(event) not in seen:
                seen[_key(event)] = None
                yield event, state
        # NOTE: workers write their rows at different times, so the last seconds are read again.
        since = max(since, now - times.microseconds(OVERLAP))
        seen = {key: None for key in seen if key[0] >= since}
        left = POLL if end is None else min(POLL, end - time.monotonic())
        if left <= 0:
            return
        time.sleep(left)


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
        default=times.Moment(SINCE),
        help=f'Only events since this time: {times.FORMS}. Default: {SINCE}.',
    )
    parser.add_argument(
        '--until', metavar='TIME', type=times.Moment, help='Only events until this time. Default: now.'
    )


def marker(event: records.EventRow) -> str:
    """Return the text that continues a list after an event."""
    return '-'.join(map(str, _key(event)))


def _marker(text: str) -> reads.Key:
    try:
        at, worker, seq = map(int, text.split('-'))
    except ValueError as exc:
        raise argparse.ArgumentTypeError(f'{text!r} is not a marker of "events list --long"') from exc
    return at, worker, seq


def _key(event: records.EventRow) -> reads.Key:
    return event.received_at, event.worker, event.seq


def _cells(event: records.EventRow, state: states.State) -> dict[str, object]:
    request = event.request
    return {
        'time': timeline.utc(event.received_at),
        'event': event.event_id,
        'name': event.name,
        'tag': event.tag,
        'server': event.server_uuid,
        'code': event.code,
        'state': str(state),
        'hosts': list(event.hosts),
        'status': event.status,
        'reason': str(event.reason),
        'detail': event.detail,
        'ack_ms': event.ack_ms,
        'sender': request.user_id if request else None,
        'project': request.project_id if request else None,
        'request': request.request_id if request else None,
        'sender_request': request.global_request_id if request else None,
        'replayed': event.replayed,
        'marker': marker(event),
    }


def _row(event: records.EventRow, state: states.State, columns: Columns) -> tuple[object, ...]:
    cells = {**_cells(event, state), 'hosts': host_map.HostsColumn(list(event.hosts))}
    return tuple(cells[column] for column in columns)


def _entries(entries: list[timeline.Entry]) -> Iterator[tuple[object, ...]]:
    for entry in entries:
        seconds = explain.relative(entry.at, entries[0].at)
        yield seconds, timeline.utc(entry.at), str(entry.kind), entry.host, entry.text


def _text_line(cells: Mapping[str, object]) -> str:
    return ' '.join(str(_shown(cells[column])) for column in _SHORT)


def _csv_line(cells: Mapping[str, object]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator='').writerow(_shown(cell) for cell in cells.values())
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
