"""``held``: commands for events that were answered 200 before a host acknowledged them.

These events are held until a host acknowledges them. The commands also show events that ended
without an acknowledgement.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
import itertools

from cliff import command

from external_events_router import exceptions
from external_events_router.cmd.manage import actions
from external_events_router.cmd.manage import app
from external_events_router.cmd.manage import host_map
from external_events_router.journal import operators
from external_events_router.operations import held as operation
from external_events_router.operations import times
from external_events_router.resolver.hold import base
from external_events_router.resolver.hold import inspection

Shown = tuple[tuple[str, ...], tuple[object, ...]]

#: Default maximum number of listed events.
LIMIT = 1000

_SHORT = ('event', 'state', 'name', 'server', 'hosts', 'acknowledged', 'expires_at', 'ended_at')
_LONG = (*_SHORT, 'tag', 'status', 'request', 'attempts', 'held_at', 'reason')


class List(app.Lister):
    """List events of the hold: first held events in their order, then ended events.

    The column "hosts" contains the hosts that the server of an event waits for, and "acknowledged"
    the hosts that have acknowledged a held event. "expires_at" is the deadline of a held event,
    "ended_at" the time when an event ended. Times are UTC, from the clock of the database.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        _add_filters(parser, state=True)
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
            help='Continue after the event with this marker, which the previous list printed.',
        )
        parser.add_argument('--long', action='store_true', help='Show all columns.')
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[tuple[str, ...], Iterator[tuple[object, ...]]]:
        columns = _LONG if parsed_args.long else _SHORT
        found = _hold(self).records(_filter(parsed_args).selection(), after=parsed_args.marker)
        return columns, self._rows(found, columns, parsed_args.limit)

    def _rows(
        self, found: Iterator[base.Record], columns: tuple[str, ...], limit: int
    ) -> Iterator[tuple[object, ...]]:
        last = None
        for record in itertools.islice(found, limit or None):
            last = record
            yield _row(record, columns)
        if last is not None and limit and next(found, None) is not None:
            marker = operation.marker(last)
            self.app.stderr.write(
                f'There are more than {limit} events; use --limit to list more, or --marker {marker}.\n'
            )


class Count(app.Lister):
    """Count events of the hold by state and name.

    Ended events are counted until they are deleted after ``[delivery] keep_expired``.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        _add_filters(parser, state=True)
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[tuple[str, ...], Iterator[tuple[object, ...]]]:
        return ('state', 'name', 'events'), iter(operation.count(_hold(self), _filter(parsed_args)))


class Show(app.ShowOne):
    """Show one event of the hold."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument('event', metavar='EVENT', help='Event id.')
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> Shown:
        return _LONG, _row(operation.show(_hold(self), parsed_args.event), _LONG)


class Retry(app.ShowOne):
    """Retry held events now: all events, events of a host or server, or events by id.

    If you give the id of an ended event, it is held again, after the held events of its server.
    --ttl sets the time for which it is held. An event whose row cannot be read is not held again.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        _add_filters(parser)
        parser.add_argument(
            '--ttl',
            metavar='SECONDS',
            type=_seconds,
            help='Seconds to hold ended events again. Default: [delivery] event_ttl and event_ttls.',
        )
        parser.add_argument('events', metavar='EVENT', nargs='*', help='Event id.')
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> Shown:
        if parsed_args.ttl is not None and not parsed_args.events:
            raise exceptions.RouterError('--ttl requires event ids')
        hold, ttl = _hold(self), operation.lifetimes(app.configuration(self), parsed_args.ttl)
        with actions.recording(self)('held:retry', _described(parsed_args)) as done:
            retried = operation.retry(hold, _filter(parsed_args), event_ids=parsed_args.events, ttl=ttl)
            done.number = retried.servers
        if retried.not_requeued:
            self.app.stderr.write(
                f'{retried.not_requeued} events were not held again, because their rows cannot be read '
                'or another command changed them; see "held list --state damaged".\n'
            )
        return ('servers_rescheduled', 'events_requeued'), (retried.servers, retried.requeued)


class Drop(app.ShowOne):
    """Delete events of the hold, held or ended: events by id, or all events that match the filters.

    The router does not deliver a deleted event, although its sender received 200. A copy may be
    in the queue of a host, or in a running attempt: "may_be_handled_by" lists these hosts, and
    "may_be_handled_until" is the time after which their agents handle no copy. nova-compute has no
    such time.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        _add_filters(parser, state=True)
        parser.add_argument(
            '--yes', action='store_true', help='Confirm the command. Required without event ids.'
        )
        parser.add_argument('events', metavar='EVENT', nargs='*', help='The id of an event.')
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> Shown:
        if not parsed_args.events and not parsed_args.yes:
            raise exceptions.RouterError('nothing was deleted: without event ids, use --yes to confirm')
        conf, hold = app.configuration(self), _hold(self)
        with actions.recording(self)('held:drop', _described(parsed_args)) as done:
            dropped = operation.drop(conf, hold, _filter(parsed_args), event_ids=parsed_args.events)
            done.number = dropped.events
        return ('dropped', 'may_be_handled_by', 'may_be_handled_until'), (
            dropped.events,
            host_map.HostsColumn(sorted(dropped.hosts)),
            None if dropped.until is None else times.utc(dropped.until),
        )


COMMANDS: dict[str, type[command.Command]] = {
    'held list': List,
    'held count': Count,
    'held show': Show,
    'held retry': Retry,
    'held drop': Drop,
}


def _hold(cmd: command.Command) -> inspection.Inspection:
    conf = app.configuration(cmd)
    hold = inspection.Inspection(app.open_database(cmd), journal=operators.recording(conf))
    hold.check()
    return hold


def _add_filters(parser: argparse.ArgumentParser, *, state: bool = False) -> None:
    parser.add_argument(
        '--host', metavar='HOST', help='Only events for this host that it has not acknowledged.'
    )
    parser.add_argument('--server', metavar='SERVER', help='Only events for the server with this uuid.')
    if state:
        states = [str(one) for one in base.State]
        parser.add_argument('--state', choices=states, help='Only events in this state.')


def _filter(parsed_args: argparse.Namespace) -> operation.Filter:
    state = getattr(parsed_args, 'state', None)
    return operation.Filter(
        host=parsed_args.host,
        server=parsed_args.server,
        state=None if state is None else base.State(state),
    )


def _described(parsed_args: argparse.Namespace) -> dict[str, object]:
    """Return the filters of a command, for the record of actions."""
    names = ('host', 'server', 'state', 'events')
    return {name: getattr(parsed_args, name, None) for name in names}


def _row(record: base.Record, columns: tuple[str, ...]) -> tuple[object, ...]:
    cells = operation.document(record)
    for column in ('hosts', 'acknowledged'):
        cells[column] = host_map.HostsColumn(cells[column])
    return tuple(cells[column] for column in columns)


def _marker(text: str) -> inspection.Position:
    try:
        return operation.parse_marker(text)
    except exceptions.InvalidArgument as exc:
        raise argparse.ArgumentTypeError(str(exc)) from exc


def _seconds(text: str) -> float:
    number = float(text)
    if not 0 < number < float('inf'):
        raise argparse.ArgumentTypeError(f'{text} is not a positive number of seconds')
    return number
