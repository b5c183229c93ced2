"""``held``: commands for events that were answered 200 before a host acknowledged them.

These events are held until a host acknowledges them. The commands also show events that ended
without an acknowledgement.
"""

from __future__ import annotations

import argparse
import collections
from collections.abc import Iterable
from collections.abc import Iterator
import itertools

from cliff import command

from external_events_router import events
from external_events_router import exceptions
from external_events_router.cmd.manage import app
from external_events_router.cmd.manage import host_map
from external_events_router.cmd.manage import times
from external_events_router.journal import operators
from external_events_router.resolver.hold import base
from external_events_router.resolver.hold import hold
from external_events_router.resolver.hold import inspection
from external_events_router.resolver.host_map import base as host_map_base

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
        parser.add_argument('--long', action='store_true', help='Show all columns.')
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
            self.app.stderr.write(f'There are more than {limit} events; use --limit to list more.\n')


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
        found = _hold(self).records(_selection(parsed_args))
        counts = collections.Counter((str(record.state), record.event.name) for record in found)
        return ('state', 'name', 'events'), ((*key, number) for key, number in sorted(counts.items()))


class Show(app.ShowOne):
    """Show one event of the hold."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument('event', metavar='EVENT', help='Event id.')
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> Shown:
        event_id = parsed_args.event
        found = list(_hold(self).records(inspection.Selection(event_ids=frozenset({event_id}))))
        inspection.require_found(found, {event_id})
        # An event that was sent again can have several records: one held, and others ended.
        record = found[0] if found[0].state is base.State.HELD else found[-1]
        return _LONG, _row(record, _LONG)


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
        hold = _hold(self)
        selection = _selection(parsed_args)
        requeued = 0
        if parsed_args.events:
            found = list(hold.records(selection))
            inspection.require_found(found, parsed_args.events)
            ended = [record for record in found if record.state is not base.State.HELD]
            requeued = hold.requeue(ended, ttl=self._ttl(parsed_args.ttl))
            if requeued < len(ended):
                self.app.stderr.write(
                    f'{len(ended) - requeued} events were not held again, because their rows cannot be read '
                    'or another command changed them; see "held list --state damaged".\n'
                )
        return ('servers_rescheduled', 'events_requeued'), (hold.make_due(selection), requeued)

    def _ttl(self, seconds: float | None) -> _Ttl:
        lifetimes = hold.Lifetimes.from_conf(app.configuration(self))
        return _Ttl(lifetimes, seconds)


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
        parser.add_argument('--yes', action='store_true', help='Needed where no event is named.')
        parser.add_argument('events', metavar='EVENT', nargs='*', help='The id of an event.')
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> Shown:
        hold = _hold(self)
        selection = _selection(parsed_args)
        if parsed_args.events:
            inspection.require_found(hold.records(selection), parsed_args.events)
        elif not parsed_args.yes:
            raise exceptions.RouterError('to drop events that are not named takes --yes')
        conf = app.configuration(self)
        dropped = hold.drop(selection, grace=conf.delivery.ack_timeout)
        ends = dropped.until is not None and conf.compute.driver != 'nova'
        return ('dropped', 'may_be_handled_by', 'may_be_handled_until'), (
            dropped.events,
            host_map.HostsColumn(sorted(dropped.hosts)),
            times.utc(dropped.until) if ends and dropped.until is not None else None,
        )


COMMANDS: dict[str, type[command.Command]] = {
    'held list': List,
    'held count': Count,
    'held show': Show,
    'held retry': Retry,
    'held drop': Drop,
}


class _Ttl:
    """Returns the seconds for which an ended event is held again."""

    def __init__(self, lifetimes: hold.Lifetimes, seconds: float | None) -> None:
        self._lifetimes = lifetimes
        self._seconds = seconds

    def __call__(self, event: events.Event) -> float:
        return self._lifetimes.of(event) if self._seconds is None else self._seconds


def _hold(cmd: command.Command) -> inspection.Inspection:
    journal = operators.recording(app.configuration(cmd))
    hold = inspection.Inspection(app.open_database(cmd), journal=journal)
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
        'acknowledged': host_map.HostsColumn(list(record.acknowledged)),
        'expires_at': times.utc(record.expires_at) if record.expires_at is not None else None,
        'ended_at': times.utc(record.ended_at) if record.ended_at is not None else None,
        'tag': event.tag,
        'status': event.status,
        'request': record.request_id,
        'attempts': record.attempts,
        'held_at': times.utc(record.held_at),
        'reason': record.reason,
    }
    return tuple(cells[column] for column in columns)


def _seconds(text: str) -> float:
    number = float(text)
    if not 0 < number < float('inf'):
        raise argparse.ArgumentTypeError(f'{text} is not a positive number of seconds')
    return number
