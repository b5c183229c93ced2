"""``replay``: have recorded events sent again."""

from __future__ import annotations

import argparse
import collections
from collections.abc import Iterator
import contextlib
import getpass
import socket
import sys

from cliff import command
from oslo_config import cfg

from external_events_router import events
from external_events_router import exceptions
from external_events_router.cmd.manage import app
from external_events_router.cmd.manage import events as events_commands
from external_events_router.cmd.manage import journal
from external_events_router.cmd.manage import times
from external_events_router.journal import reads
from external_events_router.journal import records
from external_events_router.journal import replay
from external_events_router.messaging import rpc
from external_events_router.resolver import rpcapi
from external_events_router.resolver.hold import hold
from external_events_router.resolver.host_map import base

#: Seconds beyond the ack timeout that a resolver has to answer a batch.
MARGIN = 2.0

#: Seconds in which the broker must accept a connection.
CONNECT_TIMEOUT = 5.0

#: Events of one command at most.
MAX_EVENTS = 100_000

_COLUMNS = ('name', 'sent', 'delivered', 'held', 'not_delivered', 'late', 'already_held')


class Replay(app.Lister):
    """Send recorded events again, marked as replayed, with the ids that they had.

    Use it after a host lost its memory. A running agent ignores an event that it has handled.
    The events go through a resolver: they get a code and are held, as those of a sender.
    Events that are held now are left out, and events past their deadline, unless --force is
    given. The command first shows the number of events for each name and asks.
    """

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
        selected = _select(conf, rows, parsed_args)
        chosen = (*selected.due, *selected.late) if parsed_args.force else selected.due
        chosen = tuple(sorted(chosen, key=lambda event: (event.received_at, event.worker, event.seq)))
        outcomes: list[events.Outcome] = []
        if chosen and not parsed_args.dry_run and self._confirmed(selected, chosen, parsed_args):
            with _resolver(conf) as api:
                outcomes = send(api, chosen, ack_timeout=conf.delivery.ack_timeout)
        return _COLUMNS, _results(selected, outcomes)

    def _confirmed(
        self,
        selected: replay.Selected,
        chosen: tuple[records.EventRow, ...],
        parsed_args: argparse.Namespace,
    ) -> bool:
        """Return whether the operator agrees.

        :raises RouterError: the standard input is no terminal
        """
        for name, due, late, held in selected.counts():
            self.app.stderr.write(f'{name}: {due} due, {late} past their deadline, {held} held\n')
        if parsed_args.yes:
            return True
        if not sys.stdin.isatty():
            raise exceptions.RouterError('the standard input is not a terminal; to send the events add --yes')
        self.app.stderr.write(f'Send {len(chosen)} events again? [y/N] ')
        self.app.stderr.flush()
        return sys.stdin.readline().strip().lower() in ('y', 'yes')


COMMANDS: dict[str, type[command.Command]] = {'replay': Replay}


def send(
    api: rpcapi.OperatorAPI, chosen: tuple[records.EventRow, ...], *, ack_timeout: float
) -> list[events.Outcome]:
    """Have events sent again, one request after the other, so that those of a server keep their order.

    :param ack_timeout: seconds that a resolver waits for hosts
    :raises ResolverUnavailable: no resolver answered; the events before were sent
    :raises BrokerUnavailable: the broker cannot be reached; the events before were sent
    """
    actor = f'{getpass.getuser()}@{socket.gethostname()}'
    outcomes: list[events.Outcome] = []
    for ctxt, batch in replay.batches(chosen):
        outcomes += api.replay(
            ctxt, batch, actor=actor, ack_timeout=ack_timeout, timeout=ack_timeout + MARGIN
        )
    return outcomes


def _select(conf: cfg.ConfigOpts, rows: journal.Journal, parsed_args: argparse.Namespace) -> replay.Selected:
    now = rows.reader.now()
    since = round(parsed_args.since.seconds(now / records.SECOND) * records.SECOND)
    selection = reads.Selection(
        server_uuid=None if parsed_args.server is None else base.server_uuid(parsed_args.server),
        host=parsed_args.host,
        names=frozenset(parsed_args.name) or None,
    )
    matches = events_commands.Matches(rows.reader, selection)
    found = list(matches.of(reads.Period(since, now), most=MAX_EVENTS + 1))
    if len(found) > MAX_EVENTS:
        raise exceptions.RouterError(f'these are more than {MAX_EVENTS} events; use a shorter period')
    return replay.select(found, now=now, lifetime=hold.Lifetimes.from_conf(conf).of)


@contextlib.contextmanager
def _resolver(conf: cfg.ConfigOpts) -> Iterator[rpcapi.OperatorAPI]:
    # NOTE: a call on a broker that cannot be reached has no time limit.
    rpc.check_broker(conf, CONNECT_TIMEOUT)
    transport = rpc.get_transport(conf)
    try:
        yield rpcapi.OperatorAPI.from_conf(conf, transport)
    finally:
        transport.cleanup()


def _results(selected: replay.Selected, outcomes: list[events.Outcome]) -> Iterator[tuple[object, ...]]:
    counts: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for outcome in outcomes:
        delivered = outcome.code is events.Code.DELIVERED
        # NOTE: the outcome of a held event has a reason.
        kind = 'not_delivered' if not delivered else 'held' if outcome.reason else 'delivered'
        counts[outcome.event.name].update(('sent', kind))
    for name, _due, late, held in selected.counts():
        found = counts[name]
        yield name, found['sent'], found['delivered'], found['held'], found['not_delivered'], late, held
