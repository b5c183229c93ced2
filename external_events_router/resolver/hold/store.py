"""Held events in SQL.

Every method is one transaction, safe beside others of the same kind, here and
in other processes. When something is tried is the courier's business; here is
what makes that safe: a server's row is claimed by one worker, for a time, by
the database's clock.
"""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
import json
from typing import Any
from typing import cast

import sqlalchemy as sa

from external_events_router import context as request_context
from external_events_router import events
from external_events_router.db import models
from external_events_router.db import session
from external_events_router.resolver.hold import base

_servers = cast(sa.Table, models.HeldServer.__table__)
_hosts = cast(sa.Table, models.HeldHost.__table__)
_held = cast(sa.Table, models.HeldEvent.__table__)
_ended = cast(sa.Table, models.EndedEvent.__table__)

#: Events of a server that one attempt takes, and events of all its servers;
#: the others follow at once.
MAX_EVENTS = 500
MAX_CLAIMED = 2000


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
        select = f'SELECT server_uuid FROM {_servers.name}'  # noqa: S608 - a name of ours
        rows = self._database.rows_among(select, 'server_uuid', server_uuids)
        return frozenset(server_uuid for (server_uuid,) in rows)

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
        kept = json.dumps({key: context.get(key) for key in request_context.CARRIED})
        reasons = {item.event.server_uuid: item.reason for item in reversed(items)}
        with self._database.writing() as connection:
            now = self._database.now(connection)
            # NOTE: before their events, so that the lock on a server's row
            # gives these their order.
            self._database.insert_or_lock(
                connection,
                _servers,
                [new_server(uuid, reasons[uuid], due=now + retry_after) for uuid in sorted(reasons)],
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
                .with_for_update(skip_locked=self._database.skips_locked(connection))
            )
            attempts = {row.server_uuid: row.attempts for row in connection.execute(due)}
            if not attempts:
                return []
            of_server = self._events(connection, list(attempts), now=now)
            # NOTE: next_attempt is the lease's end too, so that who settles sees
            # whether the server was made due meanwhile.
            connection.execute(
                sa.update(_servers)
                .where(self._database.among(_servers.c.server_uuid, of_server))
                .values(claimed_by=worker, claimed_until=now + lease, next_attempt=now + lease)
            )
        return [base.Claim(server, attempts[server], held) for server, held in of_server.items()]

    @session.retried
    def settle(self, worker: str, settlements: Sequence[base.Settlement]) -> int:
        """Write down what attempts came to, and give the servers back.

        A server that another worker has taken over meanwhile stays as it is.

        :returns: how many of the servers are due again at once
        :raises DatabaseUnavailable: nothing was written; the leases will end
        """
        by_server = {settlement.server_uuid: settlement for settlement in settlements}
        with self._database.writing() as connection:
            still_mine = (
                sa.select(_servers)
                .where(
                    self._database.among(_servers.c.server_uuid, by_server), _servers.c.claimed_by == worker
                )
                .order_by(_servers.c.server_uuid)
                .with_for_update()
            )
            mine = connection.execute(still_mine).all()
            now = self._database.now(connection)
            return sum(self._settle_one(connection, row, by_server[row.server_uuid], now=now) for row in mine)

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
            # NOTE: locked in their order first. An update takes them in one of
            # its own, and two that meet half-way are a deadlock.
            chosen_now = (
                sa.select(_servers.c.server_uuid)
                .where(self._database.among(_servers.c.server_uuid, found))
                .order_by(_servers.c.server_uuid)
                .with_for_update()
            )
            locked = connection.scalars(chosen_now).all()
            connection.execute(
                sa.update(_servers)
                .where(self._database.among(_servers.c.server_uuid, locked))
                .values(next_attempt=self._database.now(connection), attempts=0)
            )
        return len(locked)

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

    def _events(
        self, connection: sa.Connection, server_uuids: Sequence[str], *, now: float
    ) -> Mapping[str, list[base.Held]]:
        """The first events of as many of the servers as are not too many together."""
        query = (
            sa.select(_held.c.server_uuid, sa.func.count())
            .where(self._database.among(_held.c.server_uuid, server_uuids))
            .group_by(_held.c.server_uuid)
        )
        counts: dict[str, int] = dict(connection.execute(query).all())
        of_server: dict[str, list[base.Held]] = {}
        total = 0
        for uuid in server_uuids:
            total += min(counts.get(uuid, 0), MAX_EVENTS)
            if of_server and total > MAX_CLAIMED:
                break
            of_server[uuid] = []
        few = [uuid for uuid in of_server if counts.get(uuid, 0) <= MAX_EVENTS]
        ordered = sa.select(_held).order_by(_held.c.seq)
        found = list(connection.execute(ordered.where(self._database.among(_held.c.server_uuid, few))))
        for uuid in of_server.keys() - set(few):
            found += connection.execute(ordered.where(_held.c.server_uuid == uuid).limit(MAX_EVENTS))
        for row in found:
            of_server[row.server_uuid].append(_held_event(row, now=now))
        return of_server

    def _settle_one(
        self, connection: sa.Connection, claimed: Any, settlement: base.Settlement, *, now: float
    ) -> bool:
        """Whether the server is due again at once.

        :param claimed: its row, locked: no event comes between the statements
        """
        self._end(connection, settlement, attempts=claimed.attempts + 1, now=now)
        done = [*settlement.delivered, *settlement.ended]
        if done:
            connection.execute(sa.delete(_held).where(_held.c.seq.in_(done)))
        for seq, hosts in settlement.acknowledged.items():
            connection.execute(
                sa.update(_held).where(_held.c.seq == seq).values(acknowledged=json.dumps(sorted(hosts)))
            )
        server = _servers.c.server_uuid == settlement.server_uuid
        remains = sa.select(_held.c.seq).where(_held.c.server_uuid == settlement.server_uuid).limit(1)
        if connection.scalar(remains) is None:
            connection.execute(sa.delete(_servers).where(server))
            return False
        # It was made due meanwhile, or nothing that was tried failed.
        due = claimed.next_attempt < claimed.claimed_until or not settlement.reason
        connection.execute(
            sa.update(_servers)
            .where(server)
            .values(
                next_attempt=now if due else now + settlement.retry_after,
                attempts=0 if due else claimed.attempts + 1,
                reason=(settlement.reason or claimed.reason)[: models.REASON_LENGTH],
                claimed_by=None,
                claimed_until=0.0,
            )
        )
        if settlement.hosts is not None:
            self._wait_for(connection, settlement.server_uuid, settlement.hosts)
        return due

    def _wait_for(self, connection: sa.Connection, server_uuid: str, hosts: frozenset[str]) -> None:
        there = frozenset(_waited_for(connection, server_uuid))
        # NOTE: only what differs. To delete all and insert them again is to
        # invite deadlocks, on MySQL, with who asks for the servers of a host.
        if there - hosts:
            connection.execute(
                sa.delete(_hosts).where(
                    _hosts.c.server_uuid == server_uuid, _hosts.c.host.in_(sorted(there - hosts))
                )
            )
        rows = [{'server_uuid': server_uuid, 'host': host} for host in sorted(hosts - there)]
        self._database.insert_missing(connection, _hosts, rows)

    def _end(
        self, connection: sa.Connection, settlement: base.Settlement, *, attempts: int, now: float
    ) -> None:
        if not settlement.ended:
            return
        hosts = json.dumps(_waited_for(connection, settlement.server_uuid))
        query = sa.select(_held).where(_held.c.seq.in_(list(settlement.ended))).order_by(_held.c.seq)
        for row in connection.execute(query).all():
            state, reason = settlement.ended[row.seq]
            connection.execute(
                sa.insert(_ended).values(
                    event_id=row.event_id,
                    server_uuid=row.server_uuid,
                    event=row.event,
                    context=row.context,
                    state=str(state),
                    hosts=hosts,
                    reason=reason[: models.REASON_LENGTH],
                    attempts=attempts,
                    held_at=row.held_at,
                    ended_at=now,
                )
            )


def new_server(server_uuid: str, reason: str, *, due: float) -> dict[str, Any]:
    """The row of a server that has something held.

    :param due: when it is tried, by the database's clock
    """
    return {
        'server_uuid': server_uuid,
        'next_attempt': due,
        'attempts': 0,
        'reason': reason[: models.REASON_LENGTH],
        'claimed_until': 0.0,
    }


def _host_rows(items: Iterable[base.Item]) -> list[dict[str, str]]:
    pairs = {(item.event.server_uuid, host) for item in items for host in item.hosts}
    return [{'server_uuid': server_uuid, 'host': host} for server_uuid, host in sorted(pairs)]


def _waited_for(connection: sa.Connection, server_uuid: str) -> list[str]:
    query = sa.select(_hosts.c.host).where(_hosts.c.server_uuid == server_uuid).order_by(_hosts.c.host)
    return list(connection.scalars(query))


def _held_event(row: Any, *, now: float) -> base.Held:
    return base.Held(
        seq=row.seq,
        event=events.Event.from_dict(json.loads(row.event)),
        context=json.loads(row.context),
        remaining=row.deadline - now,
        acknowledged=frozenset(json.loads(row.acknowledged)),
    )


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
