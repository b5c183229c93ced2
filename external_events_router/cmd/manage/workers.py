"""``journal workers`` and ``journal end-worker``: the processes whose records make the journal complete."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
import contextlib

from cliff import command

from external_events_router import exceptions
from external_events_router.cmd.manage import app
from external_events_router.cmd.manage import journal
from external_events_router.cmd.manage import times
from external_events_router.journal import completeness
from external_events_router.journal import recorder
from external_events_router.journal import records
from external_events_router.journal import store
from external_events_router.journal import timeline

#: Default period of the list.
SINCE = '1h'

COLUMNS = (
    'id',
    'name',
    'service',
    'pid',
    'record',
    'started',
    'last_seen',
    'written_until',
    'state',
    'written',
    'dropped',
)


class Workers(app.Lister):
    """List the workers that recorded events in a period, and until when their records are complete.

    The column "state" is running, silent (it has not written for some time: it was killed, or it
    cannot reach the database of the journal), stopped or killed. While a worker is silent, "explain"
    cannot state that an event was never posted. Times are UTC, from the clock of the database.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument(
            '--since',
            metavar='TIME',
            type=times.Moment,
            default=times.Moment(SINCE),
            help=f'Workers that ran after this time: {times.FORMS}. Default: {SINCE}.',
        )
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[tuple[str, ...], Iterator[tuple[object, ...]]]:
        rows = journal.opened(self)
        now = rows.reader.now()
        since = times.microseconds(parsed_args.since.seconds(now / records.SECOND))
        return COLUMNS, (_row(row, now) for row in completeness.workers(rows.database, since, now))


class EndWorker(command.Command):
    """Record that a silent worker has ended, for example because its machine was removed.

    Use it only if the process does not run any longer. A worker that is started again on the same
    machine ends its predecessor itself. The journal states a gap from the last record of the worker
    until now.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument('id', metavar='ID', type=int, help='The column "id" of "journal workers".')
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        journal.opened(self)
        with contextlib.closing(store.Store(recorder.open_database(app.configuration(self)))) as opened:
            opened.synchronize()
            if not opened.end_silent(completeness.SILENCE / records.SECOND, worker=parsed_args.id):
                raise exceptions.RouterError(f'no silent worker has the id {parsed_args.id}')


def _row(row: records.WorkerRow, now: int) -> tuple[object, ...]:
    return (
        row.id,
        row.name,
        row.service,
        row.pid,
        row.record,
        timeline.utc(row.started_at),
        timeline.utc(row.last_seen_at),
        timeline.utc(row.written_until),
        _state(row, now),
        row.written,
        row.dropped,
    )


def _state(row: records.WorkerRow, now: int) -> str:
    if row.stopped_at is not None:
        return 'killed' if row.killed else 'stopped'
    return 'silent' if row.last_seen_at < now - completeness.SILENCE else 'running'


COMMANDS: dict[str, type[command.Command]] = {'journal workers': Workers, 'journal end-worker': EndWorker}
