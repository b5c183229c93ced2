"""Held events in SQL.

Every method is one transaction, safe beside others of the same kind, here and
in other processes. When something is tried is the courier's business; here is
what makes that safe: a server's row is claimed by one worker, for a time, by
the database's clock.
"""

from __future__ import annotations

import collections
from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
import json
from typing import Any
from typing import cast

import sqlalchemy as sa

from external_events_router import events
from external_events_router.db import models
from external_events_router.db import session
from external_events_router.resolver.hold import base

_servers = cast(sa.Table, models.HeldServer.__table__)
_hosts = cast(sa.Table, models.HeldHost.__table__)
_held = cast(sa.Table, models.HeldEvent.__table__)
_ended = cast(sa.Table, models.EndedEvent.__table__)

#: Events of a server that one attempt takes; the others follow it at once.
MAX_EVENTS = 500

#: What of a request's context is kept: who asked under which id, and no token.
_CONTEXT = ('request_id', 'global_request_id', 'user_id', 'project_id', 'is_admin', 'roles')


class HoldStore:
    """The tables of the hold. Thread-safe."""

    def __init__(self, database: session.Database) -> None:
        self._database = database

    def close(self) -> None:
        """Let go of connections."""
        self._database.close()

    @session.retried
    def servers_among(self, server_uuids: Collection[str]) -> frozenset[str]:
        """Those of the servers that have events held: later ones must go behind them.

        :raises DatabaseUnavailable: the database cannot be asked
        """
        query = sa.select(_servers.c.server_uuid).where(
            self._database.among(_servers.c.server_uuid, server_uuids)
        )
        with self._database.reading() as connection:
            return frozenset(connection.scalars(query))

    @session.retried
    def servers(self, limit: int) -> frozenset[str]:
        """Servers that have events held, at most so many.

        :raises DatabaseUnavailable: the database cannot be asked
        """
        with self._database.reading() as connection:
            return frozenset(connection.scalars(sa.select(_servers.c.server_uuid).limit(limit)))

    @session.retried
    def hold(self, items: Sequence[base.Item], context: Mapping[str, Any], *, retry_after: float) -> None:
        """Hold events, in their order. One that is held already stays as it is.

        :param context: of the request that brought them, as the context's dict
        :param retry_after: seconds until the first attempt for a server that had nothing held
        :raises DatabaseUnavailable: nothing is held
        """
        kept = json.dumps({key: context.get(key) for key in _CONTEXT})
        reasons = {item.event.server_uuid: item.reason for item in reversed(items)}
        with self._database.writing() as connection:
            now = self._database.now(connection)
            # NOTE: before their events, so that the lock on a server's row
            # gives these their order.
            self._database.insert_or_lock(
                connection,
                _servers,
                [_new_server(uuid, reasons[uuid], due=now + retry_after) for uuid in sorted(reasons)],
            )
            self._database.insert_missing(connection, _hosts, _host_rows(items))
            rows = [_new_event(item, kept, now=now) for item in items]
            self._database.insert_missing(connection, _held, rows)

    @session.retried
    def claim(self, worker: str, *, limit: int, lease: float) -> list[base.Claim]:
        """Take the servers that are due, and that no other worker has, for a time.

        :param limit: servers at most
        :param lease: seconds after which another worker may take over
        :raises DatabaseUnavailable: nothing was taken
        """
        with self._database.writing() as connection:
            now = self._database.now(connection)
            due = (
                sa.select(_servers.c.server_uuid, _servers.c.attempts)
                .where(_servers.c.next_attempt <= now, _servers.c.claimed_until <= now)
                .order_by(_servers.c.next_attempt)
                .limit(limit)
                .with_for_update(skip_locked=True)
            )
            rows = connection.execute(due).all()
            if not rows:
                return []
            uuids = [row.server_uuid for row in rows]
            connection.execute(
                sa.update(_servers)
                .where(self._database.among(_servers.c.server_uuid, uuids))
                .values(claimed_by=worker, claimed_until=now + lease)
            )
            of_server = self._events(connection, uuids, now=now)
        return [base.Claim(row.server_uuid, row.attempts, of_server[row.server_uuid]) for row in rows]

    @session.retried
    def settle(self, worker: str, settlements: Sequence[base.Settlement]) -> None:
        """Write down what attempts came to, and give the servers back.

        A server that another worker has taken over meanwhile stays as it is.

        :raises DatabaseUnavailable: nothing was written; the leases will end
        """
        by_server = {settlement.server_uuid: settlement for settlement in settlements}
        with self._database.writing() as connection:
            still_mine = (
                sa.select(_servers.c.server_uuid)
                .where(
                    self._database.among(_servers.c.server_uuid, by_server), _servers.c.claimed_by == worker
                )
                .order_by(_servers.c.server_uuid)
                .with_for_update()
            )
            mine = connection.scalars(still_mine).all()
            now = self._database.now(connection)
            for server_uuid in mine:
                self._settle_one(connection, by_server[server_uuid], now=now)

    @session.retried
    def make_due(self, *, hosts: Collection[str] = (), servers: Collection[str] = ()) -> int:
        """Have servers tried now: those that wait for one of the hosts, and those named.

        :returns: how many
        :raises DatabaseUnavailable: none are
        """
        waiting = sa.select(_hosts.c.server_uuid).where(self._database.among(_hosts.c.host, hosts))
        chosen: list[sa.ColumnElement[bool]] = []
        if hosts:
            chosen.append(_servers.c.server_uuid.in_(waiting))
        if servers:
            chosen.append(self._database.among(_servers.c.server_uuid, servers))
        if not chosen:
            return 0
        # NOTE: read first, because it is mostly none, and a write is dear.
        query = sa.select(_servers.c.server_uuid).where(sa.or_(*chosen)).order_by(_servers.c.server_uuid)
        with self._database.reading() as connection:
            found = connection.scalars(query).all()
        if not found:
            return 0
        with self._database.writing() as connection:
            connection.execute(
                sa.update(_servers)
                .where(self._database.among(_servers.c.server_uuid, found))
                .values(next_attempt=self._database.now(connection), attempts=0)
            )
        return len(found)

    @session.retried
    def purge(self, keep: float) -> int:
        """Forget what ended longer ago.

        :param keep: seconds
        :returns: how many
        """
        with self._database.writing() as connection:
            before = self._database.now(connection) - keep
            done = connection.execute(sa.delete(_ended).where(_ended.c.ended_at < before))
            return done.rowcount

    @session.retried
    def records(
        self,
        *,
        state: base.State | None = None,
        host: str | None = None,
        server_uuid: str | None = None,
        event_id: str | None = None,
        limit: int | None = None,
    ) -> list[base.Record]:
        """Events of the hold for an operator to read: the held ones, then those that ended.

        :param state: only these; likewise the others
        :raises DatabaseUnavailable: the database cannot be asked
        """
        found: list[base.Record] = []
        with self._database.reading() as connection:
            if state in (None, base.State.HELD):
                found += self._held_records(connection, server_uuid, event_id)
            if state is not base.State.HELD:
                found += self._ended_records(connection, state, server_uuid, event_id)
        return [record for record in found if host is None or host in record.hosts][:limit]

    @session.retried
    def drop(self, event_ids: Collection[str]) -> int:
        """Forget events, held or ended, for good: they will not be delivered.

        :returns: how many
        :raises DatabaseUnavailable: none was
        """
        among = list(event_ids)
        with self._database.writing() as connection:
            servers = connection.scalars(
                sa.select(_servers.c.server_uuid)
                .where(
                    _servers.c.server_uuid.in_(
                        sa.select(_held.c.server_uuid).where(self._database.among(_held.c.event_id, among))
                    )
                )
                .order_by(_servers.c.server_uuid)
                .with_for_update()
            ).all()
            dropped = connection.execute(
                sa.delete(_held).where(self._database.among(_held.c.event_id, among))
            ).rowcount
            dropped += connection.execute(
                sa.delete(_ended).where(self._database.among(_ended.c.event_id, among))
            ).rowcount
            if servers:
                left = sa.select(_held.c.server_uuid).where(_held.c.server_uuid == _servers.c.server_uuid)
                connection.execute(
                    sa.delete(_servers).where(
                        self._database.among(_servers.c.server_uuid, servers), ~left.exists()
                    )
                )
        return dropped

    def _held_records(
        self, connection: sa.Connection, server_uuid: str | None, event_id: str | None
    ) -> list[base.Record]:
        query = sa.select(_held, _servers.c.attempts, _servers.c.reason).join(
            _servers, _servers.c.server_uuid == _held.c.server_uuid
        )
        waits_for: dict[str, list[str]] = collections.defaultdict(list)
        for row in connection.execute(sa.select(_hosts).order_by(_hosts.c.host)):
            waits_for[row.server_uuid].append(row.host)
        return [
            _record(row, base.State.HELD, waits_for[row.server_uuid], until=row.deadline)
            for row in connection.execute(_narrowed(query, _held, server_uuid, event_id))
        ]

    def _ended_records(
        self,
        connection: sa.Connection,
        state: base.State | None,
        server_uuid: str | None,
        event_id: str | None,
    ) -> list[base.Record]:
        query = sa.select(_ended)
        if state is not None:
            query = query.where(_ended.c.state == str(state))
        return [
            _record(row, base.State(row.state), json.loads(row.hosts), until=row.ended_at)
            for row in connection.execute(_narrowed(query, _ended, server_uuid, event_id))
        ]

    def _events(
        self, connection: sa.Connection, server_uuids: Sequence[str], *, now: float
    ) -> Mapping[str, list[base.Held]]:
        query = (
            sa.select(_held)
            .where(self._database.among(_held.c.server_uuid, server_uuids))
            .order_by(_held.c.seq)
        )
        of_server: dict[str, list[base.Held]] = collections.defaultdict(list)
        for row in connection.execute(query):
            if len(of_server[row.server_uuid]) == MAX_EVENTS:
                continue
            of_server[row.server_uuid].append(
                base.Held(
                    seq=row.seq,
                    event=events.Event.from_dict(json.loads(row.event)),
                    context=json.loads(row.context),
                    remaining=row.deadline - now,
                    acknowledged=frozenset(json.loads(row.acknowledged)),
                )
            )
        return of_server

    def _settle_one(self, connection: sa.Connection, settlement: base.Settlement, *, now: float) -> None:
        self._end(connection, settlement, now=now)
        done = [*settlement.delivered, *settlement.ended]
        if done:
            connection.execute(sa.delete(_held).where(_held.c.seq.in_(done)))
        for seq, hosts in settlement.acknowledged.items():
            connection.execute(
                sa.update(_held).where(_held.c.seq == seq).values(acknowledged=json.dumps(sorted(hosts)))
            )
        server = _servers.c.server_uuid == settlement.server_uuid
        # The lock on the server's row keeps events from coming between these.
        if connection.scalar(
            sa.select(_held.c.seq).where(_held.c.server_uuid == settlement.server_uuid).limit(1)
        ):
            connection.execute(
                sa.update(_servers)
                .where(server)
                .values(
                    next_attempt=now + settlement.retry_after,
                    attempts=_servers.c.attempts + 1,
                    reason=settlement.reason[: models.REASON_LENGTH],
                    claimed_by=None,
                    claimed_until=0.0,
                )
            )
            self._wait_for(connection, settlement)
        else:
            connection.execute(sa.delete(_servers).where(server))

    def _wait_for(self, connection: sa.Connection, settlement: base.Settlement) -> None:
        of_server = _hosts.c.server_uuid == settlement.server_uuid
        there = frozenset(connection.scalars(sa.select(_hosts.c.host).where(of_server)))
        if there == settlement.hosts:
            return
        connection.execute(sa.delete(_hosts).where(of_server))
        self._database.insert_missing(
            connection,
            _hosts,
            [{'server_uuid': settlement.server_uuid, 'host': host} for host in sorted(settlement.hosts)],
        )

    def _end(self, connection: sa.Connection, settlement: base.Settlement, *, now: float) -> None:
        if not settlement.ended:
            return
        query = (
            sa.select(_held, _servers.c.attempts)
            .join(_servers, _servers.c.server_uuid == _held.c.server_uuid)
            .where(_held.c.seq.in_(list(settlement.ended)))
            .order_by(_held.c.seq)
        )
        for row in connection.execute(query).all():
            state, reason = settlement.ended[row.seq]
            connection.execute(
                sa.insert(_ended).values(
                    event_id=row.event_id,
                    server_uuid=row.server_uuid,
                    event=row.event,
                    context=row.context,
                    state=str(state),
                    hosts=json.dumps(sorted(settlement.hosts)),
                    reason=reason[: models.REASON_LENGTH],
                    attempts=row.attempts + 1,
                    held_at=row.held_at,
                    ended_at=now,
                )
            )


