"""The instance actions of one server, read from the database of its cell for an operator.

nova-compute records when a boot, migration or resize began and ended, and its error. This
shows whether an event arrived before, within or after the wait of the action.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Mapping
import contextlib
import dataclasses
import datetime
from typing import Any

from oslo_config import cfg
import sqlalchemy as sa

from external_events_router import checks
from external_events_router.db import session
from external_events_router.resolver.drivers.nova import cells
from external_events_router.resolver.drivers.nova import tables

#: Maximum number of actions of a server. The newest are read.
MAX_ACTIONS = 100

#: Maximum number of steps of these actions.
MAX_STEPS = 1000

_OPTION = '[nova] api_connection'
_FAILED = 'error'


@dataclasses.dataclass(frozen=True, slots=True)
class Step:
    """A part of an action on one host.

    :ivar name: Nova's name, such as ``compute__do_build_and_run_instance``
    :ivar host: empty if Nova recorded none
    :ivar started: seconds since the epoch, by the clock of the host; likewise ``finished``
    :ivar finished: None: it has not ended
    :ivar error: None: it has not failed
    """

    name: str
    host: str
    started: float
    finished: float | None = None
    error: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Action:
    """An action of a user or of Nova on the server.

    :ivar name: such as ``create`` or ``live-migration``
    :ivar request_id: the request id of the request to Nova
    :ivar started: seconds since the epoch, by the clock of Nova's host; likewise ``finished``
    :ivar finished: None: it has not ended, or Nova did not record the end
    :ivar error: None: it has not failed
    """

    name: str
    request_id: str
    started: float
    finished: float | None = None
    error: str | None = None
    steps: tuple[Step, ...] = ()


def read(conf: cfg.ConfigOpts, server_uuid: str, *, since: float, until: float) -> list[Action]:
    """Return the actions of a server in a period, the oldest first; none for an unknown server.

    :param since: seconds since the epoch; likewise ``until``
    :raises ConfigurationError: ``[nova] api_connection`` or the mapping of the cell cannot be used
    :raises DatabaseUnavailable: a database cannot be read
    """
    row = _mapping(conf, server_uuid)
    if row is None or row['cell_uuid'] is None:
        return []
    cell = cells.Urls.from_conf(conf).cell(row)
    database = session.Database.at(conf, cell.database, option=f'database_connection of {cell}')
    with contextlib.closing(database):
        actions, steps = _rows(database, server_uuid, until=_naive(until))
    built = [
        _action(action, [step for step in steps if step['action_id'] == action['id']]) for action in actions
    ]
    return [action for action in built if action.finished is None or action.finished >= since]


def _mapping(conf: cfg.ConfigOpts, server_uuid: str) -> Mapping[str, Any] | None:
    database = session.Database.at(conf, conf.nova.api_connection, option=_OPTION)
    with contextlib.closing(database):
        return _mapping_row(database, server_uuid)


@session.retried
def _mapping_row(database: session.Database, server_uuid: str) -> Mapping[str, Any] | None:
    mappings = tables.instance_mappings
    query = (
        sa.select(mappings.c.instance_uuid, *cells.COLUMNS)
        .select_from(mappings.outerjoin(tables.cell_mappings))
        .where(mappings.c.instance_uuid == server_uuid)
    )
    with database.reading() as connection:
        row = connection.execute(query).mappings().first()
    return None if row is None else dict(row)


@session.retried
def _rows(
    database: session.Database, server_uuid: str, *, until: datetime.datetime
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    actions, steps = tables.instance_actions, tables.instance_actions_events
    newest = (
        sa.select(actions)
        .where(actions.c.instance_uuid == server_uuid, actions.c.start_time <= until)
        .order_by(actions.c.id.desc())
        .limit(MAX_ACTIONS)
    )
    with database.reading() as connection:
        found = [dict(row) for row in connection.execute(newest).mappings()][::-1]
        of_actions = (
            sa.select(steps)
            .where(steps.c.action_id.in_([row['id'] for row in found]))
            .order_by(steps.c.id)
            .limit(MAX_STEPS)
        )
        return found, [dict(row) for row in connection.execute(of_actions).mappings()]


def _action(row: Mapping[str, Any], rows: Iterable[Mapping[str, Any]]) -> Action:
    steps = tuple(_step(each) for each in rows if each['start_time'] is not None)
    ends = [step.finished for step in steps]
    finished = _seconds(row['finish_time'])
    if finished is None and ends and None not in ends:
        # NOTE: Nova leaves the end of most actions empty; the last of its steps shows it.
        finished = max(end for end in ends if end is not None)
    failed = next((step.error for step in steps if step.error is not None), None)
    if (row['message'] or '').lower() == _FAILED:
        failed = failed or 'Nova recorded an error'
    return Action(
        name=checks.clean_text(row['action'] or ''),
        request_id=checks.clean_text(row['request_id'] or ''),
        started=_seconds(row['start_time']) or 0.0,
        finished=finished,
        error=failed,
        steps=steps,
    )


def _step(row: Mapping[str, Any]) -> Step:
    name, failed = checks.clean_text(row['event'] or ''), (row['result'] or '').lower() == _FAILED
    error = f'{name}: {row["details"] or "no details"}' if failed else None
    return Step(
        name=name,
        host=checks.clean_text(row['host'] or ''),
        started=_seconds(row['start_time']) or 0.0,
        finished=_seconds(row['finish_time']),
        error=None if error is None else checks.clean_text(error),
    )


def _seconds(value: datetime.datetime | None) -> float | None:
    return None if value is None else value.replace(tzinfo=datetime.UTC).timestamp()


def _naive(seconds: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).replace(tzinfo=None)
