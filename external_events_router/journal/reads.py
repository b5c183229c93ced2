"""Reads the journal. Every read uses an index, for every selection of rows.

An index that begins with the hour is read once for each hour of the period. A long period is
read in parts, nearest part first, so that a limited read of a long period stays short.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Iterator
from collections.abc import Sequence
import dataclasses
import json
from typing import Any
from typing import TypeVar
from typing import cast

import sqlalchemy as sa

from external_events_router import checks
from external_events_router.db import models
from external_events_router.db import session
from external_events_router.journal import reasons
from external_events_router.journal import records

_events = cast(sa.Table, models.JournalEvent.__table__)
_requests = cast(sa.Table, models.JournalRequest.__table__)
_event_hosts = cast(sa.Table, models.JournalEventHost.__table__)
_steps = cast(sa.Table, models.JournalStep.__table__)
_refusals = cast(sa.Table, models.JournalRefusal.__table__)

#: Hours of the first part of a long period, the factor by which each further part is longer, and the
#: maximum number of hours of a part.
FIRST_PART = 2
GROWTH = 4
LONGEST_PART = 128

#: Rows of one read, unless the caller states another number.
LIMIT = 1000

#: The identity of a row: time, worker, sequence number.
Key = tuple[int, int, int]

_Row = TypeVar('_Row', records.EventRow, records.StepRow, records.RefusalRow)


@dataclasses.dataclass(frozen=True, slots=True)
class Selection:
    """Selects the events or steps that match all given values.

    :ivar tag: for network events, the port, as its sender wrote it; this and the following members do not
        apply to steps
    :ivar request_id: the id of the router or of the sender
    :ivar codes: codes in the answer
    :ivar names: names of events; this selection has no separate index
    :ivar kinds: for steps only
    """

    server_uuid: str | None = None
    event_id: str | None = None
    host: str | None = None
    tag: str | None = None
    request_id: str | None = None
    user_id: str | None = None
    codes: frozenset[int] | None = None
    names: frozenset[str] | None = None
    kinds: frozenset[reasons.Step] | None = None
    reasons: frozenset[reasons.Reason] | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Period:
    """A period of the journal, in microseconds; both ends belong to it.

    :ivar after: return only rows beyond this one, in the order of the read
    :ivar newest_first: the order of the read; else oldest first
    """

    since: int
    until: int
    after: Key | None = None
    newest_first: bool = False

    def parts(self) -> Iterator[tuple[int, int]]:
        """Split the period, in the order of the read: first and last hour of each part."""
        first, last = self.since // records.HOUR, self.until // records.HOUR
        if self.after is not None:
            reached = self.after[0] // records.HOUR
            first, last = (first, min(last, reached)) if self.newest_first else (max(first, reached), last)
        hours = FIRST_PART
        while first <= last:
            if self.newest_first:
                yield max(first, last - hours + 1), last
                last -= hours
            else:
                yield first, min(last, first + hours - 1)
                first += hours
            hours = min(hours * GROWTH, LONGEST_PART)


class Reader:
    """Reads rows of the journal. Thread-safe."""

    def __init__(self, database: session.Database) -> None:
        self._database = database

    @session.retried
    def now(self) -> int:
        """Return the time of the database, in microseconds.

        :raises DatabaseUnavailable: the database cannot be asked
        """
        with self._database.reading() as connection:
            return int(self._database.now(connection) * records.SECOND)

    def events(self, selection: Selection, period: Period, *, limit: int = LIMIT) -> list[records.EventRow]:
        """Return events that arrived in a period.

        :raises DatabaseUnavailable: the database cannot be asked
        """
        return self._read(_event_queries(selection), period, limit, _event_row)

    def steps(self, selection: Selection, period: Period, *, limit: int = LIMIT) -> list[records.StepRow]:
        """Later steps of events that happened in a period.

        :raises DatabaseUnavailable: the database cannot be asked
        """
        return self._read(_step_queries(selection), period, limit, _step_row)

    def refusals(
        self, period: Period, *, request_id: str | None = None, limit: int = LIMIT
    ) -> list[records.RefusalRow]:
        """Return requests that were refused in a period.

        :param request_id: only those with this id, of the router or of the sender
        :raises DatabaseUnavailable: the database cannot be asked
        """
        queries = [_Query(sa.select(_refusals), _key(_refusals, 'at'))]
        if request_id is not None:
            columns, stored = (_refusals.c.request_id, _refusals.c.global_request_id), _stored_id(request_id)
            queries = [
                _Query(sa.select(_refusals).where(column == stored), _key(_refusals, 'at'), by_hour=True)
                for column in columns
            ]
        return self._read(queries, period, limit, _refusal_row)

    def _read(
        self,
        queries: Sequence[_Query],
        period: Period,
        limit: int,
        made: Callable[[Any], _Row],
    ) -> list[_Row]:
        found: list[_Row] = []
        # NOTE: an index without the hour returns the rows in their order: no parts are needed.
        parts: Iterator[tuple[int, int] | None] = iter((None,))
        if any(query.by_hour for query in queries):
            parts = self._with_rows(period, {query.key[0] for query in queries}).parts()
        for part in parts:
            if len(found) >= limit:
                break
            rows: dict[Key, _Row] = {}
            for query in queries:
                for row in self._fetch(_bounded(query, period, part, limit - len(found))):
                    rows[row[0], row.worker, row.seq] = made(row)
            ordered = sorted(rows, reverse=period.newest_first)[: limit - len(found)]
            found += [rows[key] for key in ordered]
        return found

    @session.retried
    def _with_rows(self, period: Period, times: Collection[sa.Column[int]]) -> Period:
        """Limit a long period to the time between the first and the last row.

        :param times: columns of the primary keys, by which the tables are read
        """
        if period.until - period.since <= LONGEST_PART * records.HOUR:
            return period
        edges: list[int] = []
        with self._database.reading() as connection:
            for at in times:
                for order in (at, at.desc()):
                    edges += connection.scalars(sa.select(at).order_by(order).limit(1)).all()
        if not edges:
            return dataclasses.replace(period, until=period.since)
        since, until = max(period.since, min(edges)), min(period.until, max(edges))
        return dataclasses.replace(period, since=since, until=max(since, until))

    @session.retried
    def _fetch(self, query: sa.Select[Any]) -> Sequence[sa.Row[Any]]:
        with self._database.reading() as connection:
            return connection.execute(query).all()


@dataclasses.dataclass(frozen=True, slots=True)
class _Query:
    """A statement whose rows are read by one index.

    :ivar key: the time, the worker and the sequence number
    :ivar by_hour: the index begins with the hour, of the table with the time
    """

    statement: sa.Select[Any]
    key: Sequence[sa.Column[int]]
    by_hour: bool = False


def _key(table: sa.Table, time_column: str) -> Sequence[sa.Column[int]]:
    return table.c[time_column], table.c.worker, table.c.seq


def _bounded(query: _Query, period: Period, part: tuple[int, int] | None, limit: int) -> sa.Select[Any]:
    """Limit a query to a part of the period, and order it."""
    at, since, until = query.key[0], period.since, period.until
    statement = query.statement
    if query.by_hour and part is not None:
        first, last = part
        statement = statement.where(at.table.c.hour.in_(range(first, last + 1)))
        since, until = max(since, first * records.HOUR), min(until, (last + 1) * records.HOUR - 1)
    statement = statement.where(at >= since, at <= until)
    if period.after is not None:
        statement = statement.where(_beyond(query.key, period.after, newest_first=period.newest_first))
    order = [column.desc() for column in query.key] if period.newest_first else list(query.key)
    return statement.order_by(*order).limit(limit)


def _beyond(columns: Sequence[sa.Column[int]], key: Key, *, newest_first: bool) -> sa.ColumnElement[bool]:
    # NOTE: not a comparison of rows, for which MariaDB reads no range of an index.
    at, worker, seq = columns
    if newest_first:
        later = sa.or_(at < key[0], worker < key[1], sa.and_(worker == key[1], seq < key[2]))
        return sa.and_(at <= key[0], later)
    later = sa.or_(at > key[0], worker > key[1], sa.and_(worker == key[1], seq > key[2]))
    return sa.and_(at >= key[0], later)


def stored_tag(tag: str | None) -> str | None:
    """Return a tag as the journal stores it."""
    return None if tag is None else checks.clean_text(tag, models.TAG_LENGTH)


def _stored_id(text: str | None) -> str | None:
    return None if text is None else checks.clean_text(text, models.ID_LENGTH)


def _event_queries(selection: Selection) -> list[_Query]:
    """Return queries whose rows together are the selected rows; each query uses one index."""
    every = sa.select(_events, *_request_columns()).select_from(_with_request())
    base = _narrowed(every, selection)
    chosen = _reasons(selection)
    narrow = base if chosen is None else base.where(_events.c.reason.in_(sorted(chosen)))
    on_host = narrow if selection.host is None else narrow.where(_on_host(selection.host))
    key = _key(_events, 'received_at')
    if any(value is not None for value in (selection.server_uuid, selection.event_id, selection.tag)):
        by_request = () if selection.request_id is None else (sa.or_(*_of_request(selection.request_id)),)
        return [_Query(on_host.where(*by_request), key, by_hour=True)]
    request_key = (_requests.c.received_at, _requests.c.worker, _events.c.seq)
    if selection.request_id is not None:
        conditions = _of_request(selection.request_id)
        return [_Query(on_host.where(condition), request_key, by_hour=True) for condition in conditions]
    if selection.host is not None:
        host_key = _key(_event_hosts, 'received_at')
        further = narrow.join(_event_hosts, _same_row(_event_hosts))
        return [
            _Query(narrow.where(_events.c.host == selection.host), key, by_hour=True),
            _Query(further.where(_event_hosts.c.host == selection.host), host_key, by_hour=True),
        ]
    if selection.user_id is not None:
        return [_Query(narrow, request_key)]
    if chosen is None:
        return [_Query(base, key)]
    # NOTE: the index has the rows of one reason in the order of time, so that a read ends at
    # the limit. For several reasons together the database would sort all of their rows.
    return [_Query(base.where(_events.c.reason == reason), key) for reason in sorted(chosen)]


def _of_request(request_id: str) -> tuple[sa.ColumnElement[bool], sa.ColumnElement[bool]]:
    stored = _stored_id(request_id)
    return _requests.c.request_id == stored, _requests.c.global_request_id == stored


def _narrowed(statement: sa.Select[Any], selection: Selection) -> sa.Select[Any]:
    for column, value in (
        (_events.c.server_uuid, selection.server_uuid),
        (_events.c.event_id, selection.event_id),
        (_events.c.tag, stored_tag(selection.tag)),
        (_requests.c.user_id, _stored_id(selection.user_id)),
    ):
        if value is not None:
            statement = statement.where(column == value)
    if selection.names is not None:
        statement = statement.where(_events.c.name.in_(sorted(selection.names)))
    return statement


def _reasons(selection: Selection) -> Collection[str] | None:
    """Return the reasons of the events that are selected; a reason has one code."""
    if selection.codes is None:
        return selection.reasons
    of_codes = {reason for reason, code in reasons.CODES.items() if int(code) in selection.codes}
    return of_codes if selection.reasons is None else of_codes & selection.reasons


def _same_row(table: sa.Table) -> sa.ColumnElement[bool]:
    return sa.and_(
        table.c.received_at == _events.c.received_at,
        table.c.worker == _events.c.worker,
        table.c.seq == _events.c.seq,
    )


def _on_host(host: str) -> sa.ColumnElement[bool]:
    further = sa.select(_event_hosts.c.seq).where(_same_row(_event_hosts), _event_hosts.c.host == host)
    return sa.or_(_events.c.host == host, further.exists())


def _with_request() -> sa.FromClause:
    return _events.outerjoin(
        _requests,
        sa.and_(
            _requests.c.received_at == _events.c.received_at,
            _requests.c.worker == _events.c.worker,
            _requests.c.seq <= _events.c.seq,
            _requests.c.seq + _requests.c.events > _events.c.seq,
        ),
    )


def _request_columns() -> list[sa.Label[Any]]:
    return [column.label(f'request_{column.name}') for column in _requests.c]


def _step_queries(selection: Selection) -> list[_Query]:
    statement, key, by_hour = sa.select(_steps), _key(_steps, 'at'), False
    for column, value in (
        (_steps.c.server_uuid, selection.server_uuid),
        (_steps.c.event_id, selection.event_id),
        (_steps.c.host, selection.host),
    ):
        if value is not None:
            statement, by_hour = statement.where(column == value), True
    if selection.kinds is None:
        return [_Query(statement, key, by_hour)]
    kinds = sorted(selection.kinds)
    if by_hour:
        return [_Query(statement.where(_steps.c.kind.in_(kinds)), key, by_hour)]
    return [_Query(statement.where(_steps.c.kind == kind), key) for kind in kinds]


def _event_row(row: Any) -> records.EventRow:
    return records.EventRow(
        received_at=row.received_at,
        worker=row.worker,
        seq=row.seq,
        event_id=row.event_id,
        server_uuid=row.server_uuid,
        name=row.name,
        tag=row.tag,
        status=row.status,
        code=row.code,
        reason=reasons.Reason(row.reason),
        detail=row.detail,
        hosts=_texts(row.hosts) or ((row.host,) if row.host else ()),
        ack_ms=row.ack_ms,
        handling=_handling(row),
        replayed=bool(row.replayed),
        request=None if row.request_seq is None else _request_row(row),
    )


def _request_row(row: Any) -> records.RequestRow:
    return records.RequestRow(
        received_at=row.request_received_at,
        worker=row.request_worker,
        seq=row.request_seq,
        events=row.request_events,
        request_id=row.request_request_id,
        global_request_id=row.request_global_request_id,
        user_id=row.request_user_id,
        project_id=row.request_project_id,
        duration_ms=row.request_duration_ms,
    )


def _step_row(row: Any) -> records.StepRow:
    return records.StepRow(
        at=row.at,
        worker=row.worker,
        seq=row.seq,
        event_id=row.event_id,
        server_uuid=row.server_uuid,
        kind=reasons.Step(row.kind),
        host=row.host,
        detail=row.detail,
        attempt=row.attempt,
        actor=row.actor,
        handling=_handling(row),
    )


def _refusal_row(row: Any) -> records.RefusalRow:
    return records.RefusalRow(
        at=row.at,
        worker=row.worker,
        seq=row.seq,
        status=row.status,
        reason=reasons.Refusal(row.reason),
        detail=row.detail,
        user_id=row.user_id,
        user_name=row.user_name,
        project_id=row.project_id,
        address=row.address,
        request_id=row.request_id,
        global_request_id=row.global_request_id,
        suppressed=row.suppressed,
        servers=_texts(row.servers),
        names=_texts(row.names),
    )


def _handling(row: Any) -> records.Handling | None:
    if row.waiter is None:
        return None
    return records.Handling(bool(row.waiter), row.wait_ms, row.handler, row.handler_ms)


def _texts(column: str | None) -> tuple[str, ...]:
    """Return the texts of a JSON list; none for null and for a damaged value."""
    try:
        values = json.loads(column) if column else ()
    except (ValueError, RecursionError):
        return ()
    return tuple(value for value in values if isinstance(value, str)) if isinstance(values, list) else ()