def _host_rows(items: Iterable[base.Item]) -> list[dict[str, str]]:
    pairs = {(item.event.server_uuid, host) for item in items for host in item.hosts}
    return [{'server_uuid': server_uuid, 'host': host} for server_uuid, host in sorted(pairs)]


def _new_server(server_uuid: str, reason: str, *, due: float) -> dict[str, Any]:
    return {
        'server_uuid': server_uuid,
        'next_attempt': due,
        'attempts': 0,
        'reason': reason[: models.REASON_LENGTH],
        'claimed_until': 0.0,
    }


def _new_event(item: base.Item, context: str, *, now: float) -> dict[str, Any]:
    return {
        'event_id': item.event.id,
        'server_uuid': item.event.server_uuid,
        'event': json.dumps(item.event.to_dict()),
        'context': context,
        'held_at': now,
        'deadline': now + item.ttl,
        'acknowledged': json.dumps(sorted(item.acknowledged)),
    }


def _narrowed(
    query: sa.Select[Any], table: sa.Table, server_uuid: str | None, event_id: str | None
) -> sa.Select[Any]:
    if server_uuid is not None:
        query = query.where(table.c.server_uuid == server_uuid)
    if event_id is not None:
        query = query.where(table.c.event_id == event_id)
    return query.order_by(table.c.seq)


def _record(row: Any, state: base.State, hosts: Sequence[str], *, until: float) -> base.Record:
    kept = json.loads(row.context)
    return base.Record(
        seq=row.seq,
        state=state,
        event=events.Event.from_dict(json.loads(row.event)),
        request_id=kept.get('global_request_id') or kept.get('request_id'),
        hosts=tuple(hosts),
        attempts=row.attempts,
        reason=row.reason,
        held_at=row.held_at,
        until=until,
    )
