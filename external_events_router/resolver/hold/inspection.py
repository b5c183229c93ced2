"""The hold for operators: reading it, and changing it on request.

It uses the tables like another worker, and needs no running worker. ``store`` contains the operations of the
service.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
import dataclasses
import itertools
import json
from typing import Any
from typing import cast

import sqlalchemy as sa

from external_events_router import events
from external_events_router import exceptions
from external_events_router.db import migration
from external_events_router.db import models
from external_events_router.db import session
from external_events_router.journal import entries
from external_events_router.journal import reasons
from external_events_router.resolver.hold import base
from external_events_router.resolver.hold import store

_servers = cast(sa.Table, models.HeldServer.__table__)
_hosts = cast(sa.Table, models.HeldHost.__table__)
_held = cast(sa.Table, models.HeldEvent.__table__)
_ended = cast(sa.Table, models.EndedEvent.__table__)

#: Number of events that are read or changed at a time.
PAGE = 500


@dataclasses.dataclass(frozen=True, slots=True)
class Selection:
    """Selects events of the hold that match all given values.

    :ivar host: they have to be acknowledged by this host, or had to be
    :ivar last_held: only held events up to this number; None: all. Likewise ``last_ended``
    """

    event_ids: frozenset[str] | None = None
    state: base.State | None = None
    host: str | None = None
    server_uuid: str | None = None
    last_held: int | None = None
    last_ended: int | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Position:
    """A position in the list of all events of the hold.

    :ivar ended: whether it is among the ended events, which follow the held events
    :ivar seq: the number of the event before it
    """

    ended: bool
    seq: int


@dataclasses.dataclass(frozen=True, slots=True)
class Dropped:
    """The result of a deletion.

    :ivar events: number of deleted events
    :ivar hosts: hosts that had not acknowledged them: a copy of an event may be in the queue of such
        a host, or in a running attempt, and then its agent handles it
    :ivar until: seconds since the epoch, by the clock of the database, after which no agent handles a
        copy; None: there are no such hosts
    """

    events: int = 0
    hosts: frozenset[str] = frozenset()
    until: float | None = None

    def __add__(self, other: Dropped) -> Dropped:
        ends = [each.until for each in (self, other) if each.until is not None]
        return Dropped(self.events + other.events, self.hosts | other.hosts, max(ends, default=None))


class Inspection:
    """Reads and changes the hold. Its memory use does not depend on the size of the hold."""

    def __init__(
        self,
        database: session.Database,
        *,
        journal: Callable[[Sequence[entries.Step]], None] = lambda steps: None,
    ) -> None:
        """:param journal: records what was done to events"""
        self._journal = journal
        self._database = database
        self._insert_server = database.insert_or_merge(_servers, store.merge_held)

    def check(self) -> None:
        """Check that the database is available and its schema is supported.

        :raises ConfigurationError: with ``[database] connection``
        """
        migration.check(self._database)

    def records(
        self, selection: Selection = Selection(), *, after: Position | None = None
    ) -> Iterator[base.Record]:
        """Yield events of the hold: held events in their order, then ended events in their order.

        This is not a snapshot: events that change meanwhile may be missing.

        :param after: begin after this position; None: with the first event
        :raises DatabaseUnavailable: the database is unavailable
        """
        after = after or Position(ended=False, seq=0)
        if selection.state in (None, base.State.HELD) and not after.ended:
            yield from self._pages(self._held_page, selection, after.seq)
        if selection.state is not base.State.HELD:
            yield from self._pages(self._ended_page, selection, after.seq if after.ended else 0)

    def make_due(self, selection: Selection = Selection()) -> int:
        """Schedule an immediate retry for the servers of held events.

        :returns: number of servers
        :raises DatabaseUnavailable: not all servers are scheduled
        """
        held = store.HoldStore(self._database)
        made = 0
        last = ''
        while page := self._server_page(selection, after=last):
            made += held.make_due(servers=page)
            last = page[-1]
        return made

    def requeue(self, ended: Iterable[base.Record], *, ttl: Callable[[events.Event], float]) -> int:
        """Hold ended events again, in their order, after the held events of their servers.

        All hosts of the server are asked again. Hosts that remember the event do not handle it
        again. An event whose row cannot be read is not changed.

        :param ttl: returns the seconds until the deadline of an event, from now
        :returns: number of events
        :raises DatabaseUnavailable: not all events are held again
        """
        number = 0
        for page in _paged(ended):
            held = self._requeue([record.seq for record in page], ttl)
            number += len(held)
            self._journal([_step(record, reasons.Step.HELD) for record in page if record.seq in held])
        return number

    def drop(self, selection: Selection, *, grace: float = 0.0) -> Dropped:
        """Delete events, held or ended: there is no further attempt to deliver them.

        :param grace: seconds by which an attempt may extend the deadline of an event
        :raises DatabaseUnavailable: not all events are deleted
        """
        dropped = Dropped()
        for page in _paged(self.records(selection)):
            held = [record for record in page if record.state is base.State.HELD]
            ended = [record.seq for record in page if record.state is not base.State.HELD]
            dropped += self._drop_held_records(held, grace=grace)
            dropped += Dropped(self._drop_ended(ended))
        return dropped

    def _drop_held_records(self, held: Sequence[base.Record], *, grace: float) -> Dropped:
        hosts: frozenset[str] = frozenset().union(*(record.hosts for record in held))
        until = (
            max((record.expires_at + grace for record in held if record.expires_at is not None), default=None)
            if hosts
            else None
        )
        dropped = self._drop_held([record.seq for record in held])
        self._journal([_step(record, reasons.Step.DROPPED) for record in held if record.seq in dropped])
        return Dropped(len(dropped), hosts, until)

    def _pages(
        self, read: Callable[[Selection, int], list[base.Record]], selection: Selection, after: int
    ) -> Iterator[base.Record]:
        while page := read(selection, after):
            # NOTE: the hosts of ended events are JSON in a text column, which SQL can only match with a
            # pattern.
            yield from (record for record in page if selection.host in (None, *record.hosts))
            after = page[-1].seq

    @session.retried
    def _held_page(self, selection: Selection, after: int) -> list[base.Record]:
        query = (
            self._narrowed(sa.select(_held, _servers.c.attempts, _servers.c.reason), _held, selection)
            .join(_servers, _servers.c.server_uuid == _held.c.server_uuid)
            .where(_held.c.seq > after)
            .order_by(_held.c.seq)
            .limit(PAGE)
        )
        if selection.host is not None:
            query = query.where(_held.c.server_uuid.in_(_waiting_for(selection.host)))
        with self._database.reading() as connection:
            rows = connection.execute(query).all()
            waits_for = self._hosts_of(connection, {row.server_uuid for row in rows})
        return [
            _record(
                row,
                base.State.HELD,
                waits_for.get(row.server_uuid, ()),
                expires_at=row.deadline,
                acknowledged=sorted(store.hosts_among(row.acknowledged)),
            )
            for row in rows
        ]

    @session.retried
    def _ended_page(self, selection: Selection, after: int) -> list[base.Record]:
        query = self._narrowed(sa.select(_ended), _ended, selection)
        query = query.where(_ended.c.seq > after).order_by(_ended.c.seq).limit(PAGE)
        if selection.state is not None:
            query = query.where(_ended.c.state == str(selection.state))
        if selection.host is not None:
            query = query.where(_ended.c.hosts.contains(json.dumps(selection.host), autoescape=True))
        with self._database.reading() as connection:
            rows = connection.execute(query).all()
        return [
            _record(row, base.State(row.state), sorted(models.host_set(row.hosts)), ended_at=row.ended_at)
            for row in rows
        ]

    @session.retried
    def _server_page(self, selection: Selection, *, after: str) -> Sequence[str]:
        query = sa.select(_servers.c.server_uuid).where(_servers.c.server_uuid > after)
        if selection.server_uuid is not None:
            query = query.where(_servers.c.server_uuid == selection.server_uuid)
        if selection.host is not None:
            query = query.where(_servers.c.server_uuid.in_(_waiting_for(selection.host)))
        if selection.event_ids is not None:
            of_events = self._database.among(_held.c.event_id, selection.event_ids)
            query = query.where(_servers.c.server_uuid.in_(sa.select(_held.c.server_uuid).where(of_events)))
        with self._database.reading() as connection:
            return connection.scalars(query.order_by(_servers.c.server_uuid).limit(PAGE)).all()

    @session.retried
    def _requeue(self, seqs: Sequence[int], ttl: Callable[[events.Event], float]) -> frozenset[int]:
        """Hold events again; return their rows."""
        query = sa.select(_ended).where(_ended.c.seq.in_(seqs)).order_by(_ended.c.seq).with_for_update()
        with self._database.writing() as connection:
            rows = [row for row in connection.execute(query) if _is_readable(row)]
            if not rows:
                return frozenset()
            now = self._database.now(connection)
            last = {row.server_uuid: row.reason for row in rows}
            connection.execute(
                self._insert_server,
                [store.new_server(uuid, last[uuid], due=now) for uuid in sorted(last)],
            )
            pairs = {(row.server_uuid, host) for row in rows for host in models.host_set(row.hosts)}
            hosts = [{'server_uuid': uuid, 'host': host} for uuid, host in sorted(pairs)]
            self._database.insert_missing(connection, _hosts, hosts)
            self._database.insert_missing(connection, _held, [_again(row, now, ttl) for row in rows])
            connection.execute(sa.delete(_ended).where(_ended.c.seq.in_([row.seq for row in rows])))
        return frozenset(row.seq for row in rows)

    @session.retried
    def _drop_held(self, seqs: Sequence[int]) -> frozenset[int]:
        """Delete rows; return the rows that existed."""
        if not seqs:
            return frozenset()
        chosen = _held.c.seq.in_(seqs)
        of_servers = sa.select(_held.c.server_uuid).where(chosen)
        locked = (
            sa.select(_servers.c.server_uuid)
            .where(_servers.c.server_uuid.in_(of_servers))
            .order_by(_servers.c.server_uuid)
            .with_for_update()
        )
        with self._database.writing() as connection:
            servers = connection.scalars(locked).all()
            dropped = frozenset(connection.scalars(sa.select(_held.c.seq).where(chosen)))
            connection.execute(sa.delete(_held).where(chosen))
            left = sa.select(_held.c.server_uuid).where(_held.c.server_uuid == _servers.c.server_uuid)
            connection.execute(
                sa.delete(_servers).where(
                    self._database.among(_servers.c.server_uuid, servers), ~left.exists()
                )
            )
        return dropped

    @session.retried
    def _drop_ended(self, seqs: Sequence[int]) -> int:
        if not seqs:
            return 0
        with self._database.writing() as connection:
            return connection.execute(sa.delete(_ended).where(_ended.c.seq.in_(seqs))).rowcount

    def _narrowed(self, query: sa.Select[Any], table: sa.Table, selection: Selection) -> sa.Select[Any]:
        if selection.server_uuid is not None:
            query = query.where(table.c.server_uuid == selection.server_uuid)
        if selection.event_ids is not None:
            query = query.where(self._database.among(table.c.event_id, selection.event_ids))
        last = selection.last_held if table is _held else selection.last_ended
        return query if last is None else query.where(table.c.seq <= last)

    def _hosts_of(self, connection: sa.Connection, server_uuids: Collection[str]) -> dict[str, list[str]]:
        query = sa.select(_hosts).where(self._database.among(_hosts.c.server_uuid, server_uuids))
        found: dict[str, list[str]] = {}
        for row in connection.execute(query.order_by(_hosts.c.host)):
            found.setdefault(row.server_uuid, []).append(row.host)
        return found


def require_found(found: Iterable[base.Record], event_ids: Collection[str]) -> None:
    """Check that every event id was found.

    :raises NoSuchEvent: with the first missing id
    """
    missing = set(event_ids) - {record.event.id for record in found}
    if missing:
        raise exceptions.NoSuchEvent(event_id=min(missing))


def _step(record: base.Record, kind: reasons.Step) -> entries.Step:
    return entries.Step(record.event.id, record.event.server_uuid, kind)


def _waiting_for(host: str) -> sa.Select[tuple[str]]:
    return sa.select(_hosts.c.server_uuid).where(_hosts.c.host == host)


def _paged(items: Iterable[Any]) -> Iterator[list[Any]]:
    remaining = iter(items)
    while page := list(itertools.islice(remaining, PAGE)):
        yield page


def _is_readable(row: Any) -> bool:
    try:
        events.Event.from_dict(json.loads(row.event))
    except store.DAMAGED:
        return False
    return True


def _again(row: Any, now: float, ttl: Callable[[events.Event], float]) -> dict[str, Any]:
    event = events.Event.from_dict(json.loads(row.event))
    return {
        'event_id': row.event_id,
        'server_uuid': row.server_uuid,
        'event': row.event,
        'context': row.context,
        'held_at': now,
        'deadline': now + ttl(event),
        'acknowledged': '[]',
    }


def _record(
    row: Any,
    state: base.State,
    hosts: Sequence[str],
    *,
    expires_at: float | None = None,
    ended_at: float | None = None,
    acknowledged: Sequence[str] = (),
) -> base.Record:
    kept: dict[str, Any] = store.loaded(row.context, dict, {})
    return base.Record(
        seq=row.seq,
        state=state,
        event=store.event_of(row),
        request_id=kept.get('global_request_id') or kept.get('request_id'),
        hosts=tuple(hosts),
        attempts=row.attempts,
        reason=row.reason,
        held_at=row.held_at,
        expires_at=expires_at,
        ended_at=ended_at,
        acknowledged=tuple(acknowledged),
    )
