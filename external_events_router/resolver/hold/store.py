"""Held events in SQL.

Every method is one transaction, safe beside others of the same kind, here and
in other processes. When something is tried is the courier's business; here is
what makes that safe: a server's row is claimed by one worker, for a time, by
the database's clock.
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

#: Events of a server that one attempt takes, and events of all its servers;
#: the others follow at once.
MAX_EVENTS = 200
MAX_CLAIMED = 500

#: Errors when the event of a row is read, if the row is damaged.
DAMAGED = (ValueError, TypeError, RecursionError, exceptions.MalformedMessage)

#: Connections for writing that are open before they are needed. On a busy machine it
#: takes a second to open one, which is all the time that a write has.
CONNECTIONS = 5

#: Servers that are made due in one transaction: their rows are locked meanwhile, and a
#: batch with an event for one of them waits.
MADE_DUE = 500

#: Seconds between the times at which two such servers are due: these give their order.
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
        """Open connections and compile statements, so that the first events to be held do not wait for that.

        :raises DatabaseUnavailable: the database cannot be asked
        """
        self._database.warm(CONNECTIONS)
        if self._compiled:
            return
        # NOTE: SQLAlchemy compiles a statement when it is first executed, which takes as
        # much processor time as twenty writes to the hold.
        event = events.Event('network-changed', str(uuid.uuid4()))
        request = base.Request([base.Item(event, 0.0, hosts=('-',))], {})
        with contextlib.suppress(_RolledBack):
            self.hold_all([request], retry_after=0.0, before_commit=_roll_back)
        self._compiled = True

    def close(self) -> None:
        """Let go of connections."""
        self._database.close()

    @session.retried
    def servers_among(self, server_uuids: Collection[str]) -> host_map_base.HeldServers:
        """Those of the servers that have events held: later ones must go behind them, but for the free hosts.

        :raises DatabaseUnavailable: the database cannot be asked
        """
        select = f'SELECT server_uuid, free_hosts FROM {_servers.name}'  # noqa: S608 - a name of ours
        rows = self._database.rows_among(select, 'server_uuid', server_uuids)
        return {server_uuid: models.host_set(free) for server_uuid, free in rows}

    @session.retried
    def servers(self, limit: int) -> frozenset[str]:
        """Servers that have events held, at most so many.

        :raises DatabaseUnavailable: the database cannot be asked
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
        """Hold events, in their order, all or none. One that is held already stays as it is.

        :param retry_after: seconds until the first attempt for a server that had nothing held
        :param before_commit: called before the commit; an exception rolls the transaction back
        :raises DatabaseUnavailable: nothing is held
        """
        items = [item for request in requests for item in request.items]
        with self._database.writing() as connection:
            now = self._database.now(connection)
            # NOTE: all rows are built before the first is locked, see claim.
            servers, hosts = _server_rows(items, due=now + retry_after), _host_rows(items)
            rows = [
                _new_event(item, context, now=now)
                for request in requests
                for context in [_kept(request.context)]
                for item in request.items
            ]
            # NOTE: servers before their events, so that the lock on a server's row
            # gives these their order.
            connection.execute(self._insert_server, servers)
            self._database.insert_missing(connection, _hosts, hosts)
            self._database.insert_missing(connection, _held, rows)
            before_commit()

    def claim(self, worker: str, *, limit: int, lease: float) -> list[base.Claim]:
        """Take the servers that are due, and that no other worker has, for a time.

        :param limit: servers at most
        :param lease: seconds after which another worker may take over
        :raises DatabaseUnavailable: nothing was taken, or the leases will end
        """
        # NOTE: the servers' rows are locked only while they are marked as taken. A batch
        # that holds an event for one of them waits for the lock, and to count and read the
        # events takes seconds on a busy machine. Their order is right without a lock: an
        # event that is committed later has a later number, because who holds events has
        # the server's row locked from before their numbers are given until the commit.
        now, due = self._due(limit)
        taken = self._take(worker, due, now=now, until=now + lease) if due else {}
        if not taken:
            return []
        of_server = self._events(taken, now=now)
        return [base.Claim(server, taken[server], held) for server, held in of_server.items()]

    @session.retried
    def _due(self, limit: int) -> tuple[float, list[str]]:
        """The time, and servers that are due then, with no more events together than one attempt takes."""
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
        """Mark servers as taken, but for those that others have taken or locked meanwhile.

        :returns: server to the number of its attempts, in the order given
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
                # NOTE: next_attempt is the lease's end too, so that who settles sees
                # whether the server was made due meanwhile.
                connection.execute(
                    sa.update(_servers)
                    .where(self._database.among(_servers.c.server_uuid, attempts))
                    .values(claimed_by=worker, claimed_until=until, next_attempt=until)
                )
        return {server: attempts[server] for server in server_uuids if server in attempts}

    @session.retried
    def settle(self, worker: str, settlements: Sequence[base.Settlement]) -> int:
        """Write down what attempts came to, and give the servers back.

        A server that another worker has taken over meanwhile stays as it is.

        :returns: how many of the servers are due again at once
        :raises DatabaseUnavailable: nothing was written; the leases will end
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
            # NOTE: one statement for all servers wherever that can be: their rows are
            # locked until the end, and a batch that holds an event may wait for one.
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
        """Make servers due now: those that wait for one of the hosts, and the given servers.

        The servers of a host become due one after the other, so that an attempt takes them
        together and sends the host one message.

        :returns: the number of these servers, including those that were due already
        :raises DatabaseUnavailable: not all are due
        """
        # NOTE: read first, because usually there are none, and a write is expensive.
        with self._database.reading() as connection:
            now = self._database.now(connection)
            found = self._waiting(connection, hosts) if hosts else {}
            found |= self._next_attempts(connection, servers) if servers else {}
        later = [server for server, at in found.items() if at > now]
        for at in range(0, len(later), MADE_DUE):
            self._make_due(later[at : at + MADE_DUE])
        return len(found)

    def _waiting(self, connection: sa.Connection, hosts: Collection[str]) -> dict[str, float]:
        """Servers that wait for hosts, in the order of the hosts, and when their next attempts are."""
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
            # NOTE: locked in their order first. An update locks them in an order of
            # its own, and two updates may deadlock. Other workers may have made them due.
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
        """Forget what ended longer ago.

        :param keep: seconds
        :returns: how many
        """
        with self._database.writing() as connection:
            before = self._database.now(connection) - keep
            done = connection.execute(sa.delete(_ended).where(_ended.c.ended_at < before))
            return done.rowcount

    @session.retried
    def _events(self, server_uuids: Collection[str], *, now: float) -> Mapping[str, list[base.Held]]:
        """The first events of servers that this worker has taken."""
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
        """How many events servers have; those with none are not among them."""
        query = (
            sa.select(_held.c.server_uuid, sa.func.count())
            .where(self._database.among(_held.c.server_uuid, server_uuids))
            .group_by(_held.c.server_uuid)
        )
        return dict(connection.execute(query).all())

    def _end_damaged(self, row: Any, exc: Exception, *, now: float) -> None:
        """End a row that nobody can deliver, so that the others of the claim go on."""
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
        """Take out the events that have ended, and write down who has acknowledged of the others."""
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
        """What is still held for servers; those with nothing are not among them.

        NOTE: the servers' rows are locked, so nothing comes until the end of the transaction.
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
        """Make the hosts that servers wait for those of the settlements."""
        told = {server: one for server, one in settlements.items() if one.hosts is not None}
        there = self._waited_for(connection, told)
        missing: list[dict[str, str]] = []
        # NOTE: only what differs. To delete all and insert them again is to
        # invite deadlocks, on MySQL, with who asks for the servers of a host.
        leaving: dict[str, list[str]] = {}
        for server, settlement in told.items():
            hosts, before = settlement.hosts or frozenset(), frozenset(there.get(server, ()))
            missing += [{'server_uuid': server, 'host': host} for host in sorted(hosts - before)]
            # What came meanwhile may wait for any of them.
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
        """Keep what ends without all acknowledgements, for inspection."""
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
    """Raised before a commit to roll back a transaction that is not to have an effect."""


def _roll_back() -> None:
    raise _RolledBack


@dataclasses.dataclass(frozen=True, slots=True)
class _Remaining:
    """Held events of a server that the same hosts have acknowledged: the first and last of their rows."""

    acknowledged: frozenset[str]
    first: int
    last: int


def merge_held(there: Any, proposed: Any) -> Sequence[tuple[str, Any]]:
    """What becomes of the row of a server that has something held when more is held for it.

    A host remains free if it has acknowledged the new events too. Where that is not the
    same set of hosts as before, none is: an attempt will find out which are, and that
    soon, because the next event for such a host waits for it.
    """
    same = there.free_hosts == proposed['free_hosts']
    sooner = sa.case(
        (proposed['next_attempt'] < there.next_attempt, proposed['next_attempt']), else_=there.next_attempt
    )
    return [
        (
            'next_attempt',
            sa.case((there.free_hosts.is_(None) | same, there.next_attempt), else_=sooner),
        ),
        ('free_hosts', sa.case((same, there.free_hosts), else_=sa.null())),
    ]


def _replace(_there: Any, proposed: Any) -> Sequence[tuple[str, Any]]:
    columns = ('next_attempt', 'attempts', 'reason', 'claimed_by', 'claimed_until', 'free_hosts')
    return [(name, proposed[name]) for name in columns]


def _replace_due(_there: Any, proposed: Any) -> Sequence[tuple[str, Any]]:
    return [(name, proposed[name]) for name in ('next_attempt', 'attempts')]


def _after_attempt(
    claimed: Any, settlement: base.Settlement, remains: Sequence[_Remaining], *, now: float
) -> dict[str, Any]:
    """The row of a server after an attempt.

    :param claimed: the row before
    :param remains: what is still held for it, at least one
    """
    # NOTE: an empty intersection where nothing of what was tried remains.
    tried = [each.acknowledged for each in remains if each.first <= settlement.last] or [frozenset[str]()]
    having = frozenset.intersection(*tried)
    # It was made due meanwhile, or nothing that was tried failed, or a host that has
    # everything that was tried has to get what came after that.
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
    """The rows of the servers of items, in the order of their keys."""
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
    """The row of a server that has something held.

    :param due: when it is tried, by the database's clock
    :param free: hosts that have acknowledged all of it
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
        # NOTE: without them it can be delivered all the same; a host knows an event again.
        context=loaded(row.context, dict, {}),
        remaining=row.deadline - now,
        acknowledged=hosts_among(row.acknowledged),
        age=now - row.held_at,
    )


def hosts_among(text: str | None) -> frozenset[str]:
    """The hosts of a column; those that are damaged are left out, and asked again."""
    return frozenset(filter(checks.is_host, loaded(text, list, []))) if text else frozenset()


def loaded(text: str, kind: type[_T], otherwise: _T) -> _T:
    """The value of a JSON text, or another where it is damaged or of another kind."""
    try:
        value = json.loads(text)
    except (ValueError, TypeError, RecursionError):
        return otherwise
    return value if type(value) is kind else otherwise


def event_of(row: Any) -> events.Event:
    """The event of a row for an operator, who sees damaged ones, too."""
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
