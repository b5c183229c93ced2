"""``held``: the events that were answered 200 and not yet acknowledged, and those that ended without it."""

from __future__ import annotations

import argparse
import collections
from collections.abc import Iterable
from collections.abc import Iterator
import datetime
import itertools

from cliff import command

from external_events_router import events
from external_events_router import exceptions
from external_events_router.cmd.manage import app
from external_events_router.cmd.manage import host_map
from external_events_router.resolver.hold import base
from external_events_router.resolver.hold import inspection
from external_events_router.resolver.hold import keeper
from external_events_router.resolver.host_map import base as host_map_base

Shown = tuple[tuple[str, ...], tuple[object, ...]]

#: Events that a list shows if nobody says otherwise.
LIMIT = 1000

_SHORT = ('event', 'state', 'name', 'server', 'hosts', 'until')
_LONG = (*_SHORT, 'tag', 'status', 'request', 'attempts', 'held_at', 'reason')


class List(app.Lister):
    """List events of the hold: those held, in their order, then those that ended.

    "until" is the deadline of a held event, and else when it ended; times are
    UTC by the database's clock.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        _add_filters(parser, state=True)
        parser.add_argument(
            '--limit',
            metavar='NUMBER',
            type=_natural,
            default=LIMIT,
            help=f'Events to list at most; 0: all there are. Default: {LIMIT}.',
        )
        parser.add_argument('--long', action='store_true', help='Show all that is known of each event.')
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[tuple[str, ...], Iterator[tuple[object, ...]]]:
        columns = _LONG if parsed_args.long else _SHORT
        found = _hold(self).records(_selection(parsed_args))
        return columns, self._rows(found, columns, parsed_args.limit)

    def _rows(
        self, found: Iterator[base.Record], columns: tuple[str, ...], limit: int
    ) -> Iterator[tuple[object, ...]]:
        for record in itertools.islice(found, limit or None):
            yield _row(record, columns)
        if limit and next(found, None) is not None:
            self.app.stderr.write(f'There are more than {limit}; see --limit.\n')


class Count(app.Lister):
    """Count events of the hold, by how they stand and what they are called.

    Those that ended are there, and counted, for ``[delivery] keep_expired``.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        _add_filters(parser, state=True)
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[tuple[str, ...], Iterator[tuple[object, ...]]]:
        found = _hold(self).records(_selection(parsed_args))
        counts = collections.Counter((str(record.state), record.event.name) for record in found)
        return ('state', 'name', 'events'), ((*key, number) for key, number in sorted(counts.items()))


class Show(app.ShowOne):
    """Show an event of the hold."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument('event', metavar='EVENT', help='The id of the event.')
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> Shown:
        event_id = parsed_args.event
        found = list(_hold(self).records(inspection.Selection(event_ids=frozenset({event_id}))))
        inspection.insist(found, {event_id})
        # One that was sent again may be held and have ended before.
        record = found[0] if found[0].state is base.State.HELD else found[-1]
        return _LONG, _row(record, _LONG)


class Retry(app.ShowOne):
    """Have held events tried now: all, or those of a host, of a server, or named.

    An event that is named and has ended is held again, behind what its server
    has held, for its ordinary time or that of --ttl.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        _add_filters(parser)
        parser.add_argument(
            '--ttl',
            metavar='SECONDS',
            type=_seconds,
            help='For how long to hold events again that had ended. Default: as [delivery] says.',
        )
        parser.add_argument('events', metavar='EVENT', nargs='*', help='The id of an event.')
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> Shown:
        if parsed_args.ttl is not None and not parsed_args.events:
            raise exceptions.RouterError('--ttl is for events that are named')
        hold = _hold(self)
        selection = _selection(parsed_args)
        put_back = 0
        if parsed_args.events:
            found = list(hold.records(selection))
            inspection.insist(found, parsed_args.events)
            ended = [record for record in found if record.state is not base.State.HELD]
            put_back = hold.put_back(ended, ttl=self._ttl(parsed_args.ttl))
        return ('due', 'put_back'), (hold.make_due(selection), put_back)

    def _ttl(self, seconds: float | None) -> _Ttl:
        lifetimes = keeper.Lifetimes.from_conf(app.configuration(self))
        return _Ttl(lifetimes, seconds)


class Drop(app.ShowOne):
    """Forget events for good, held or ended: those named, or all that meet the filters.

    A held event that is dropped is not delivered any more, although its sender
    was told 200.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        _add_filters(parser, state=True)
        parser.add_argument('--yes', action='store_true', help='Needed where no event is named.')
        parser.add_argument('events', metavar='EVENT', nargs='*', help='The id of an event.')
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> Shown:
        hold = _hold(self)
        selection = _selection(parsed_args)
        if parsed_args.events:
            inspection.insist(hold.records(selection), parsed_args.events)
        elif not parsed_args.yes:
            raise exceptions.RouterError('to drop events that are not named takes --yes')
        return ('dropped',), (hold.drop(selection),)


COMMANDS: dict[str, type[command.Command]] = {
    'held list': List,
    'held count': Count,
    'held show': Show,
    'held retry': Retry,
    'held drop': Drop,
}


class _Ttl:
    """How long an event that is put back is held."""

    def __init__(self, lifetimes: keeper.Lifetimes, seconds: float | None) -> None:
        self._lifetimes = lifetimes
        self._seconds = seconds

    def __call__(self, event: events.Event) -> float:
        return self._lifetimes.of(event) if self._seconds is None else self._seconds


def _hold(cmd: command.Command) -> inspection.Inspection:
    hold = inspection.Inspection(app.open_database(cmd))
    hold.check()
    return hold


def _add_filters(parser: argparse.ArgumentParser, *, state: bool = False) -> None:
    parser.add_argument('--host', metavar='HOST', help='Only events that wait, or waited, for this host.')
    parser.add_argument('--server', metavar='SERVER', help='Only events of the server with this uuid.')
    if state:
        states = [str(one) for one in base.State]
        parser.add_argument('--state', choices=states, help='Only events that stand so.')


def _selection(parsed_args: argparse.Namespace) -> inspection.Selection:
    named: Iterable[str] = getattr(parsed_args, 'events', ())
    state, server = getattr(parsed_args, 'state', None), parsed_args.server
    return inspection.Selection(
        event_ids=frozenset(named) or None,
        state=None if state is None else base.State(state),
        host=parsed_args.host,
        server_uuid=None if server is None else host_map_base.server_uuid(server),
    )


def _row(record: base.Record, columns: tuple[str, ...]) -> tuple[object, ...]:
    event = record.event
    cells: dict[str, object] = {
        'event': event.id,
        'state': str(record.state),
        'name': event.name,
        'server': event.server_uuid,
        'hosts': host_map.HostsColumn(list(record.hosts)),
        'until': _utc(record.until),
        'tag': event.tag,
        'status': event.status,
        'request': record.request_id,
        'attempts': record.attempts,
        'held_at': _utc(record.held_at),
        'reason': record.reason,
    }
    return tuple(cells[column] for column in columns)


def _utc(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime('%Y-%m-%dT%H:%M:%SZ')


def _natural(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f'{text} is less than 0')
    return number


def _seconds(text: str) -> float:
    number = float(text)
    if not 0 < number < float('inf'):
        raise argparse.ArgumentTypeError(f'{text} is no number of seconds')
    return number
