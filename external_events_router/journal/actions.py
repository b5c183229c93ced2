"""Actions of operators: user, filter, number of objects and time, of the commands and of the admin API.

The steps of single events are in ``journal_steps``. An action is also recorded if it changed nothing,
and with ``[journal] record = none``.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
import contextlib
import dataclasses
import json
import random
from typing import Any
from typing import cast

from oslo_config import cfg
from oslo_log import log
import sqlalchemy as sa

from external_events_router import checks
from external_events_router import exceptions
from external_events_router.db import models
from external_events_router.db import session
from external_events_router.journal import operators
from external_events_router.journal import recorder
from external_events_router.journal import records

LOG = log.getLogger(__name__)

_actions = cast(sa.Table, models.JournalAction.__table__)

#: Maximum characters of the filter, as JSON; a longer one is replaced by its members that fit.
MAX_FILTER = 4000

#: What identifies a row: time and sequence number.
Key = tuple[int, int]


@dataclasses.dataclass(frozen=True, slots=True)
class Operator:
    """The user of an action.

    :ivar name: of the user, for people
    :ivar user_id: of Keystone; None: a user of the operating system; likewise ``project_id``
    :ivar address: of the client
    :ivar request_id: id of the request
    """

    name: str
    user_id: str | None = None
    project_id: str | None = None
    address: str | None = None
    request_id: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class ActionRow:
    """An action.

    :ivar at: microseconds since the epoch
    :ivar action: for example ``held:drop``
    :ivar filter: the objects of the action
    :ivar number: number of objects that were changed
    :ivar problem: why the action failed; None: it did not fail
    """

    at: int
    seq: int
    action: str
    operator: Operator
    filter: Mapping[str, Any]
    number: int
    problem: str | None


class Done:
    """The result of an action that is running.

    :ivar number: number of changed objects
    """

    number = 0


class Actions:
    """Writes and reads the actions. Thread-safe."""

    def __init__(self, database: session.Database) -> None:
        self._database = database

    @session.retried
    def write(
        self,
        action: str,
        operator: Operator,
        chosen: Mapping[str, Any],
        *,
        number: int,
        problem: str | None = None,
    ) -> None:
        """Record an action.

        :raises DatabaseUnavailable: the action is not recorded
        """
        row = {
            'seq': random.randrange(1, 2**53),  # noqa: S311 - not a secret
            'action': action,
            'user_id': _cut(operator.user_id, models.ID_LENGTH),
            'user_name': checks.clean_text(operator.name, models.DETAIL_LENGTH),
            'project_id': _cut(operator.project_id, models.ID_LENGTH),
            'address': _cut(operator.address, models.ID_LENGTH),
            'request_id': _cut(operator.request_id, models.ID_LENGTH),
            'filter': _encoded(chosen),
            'number': number,
            'problem': _cut(problem, models.DETAIL_LENGTH),
        }
        with self._database.writing() as connection:
            at = int(self._database.now(connection) * records.SECOND)
            connection.execute(sa.insert(_actions).values({**row, 'at': at}))

    @session.retried
    def read(self, *, since: int = 0, after: Key | None = None, limit: int) -> list[ActionRow]:
        """Return actions, the newest first.

        :param since: microseconds since the epoch
        :param after: only actions that are older than this one
        :raises DatabaseUnavailable: the actions cannot be read
        """
        at, seq = _actions.c.at, _actions.c.seq
        query = sa.select(_actions).where(at >= since).order_by(at.desc(), seq.desc()).limit(limit)
        if after is not None:
            query = query.where(at <= after[0], sa.or_(at < after[0], seq < after[1]))
        with self._database.reading() as connection:
            return [_row(row) for row in connection.execute(query)]


Recording = Callable[[str, Mapping[str, Any]], contextlib.AbstractContextManager[Done]]


def recording(actions: Actions, operator: Operator) -> Recording:
    """Return a context manager that records an action and its result at its end.

    If the action cannot be recorded, the log has a WARNING: the action has been done nevertheless. The
    log has each action, too.
    """

    @contextlib.contextmanager
    def record(action: str, chosen: Mapping[str, Any]) -> Iterator[Done]:
        done = Done()
        problem: str | None = None
        try:
            yield done
        except Exception as exc:
            problem = str(exc) if isinstance(exc, exceptions.RouterError) else type(exc).__name__
            raise
        finally:
            _write(actions, operator, action, chosen, done.number, problem)

    return record


def of_command(conf: cfg.ConfigOpts) -> Operator:
    """Return the operator who runs a command."""
    return Operator(f'{operators.user()}@{conf.host}')


def open_actions(conf: cfg.ConfigOpts) -> tuple[Actions, session.Database]:
    """Return the actions in the journal of the configuration, and its database, which the caller closes.

    :raises ConfigurationError: the option names a database that is not supported
    """
    database = recorder.open_database(conf)
    return Actions(database), database


def _write(
    actions: Actions,
    operator: Operator,
    action: str,
    chosen: Mapping[str, Any],
    number: int,
    problem: str | None,
) -> None:
    LOG.info(
        'operator %a (%s): %s, filter %s: %d objects changed%s',
        *(operator.name, operator.user_id or operator.address or 'command', action, _encoded(chosen), number),
        f', failed: {problem!a}' if problem else '',
    )
    try:
        actions.write(action, operator, chosen, number=number, problem=problem)
    except exceptions.RouterError as exc:
        LOG.warning('The journal does not contain the action %s: %s', action, exc)


def _encoded(chosen: Mapping[str, Any]) -> str:
    """Return the members of a filter that have a value, as JSON."""
    kept = {name: value for name, value in chosen.items() if value not in (None, '', [], ())}
    text = json.dumps(kept)
    while len(text) > MAX_FILTER and kept:
        longest = max(kept, key=lambda name: len(json.dumps(kept[name])))
        del kept[longest]
        text = json.dumps({**kept, 'left_out': longest})
    return text


def _row(row: Any) -> ActionRow:
    try:
        chosen = json.loads(row.filter)
    except (ValueError, RecursionError):
        chosen = None
    operator = Operator(row.user_name, row.user_id, row.project_id, row.address, row.request_id)
    return ActionRow(
        at=row.at,
        seq=row.seq,
        action=row.action,
        operator=operator,
        filter=chosen if isinstance(chosen, dict) else {},
        number=row.number,
        problem=row.problem,
    )


def _cut(text: str | None, length: int) -> str | None:
    return None if text is None else checks.clean_text(text, length)
