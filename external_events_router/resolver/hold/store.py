"""Held events in SQL.

Every method is one transaction, and can run at the same time as transactions of other processes.
``redelivery`` decides when to try to deliver. This module makes it safe: the row of a server is
claimed by one worker, for a limited time, by the clock of the database.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
import dataclasses
import json
from typing import Any
from typing import TypeVar
from typing import cast
import uuid

import sqlalchemy as sa

from external_events_router import checks
from external_events_router import context as request_context
from external_events_router import events
from external_events_router import exceptions
from external_events_router import rejected
from external_events_router.db import models
from external_events_router.db import session
from external_events_router.metrics import recorder
from external_events_router.resolver.hold import base
from external_events_router.resolver.host_map import base as host_map_base

_T = TypeVar('_T')

_servers = cast(sa.Table, models.HeldServer.__table__)
_hosts = cast(sa.Table, models.HeldHost.__table__)
_held = cast(sa.Table, models.HeldEvent.__table__)
_ended = cast(sa.Table, models.EndedEvent.__table__)

#: Maximum number of events of one server in an attempt, and of all its servers. Other events follow
#: immediately after the attempt.
MAX_EVENTS = 200
MAX_CLAIMED = 500

#: Exceptions when the event of a damaged row is read.
DAMAGED = (ValueError, TypeError, RecursionError, exceptions.MalformedMessage)

#: Number of connections for writing that are opened in advance. On a busy machine, opening a connection
#: takes a second, which is the whole time for a write.
CONNECTIONS = 5

#: Maximum number of servers that are scheduled in one transaction. Meanwhile their rows are locked, and
#: a batch with an event for one of them waits.
MADE_DUE = 500

#: Seconds between the due times of two such servers, which give the order of the servers.
DUE_STEP = 1e-6


class HoldStore:
    """The tables of the hold. Thread-safe."""

    def __init__(self, database: session.Database) -> None:
        self._database = database
        self._compiled = False
        self._insert_server = database.insert_or_merge(_servers, merge_held)
        self._update_server = database.insert_or_merge(_servers, _replace)
        self._update_due = database.insert_or_merge(_servers, _replace_due)

    @session.retried
    def warm(self) -> None:
        """Open connections and compile statements, so that the first events are held without this delay.

        :raises DatabaseUnavailable: the database is unavailable
        """
        self._database.warm(CONNECTIONS)
        if self._compiled:
            return
        # NOTE: SQLAlchemy compiles a statement when it is first executed, which takes as much processor
        # time as twenty writes to the hold.
        event = events.Event('network-changed', str(uuid.uuid4()))
        request = base.Request([base.Item(event, 0.0, hosts=('-',))], {})
        with contextlib.suppress(_RolledBack):
            self.hold_all([request], retry_after=0.0, before_commit=_roll_back)
        self._compiled = True

    def close(self) -> None:
        """Close the connections."""
        self._database.close()

    @session.retried
    def servers_among(self, server_uuids: Collection[str]) -> host_map_base.HeldServers:
        """Return the given servers that have held events. Later events must wait, except for free hosts.

        :raises DatabaseUnavailable: the database is unavailable
        """
        select = f'SELECT server_uuid, free_hosts FROM {_servers.name}'  # noqa: S608 - a constant name
        rows = self._database.rows_among(select, 'server_uuid', server_uuids)
        return {server_uuid: models.host_set(free) for server_uuid, free in rows}

    @session.retried
    def servers(self, limit: int) -> frozenset[str]:
        """Return at most ``limit`` servers that have held events.

        :raises DatabaseUnavailable: the database is unavailable
        """
        with self._database.reading() as connection:
            return frozenset(connection.scalars(sa.select(_servers.c.server_uuid).limit(limit)))

    def hold(self, items: Sequence[base.Item], context: Mapping[str, Any], *, retry_after: float) -> None:
        """Hold the events of one request: see :meth:`hold_all`."""
        self.hold_all([base.Request(items, context)], retry_after=retry_after)

    @session.retried
    def hold_all(
        self,
        requests: Sequence[base.Request],
        *,
        retry_after: float,
        before_commit: Callable[[], None] = lambda: None,
    ) -> None:
        """Hold events in their order, all or none. An event that is already held does not change.

        :param retry_after: seconds until the first attempt for a server without other held events
        :param before_commit: called before the commit; an exception rolls the transaction back
        :raises DatabaseUnavailable: no event is held
        """
        items = [item for request in requests for item in request.items]
        with self._database.writing() as connection:
            now = self._database.now(connection)
            # NOTE: build all rows before the first row is locked, see claim.
            servers, hosts = _server_rows(items, due=now + retry_after), _host_rows(items)
            rows = [
                _new_event(item, context, now=now)
                for request in requests
                for context in [_kept(request.context)]
                for item in request.items
            ]
            # NOTE: servers before their events, because the lock on the row of a server determines the
            # order of its events.
            connection.execute(self._insert_server, servers)
            self._database.insert_missing(connection, _hosts, hosts)
            self._database.insert_missing(connection, _held, rows)
            before_commit()

    def claim(self, worker: str, *, limit: int, lease: float) -> list[base.Claim]:
        """Claim servers that are due and that no other worker has claimed, for a limited time.

        :param limit: maximum number of servers
        :param lease: seconds after which another worker may claim them
        :raises DatabaseUnavailable: no server is claimed, or the claims will expire
        """
        # NOTE: the rows of the servers are locked only while they are marked as claimed. A batch that
        # holds an event for one of them waits for the lock, and counting and reading the events takes
        # seconds on a busy machine. The order is correct without a lock: an event that is committed
        # later has a higher number, because a transaction that holds events locks the row of the server
        # before the numbers are assigned, until its commit.
        now, due = self._due(limit)
        taken = self._take(worker, due, now=now, until=now + lease) if due else {}
        if not taken:
            return []
        of_server = self._events(taken, now=now)
        return [base.Claim(server, taken[server], held) for server, held in of_server.items()]

    @session.retried
    def _due(self, limit: int) -> tuple[float, list[str]]:
        """Return the time, and servers that are due at this time, with at most the events of one attempt."""
        with self._database.reading() as connection:
            now = self._database.now(connection)
            query = (
                sa.select(_servers.c.server_uuid)
                .where(_servers.c.next_attempt <= now, _servers.c.claimed_until <= now)
                .order_by(_servers.c.next_attempt)
                .limit(limit)
            )
            due = connection.scalars(query).all()
            counts = self._counts(connection, due) if due else {}
        chosen: list[str] = []
        total = 0
        for server in due:
            total += min(counts.get(server, 0), MAX_EVENTS)
            if chosen and total > MAX_CLAIMED:
                break
            chosen.append(server)
        return now, chosen

    @session.retried
    def _take(
        self, worker: str, server_uuids: Sequence[str], *, now: float, until: float
    ) -> Mapping[str, int]:
        """Mark servers as claimed, except for servers that others have claimed or locked meanwhile.

        :returns: server to the number of its attempts, in the given order
        """
        with self._database.writing() as connection:
            still_due = (
                sa.select(_servers.c.server_uuid, _servers.c.attempts)
                .where(
                    self._database.among(_servers.c.server_uuid, server_uuids),
                    _servers.c.next_attempt <= now,
                    _servers.c.claimed_until <= now,
                )
                .order_by(_servers.c.server_uuid)
                .with_for_update(skip_locked=self._database.skips_locked(connection))
            )
            attempts = {row.server_uuid: row.attempts for row in connection.execute(still_due)}
            if attempts:
                # NOTE: next_attempt is also set to the end of the claim, so that settle() can detect
                # whether the server was scheduled meanwhile.
                connection.execute(
                    sa.update(_servers)
                    .where(self._database.among(_servers.c.server_uuid, attempts))
                    .values(claimed_by=worker, claimed_until=until, next_attempt=until)
                )
        return {server: attempts[server] for server in server_uuids if server in attempts}

    @session.retried
    def settle(self, worker: str, settlements: Sequence[base.Settlement]) -> int:
        """Record the results of attempts, and release the servers.

        A server that another worker has claimed meanwhile is not changed.

        :returns: number of these servers that are due again immediately
        :raises DatabaseUnavailable: nothing was recorded; the claims will expire
        """
        by_server = {settlement.server_uuid: settlement for settlement in settlements}
        with self._database.writing() as connection:
            now = self._database.now(connection)
            still_mine = (
                sa.select(_servers)
                .where(
                    self._database.among(_servers.c.server_uuid, by_server), _servers.c.claimed_by == worker
                )
                .order_by(_servers.c.server_uuid)
                .with_for_update()
            )
            claimed = {row.server_uuid: row for row in connection.execute(still_mine)}
            if not claimed:
                return 0
            mine = {server: by_server[server] for server in claimed}
            # NOTE: one statement for all servers if possible: their rows are locked until the end, and a
            # batch that holds an event may wait for one of them.
            self._end(connection, claimed, mine, now=now)
            self._note_acknowledged(connection, mine.values())
            remains = self._remaining(connection, mine)
            done = sorted(mine.keys() - remains.keys())
            if done:
                connection.execute(
                    sa.delete(_servers).where(self._database.among(_servers.c.server_uuid, done))
                )
            rows = [
                _after_attempt(claimed[server], mine[server], remains[server], now=now)
                for server in sorted(remains)
            ]
            if rows:
                connection.execute(self._update_server, rows)
                self._wait_for(connection, {server: mine[server] for server in remains}, remains)
            return sum(row['next_attempt'] == now for row in rows)

    @session.retried
    def make_due(self, *, hosts: Collection[str] = (), servers: Collection[str] = ()) -> int:
        """Schedule servers for an immediate retry: servers that wait for the hosts, and the given servers.

        The servers of a host become due one after the other, so that an attempt takes them
        together and sends the host one message.

        :returns: the number of these servers, including servers that were already due
        :raises DatabaseUnavailable: not all are due
        """
        # NOTE: read first, because usually no server waits, and a write is expensive.
        with self._database.reading() as connection:
            now = self._database.now(connection)
            found = self._waiting(connection, hosts) if hosts else {}
            found |= self._next_attempts(connection, servers) if servers else {}
        later = [server for server, at in found.items() if at > now]
        for at in range(0, len(later), MADE_DUE):
            self._make_due(later[at : at + MADE_DUE])
        return len(found)

    def _waiting(self, connection: sa.Connection, hosts: Collection[str]) -> dict[str, float]:
        """Return the servers that wait for hosts, in the order of the hosts, with their next attempts."""
        query = (
            sa.select(_servers.c.server_uuid, _servers.c.next_attempt)
            .join(_hosts, _hosts.c.server_uuid == _servers.c.server_uuid)
            .where(self._database.among(_hosts.c.host, hosts))
            .order_by(_hosts.c.host, _hosts.c.server_uuid)
        )
        return dict(connection.execute(query).all())

    def _next_attempts(self, connection: sa.Connection, server_uuids: Collection[str]) -> dict[str, float]:
        query = sa.select(_servers.c.server_uuid, _servers.c.next_attempt)
        chosen = self._database.among(_servers.c.server_uuid, server_uuids)
        return dict(connection.execute(query.where(chosen).order_by(_servers.c.server_uuid)).all())

    def _make_due(self, server_uuids: Sequence[str]) -> None:
        with self._database.writing() as connection:
            now = self._database.now(connection)
            # NOTE: lock them in the order of their keys first. An update locks them in another order,
            # and two updates could deadlock. Other workers may have scheduled them.
            still_later = (
                sa.select(_servers.c.server_uuid)
                .where(
                    self._database.among(_servers.c.server_uuid, server_uuids), _servers.c.next_attempt > now
                )
                .order_by(_servers.c.server_uuid)
                .with_for_update()
            )
            locked = set(connection.scalars(still_later))
            chosen = [server for server in server_uuids if server in locked]
            if chosen:
                began = now - len(chosen) * DUE_STEP
                due = {server: began + place * DUE_STEP for place, server in enumerate(chosen)}
                rows = [new_server(server, '', due=due[server]) for server in sorted(chosen)]
                connection.execute(self._update_due, rows)

    @session.retried
    def purge(self, keep: float) -> int:
        """Delete old ended events.

        :param keep: seconds for which ended events are kept
        :returns: number of deleted events
        """
        with self._database.writing() as connection:
            before = self._database.now(connection) - keep
            done = connection.execute(sa.delete(_ended).where(_ended.c.ended_at < before))
            return done.rowcount

    @session.retried
    def _events(self, server_uuids: Collection[str], *, now: float) -> Mapping[str, list[base.Held]]:
        """Return the first events of servers that this worker has claimed."""
        ordered = sa.select(_held).order_by(_held.c.seq)
        with self._database.reading() as connection:
            counts = self._counts(connection, server_uuids)
            few = [server for server in server_uuids if counts.get(server, 0) <= MAX_EVENTS]
            found = list(connection.execute(ordered.where(self._database.among(_held.c.server_uuid, few))))
            for server in set(server_uuids) - set(few):
                found += connection.execute(ordered.where(_held.c.server_uuid == server).limit(MAX_EVENTS))
        of_server: dict[str, list[base.Held]] = {server: [] for server in server_uuids}
        for row in found:
            try:
                held = _held_event(row, now=now)
            except DAMAGED as exc:
                self._end_damaged(row, exc, now=now)
            else:
                of_server[row.server_uuid].append(held)
        return of_server

    def _counts(self, connection: sa.Connection, server_uuids: Collection[str]) -> dict[str, int]:
        """Return the number of events of servers; servers without events are not in the result."""
        query = (
            sa.select(_held.c.server_uuid, sa.func.count())
            .where(self._database.among(_held.c.server_uuid, server_uuids))
            .group_by(_held.c.server_uuid)
        )
        return dict(connection.execute(query).all())

    def _end_damaged(self, row: Any, exc: Exception, *, now: float) -> None:
        """End a row that cannot be read, so that the other events of the claim are delivered."""
        reason = f'the row cannot be read: {checks.clean_text(str(exc))}'
        rejected.ALL.note('held event', 'it was answered 200 and ends undelivered', (row.event_id, reason))
        ended = {
            'event_id': row.event_id,
            'server_uuid': row.server_uuid,
            'event': row.event,
            'context': row.context,
            'state': str(base.State.DAMAGED),
            'hosts': '[]',
            'reason': reason[: models.REASON_LENGTH],
            'attempts': 0,
            'held_at': row.held_at,
            'ended_at': now,
        }
        with self._database.writing() as connection:
            if connection.execute(sa.delete(_held).where(_held.c.seq == row.seq)).rowcount:
                connection.execute(sa.insert(_ended).values(ended))
        recorder.current().ended([base.State.DAMAGED])

    def _note_acknowledged(self, connection: sa.Connection, settlements: Collection[base.Settlement]) -> None:
        """Delete ended events, and record which hosts have acknowledged the remaining events."""
        done = [seq for settlement in settlements for seq in (*settlement.delivered, *settlement.ended)]
        if done:
            connection.execute(sa.delete(_held).where(_held.c.seq.in_(done)))
        having: dict[str, list[int]] = {}
        for settlement in settlements:
            for seq, hosts in settlement.acknowledged.items():
                having.setdefault(models.host_list(hosts), []).append(seq)
        for text, seqs in having.items():
            connection.execute(sa.update(_held).where(_held.c.seq.in_(seqs)).values(acknowledged=text))

    def _remaining(
        self, connection: sa.Connection, server_uuids: Collection[str]
    ) -> Mapping[str, list[_Remaining]]:
        """Return the held events of servers; servers without held events are not in the result.

        NOTE: the rows of the servers are locked, so no event is added until the end of the transaction.
        """
        query = (
            sa.select(
                _held.c.server_uuid,
                _held.c.acknowledged,
                sa.func.min(_held.c.seq),
                sa.func.max(_held.c.seq),
            )
            .where(self._database.among(_held.c.server_uuid, server_uuids))
            .group_by(_held.c.server_uuid, _held.c.acknowledged)
        )
        found: dict[str, list[_Remaining]] = {}
        for server, acknowledged, first, last in connection.execute(query):
            found.setdefault(server, []).append(_Remaining(hosts_among(acknowledged), first, last))
        return found

    def _wait_for(
        self,
        connection: sa.Connection,
        settlements: Mapping[str, base.Settlement],
        remains: Mapping[str, Sequence[_Remaining]],
    ) -> None:
        """Replace the hosts for which servers wait by the hosts of the settlements."""
        updated = {server: one for server, one in settlements.items() if one.hosts is not None}
        stored = self._waited_for(connection, updated)
        missing: list[dict[str, str]] = []
        # NOTE: change only differences. Deleting and inserting all rows would cause deadlocks on MySQL with
        # transactions that look for the servers of a host.
        leaving: dict[str, list[str]] = {}
        for server, settlement in updated.items():
            hosts, before = settlement.hosts or frozenset(), frozenset(stored.get(server, ()))
            missing += [{'server_uuid': server, 'host': host} for host in sorted(hosts - before)]
            # Events that arrived meanwhile may wait for any of these hosts.
            if all(each.last <= settlement.last for each in remains[server]):
                for host in before - hosts:
                    leaving.setdefault(host, []).append(server)
        for host in sorted(leaving):
            connection.execute(
                sa.delete(_hosts).where(
                    self._database.among(_hosts.c.server_uuid, leaving[host]), _hosts.c.host == host
                )
            )
        self._database.insert_missing(connection, _hosts, missing)

    def _waited_for(self, connection: sa.Connection, server_uuids: Collection[str]) -> dict[str, list[str]]:
        if not server_uuids:
            return {}
        query = sa.select(_hosts.c.server_uuid, _hosts.c.host).where(
            self._database.among(_hosts.c.server_uuid, server_uuids)
        )
        found: dict[str, list[str]] = {}
        for server, host in connection.execute(query.order_by(_hosts.c.server_uuid, _hosts.c.host)):
            found.setdefault(server, []).append(host)
        return found

    def _end(
        self,
        connection: sa.Connection,
        claimed: Mapping[str, Any],
        settlements: Mapping[str, base.Settlement],
        *,
        now: float,
    ) -> None:
        """Keep events that end without all acknowledgements, for operators."""
        ended = {seq: end for each in settlements.values() for seq, end in each.ended.items()}
        if not ended:
            return
        hosts = self._waited_for(
            connection, [each.server_uuid for each in settlements.values() if each.ended]
        )
        query = sa.select(_held).where(_held.c.seq.in_(list(ended))).order_by(_held.c.seq)
        rows = [
            {
                'event_id': row.event_id,
                'server_uuid': row.server_uuid,
                'event': row.event,
                'context': row.context,
                'state': str(ended[row.seq][0]),
                'hosts': json.dumps(hosts.get(row.server_uuid, [])),
                'reason': ended[row.seq][1][: models.REASON_LENGTH],
                'attempts': claimed[row.server_uuid].attempts + 1,
                'held_at': row.held_at,
                'ended_at': now,
            }
            for row in connection.execute(query)
        ]
        if rows:
            connection.execute(sa.insert(_ended), rows)


class _RolledBack(Exception):
    """Raised before a commit to roll back a transaction without any effect."""


def _roll_back() -> None:
    raise _RolledBack


@dataclasses.dataclass(frozen=True, slots=True)
class _Remaining:
    """Held events of a server with the same acknowledged hosts: their first and last row."""

    acknowledged: frozenset[str]
    first: int
    last: int


def merge_held(stored: Any, proposed: Any) -> Sequence[tuple[str, Any]]:
    """Return the changes of the row of a server with held events when more events are held for it.

    A host stays free if it has acknowledged the new events too. If this set of hosts differs from the
    previous set, no host is free. An attempt will soon determine the free hosts, because the next
    event for such a host waits for it.
    """
    same = stored.free_hosts == proposed['free_hosts']
    sooner = sa.case(
        (proposed['next_attempt'] < stored.next_attempt, proposed['next_attempt']), else_=stored.next_attempt
    )
    return [
        (
            'next_attempt',
            sa.case((stored.free_hosts.is_(None) | same, stored.next_attempt), else_=sooner),
        ),
        ('free_hosts', sa.case((same, stored.free_hosts), else_=sa.null())),
    ]


def _replace(_there: Any, proposed: Any) -> Sequence[tuple[str, Any]]:
    columns = ('next_attempt', 'attempts', 'reason', 'claimed_by', 'claimed_until', 'free_hosts')
    return [(name, proposed[name]) for name in columns]


def _replace_due(_there: Any, proposed: Any) -> Sequence[tuple[str, Any]]:
    return [(name, proposed[name]) for name in ('next_attempt', 'attempts')]


def _after_attempt(
    claimed: Any, settlement: base.Settlement, remains: Sequence[_Remaining], *, now: float
) -> dict[str, Any]:
    """Return the row of a server after an attempt.

    :param claimed: the row before
    :param remains: its held events, at least one
    """
    # NOTE: an empty intersection if none of the tried events remain.
    tried = [each.acknowledged for each in remains if each.first <= settlement.last] or [frozenset[str]()]
    having = frozenset.intersection(*tried)
    # Due immediately if it was scheduled meanwhile, or if no tried event failed, or if a host that has
    # acknowledged all tried events has to get later events.
    due = (
        claimed.next_attempt < claimed.claimed_until
        or not settlement.reason
        or any(having - each.acknowledged for each in remains)
    )
    return {
        'server_uuid': claimed.server_uuid,
        'next_attempt': now if due else now + settlement.retry_after,
        'attempts': 0 if due else claimed.attempts + 1,
        'reason': (settlement.reason or claimed.reason)[: models.REASON_LENGTH],
        'claimed_by': None,
        'claimed_until': 0.0,
        'free_hosts': _free(frozenset.intersection(*(each.acknowledged for each in remains))),
    }


def _free(hosts: Collection[str]) -> str | None:
    return models.host_list(hosts) if hosts else None


def _server_rows(items: Iterable[base.Item], *, due: float) -> list[dict[str, Any]]:
    """Return the rows of the servers of items, in the order of their keys."""
    reasons: dict[str, str] = {}
    free: dict[str, frozenset[str]] = {}
    for item in items:
        server = item.event.server_uuid
        if server in reasons:
            free[server] &= item.acknowledged
        else:
            reasons[server], free[server] = item.reason, item.acknowledged
    return [new_server(server, reasons[server], due=due, free=free[server]) for server in sorted(reasons)]


def new_server(server_uuid: str, reason: str, *, due: float, free: Collection[str] = ()) -> dict[str, Any]:
    """Return the row of a server with held events.

    :param due: time of its next attempt, by the clock of the database
    :param free: hosts that have acknowledged all its events
    """
    return {
        'server_uuid': server_uuid,
        'next_attempt': due,
        'attempts': 0,
        'reason': reason[: models.REASON_LENGTH],
        'claimed_until': 0.0,
        'free_hosts': _free(free),
    }


def _kept(context: Mapping[str, Any]) -> str:
    return json.dumps({key: context.get(key) for key in request_context.CARRIED})


def _host_rows(items: Iterable[base.Item]) -> list[dict[str, str]]:
    pairs = {(item.event.server_uuid, host) for item in items for host in item.hosts}
    return [{'server_uuid': server_uuid, 'host': host} for server_uuid, host in sorted(pairs)]


def _held_event(row: Any, *, now: float) -> base.Held:
    return base.Held(
        seq=row.seq,
        event=events.Event.from_dict(json.loads(row.event)),
        # NOTE: the event can be delivered without a valid context; a host recognises events by their ids.
        context=loaded(row.context, dict, {}),
        remaining=row.deadline - now,
        acknowledged=hosts_among(row.acknowledged),
        age=now - row.held_at,
    )


def hosts_among(text: str | None) -> frozenset[str]:
    """Return the valid hosts in a column. Hosts with damaged names are asked again."""
    return frozenset(filter(checks.is_host, loaded(text, list, []))) if text else frozenset()


def loaded(text: str, kind: type[_T], otherwise: _T) -> _T:
    """Return the value of a JSON text, or ``otherwise`` if it is damaged or has another type."""
    try:
        value = json.loads(text)
    except (ValueError, TypeError, RecursionError):
        return otherwise
    return value if type(value) is kind else otherwise


def event_of(row: Any) -> events.Event:
    """Return the event of a row for an operator, also if it is damaged."""
    try:
        return events.Event.from_dict(json.loads(row.event))
    except DAMAGED:
        return events.Event('unreadable', row.server_uuid, id=row.event_id)


def _new_event(item: base.Item, context: str, *, now: float) -> dict[str, Any]:
    return {
        'event_id': item.event.id,
        'server_uuid': item.event.server_uuid,
        'event': json.dumps(item.event.to_dict()),
        'context': context,
        'held_at': now,
        'deadline': now + item.ttl,
        'acknowledged': models.host_list(item.acknowledged),
    }
