"""The tables of the service.

This module defines only the tables. The modules that own the data read and write them
(``resolver.host_map.sql``, ``resolver.hold.store``, ``resolver.report_key``, ``journal``). A change
in this module needs a migration.
"""

from __future__ import annotations

from collections.abc import Collection
import json

import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.dialects import mysql

#: Maximum characters of the name of a compute host.
HOST_LENGTH = 255

#: Maximum characters of the reason of a failed attempt, and of the name of the claiming worker.
REASON_LENGTH = 255
CLAIM_LENGTH = 320

#: Maximum characters of ids, names and texts in the journal.
ID_LENGTH = 64
NAME_LENGTH = 32
TAG_LENGTH = 255
DETAIL_LENGTH = 255
WORKER_LENGTH = 320

#: Number of hexadecimal digits of a key.
KEY_LENGTH = 64

_UUID_LENGTH = 36

# NOTE: SQLite assigns numbers only in a column of exactly this type.
_SEQUENCE = sa.BigInteger().with_variant(sa.Integer, 'sqlite')


def _name(length: int) -> sa.String:
    """Return a column type for ASCII values that every database compares byte by byte.

    Otherwise MySQL would treat host names that differ only in case as equal, and PostgreSQL would
    sort by the rules of a language.
    """
    return (
        sa.String(length)
        .with_variant(sa.String(length, collation='C'), 'postgresql')
        .with_variant(mysql.VARCHAR(length, charset='ascii', collation='ascii_bin'), 'mysql', 'mariadb')
    )


def _text(length: int) -> sa.String:
    """Return a column type for any text that every database compares byte by byte."""
    return (
        sa.String(length)
        .with_variant(sa.String(length, collation='C'), 'postgresql')
        .with_variant(mysql.VARCHAR(length, charset='utf8mb4', collation='utf8mb4_bin'), 'mysql', 'mariadb')
    )


def host_list(hosts: Collection[str]) -> str:
    """Encode hosts for a column: a sorted JSON list, so that equal sets are equal texts."""
    return json.dumps(sorted(hosts))


def host_set(text: str | None) -> frozenset[str]:
    """Return the hosts in a column; an empty set for null and damaged values."""
    try:
        hosts = json.loads(text) if text else ()
    except (ValueError, RecursionError):
        return frozenset()
    return (
        frozenset(host for host in hosts if isinstance(host, str)) if isinstance(hosts, list) else frozenset()
    )


class Base(orm.DeclarativeBase):
    """The base class of all tables."""

    metadata = sa.MetaData(
        naming_convention={
            'pk': 'pk_%(table_name)s',
            'fk': 'fk_%(table_name)s_%(column_0_name)s',
            'ix': 'ix_%(table_name)s_%(column_0_name)s',
            'uq': 'uq_%(table_name)s_%(column_0_name)s',
        }
    )


class Server(Base):
    """A known server.

    :ivar uuid: canonical form, lower case with dashes
    """

    __tablename__ = 'servers'
    __table_args__ = {'mysql_engine': 'InnoDB'}

    uuid: orm.Mapped[str] = orm.mapped_column(_name(_UUID_LENGTH), primary_key=True)


class ServerHost(Base):
    """A host of a server: no row, one row, or two rows during a migration."""

    __tablename__ = 'server_hosts'
    __table_args__ = {'mysql_engine': 'InnoDB'}

    server_uuid: orm.Mapped[str] = orm.mapped_column(
        _name(_UUID_LENGTH), sa.ForeignKey(Server.uuid, ondelete='CASCADE'), primary_key=True
    )
    host: orm.Mapped[str] = orm.mapped_column(_name(HOST_LENGTH), primary_key=True, index=True)


class HeldServer(Base):
    """A server with held events, and the state of their redelivery.

    The events of a server are delivered in order, so a worker claims and retries the server, not a
    single event.

    All times are seconds since the epoch by the clock of the database, because the clocks of the
    machines may differ.

    :ivar next_attempt: time of the next attempt
    :ivar attempts: number of attempts
    :ivar reason: why the last attempt failed, or why the events were held
    :ivar claimed_by: worker that runs an attempt now
    :ivar claimed_until: time after which another worker may claim the server
    :ivar free_hosts: JSON list of the hosts that have acknowledged every held event of the server.
        They get later events immediately. Null: no hosts
    """

    __tablename__ = 'held_servers'
    __table_args__ = {'mysql_engine': 'InnoDB'}

    server_uuid: orm.Mapped[str] = orm.mapped_column(_name(_UUID_LENGTH), primary_key=True)
    next_attempt: orm.Mapped[float] = orm.mapped_column(sa.Double, index=True)
    attempts: orm.Mapped[int] = orm.mapped_column(sa.Integer, default=0)
    reason: orm.Mapped[str] = orm.mapped_column(sa.String(REASON_LENGTH))
    claimed_by: orm.Mapped[str | None] = orm.mapped_column(sa.String(CLAIM_LENGTH))
    claimed_until: orm.Mapped[float] = orm.mapped_column(sa.Double, default=0.0)
    free_hosts: orm.Mapped[str | None] = orm.mapped_column(sa.Text)


class HeldHost(Base):
    """A host for which events of a server are held."""

    __tablename__ = 'held_hosts'
    __table_args__ = {'mysql_engine': 'InnoDB'}

    server_uuid: orm.Mapped[str] = orm.mapped_column(
        _name(_UUID_LENGTH), sa.ForeignKey(HeldServer.server_uuid, ondelete='CASCADE'), primary_key=True
    )
    host: orm.Mapped[str] = orm.mapped_column(_name(HOST_LENGTH), primary_key=True, index=True)


class HeldEvent(Base):
    """An event that was answered 200 and is not acknowledged by all its hosts yet.

    :ivar seq: order in which the events of a server are delivered
    :ivar event: result of ``Event.to_dict`` as JSON in ASCII
    :ivar context: the request ids and the caller, JSON
    :ivar held_at: time at which it was held
    :ivar deadline: time at which it expires
    :ivar acknowledged: JSON list of the hosts that have acknowledged it
    """

    __tablename__ = 'held_events'
    __table_args__ = (
        sa.UniqueConstraint('event_id'),
        {'mysql_engine': 'InnoDB', 'sqlite_autoincrement': True},
    )

    seq: orm.Mapped[int] = orm.mapped_column(_SEQUENCE, primary_key=True, autoincrement=True)
    event_id: orm.Mapped[str] = orm.mapped_column(_name(_UUID_LENGTH))
    # No cascade: the row of a server must not be deleted while the server has events.
    server_uuid: orm.Mapped[str] = orm.mapped_column(
        _name(_UUID_LENGTH), sa.ForeignKey(HeldServer.server_uuid), index=True
    )
    event: orm.Mapped[str] = orm.mapped_column(sa.Text)
    context: orm.Mapped[str] = orm.mapped_column(sa.Text)
    held_at: orm.Mapped[float] = orm.mapped_column(sa.Double)
    deadline: orm.Mapped[float] = orm.mapped_column(sa.Double)
    acknowledged: orm.Mapped[str] = orm.mapped_column(sa.Text)


class EndedEvent(Base):
    """An event whose hold ended without all acknowledgements, kept for operators.

    :ivar state: ``expired``, ``refused``, ``gone`` or ``damaged``
    :ivar hosts: JSON list of the hosts that had not acknowledged it
    :ivar reason: why the last attempt failed
    :ivar ended_at: time at which the hold ended
    """

    __tablename__ = 'ended_events'
    __table_args__ = {'mysql_engine': 'InnoDB', 'sqlite_autoincrement': True}

    seq: orm.Mapped[int] = orm.mapped_column(_SEQUENCE, primary_key=True, autoincrement=True)
    event_id: orm.Mapped[str] = orm.mapped_column(_name(_UUID_LENGTH), index=True)
    server_uuid: orm.Mapped[str] = orm.mapped_column(_name(_UUID_LENGTH), index=True)
    event: orm.Mapped[str] = orm.mapped_column(sa.Text)
    context: orm.Mapped[str] = orm.mapped_column(sa.Text)
    state: orm.Mapped[str] = orm.mapped_column(_name(16))
    hosts: orm.Mapped[str] = orm.mapped_column(sa.Text)
    reason: orm.Mapped[str] = orm.mapped_column(sa.String(REASON_LENGTH))
    attempts: orm.Mapped[int] = orm.mapped_column(sa.Integer)
    held_at: orm.Mapped[float] = orm.mapped_column(sa.Double)
    ended_at: orm.Mapped[float] = orm.mapped_column(sa.Double, index=True)


class ReportKey(Base):
    """The key of the tokens that agents send with their reports. The table has one row.

    :ivar key: hexadecimal digits
    """

    __tablename__ = 'report_keys'
    __table_args__ = {'mysql_engine': 'InnoDB'}

    id: orm.Mapped[int] = orm.mapped_column(sa.Integer, primary_key=True, autoincrement=False)
    key: orm.Mapped[str] = orm.mapped_column(_name(KEY_LENGTH))


def _clustered(time_column: str) -> sa.PrimaryKeyConstraint:
    return sa.PrimaryKeyConstraint(time_column, 'worker', 'seq')


_INNODB = {'mysql_engine': 'InnoDB'}


class JournalRequest(Base):
    """A batch that was routed; see ``journal.records.RequestRow``.

    Times in the tables of the journal are microseconds since the epoch by the clock of the
    database. The primary keys begin with the time: new rows are added at the end, a period is
    a range of the primary key, and retention deletes such ranges. A worker knows its rows by
    the number of its incarnation and a sequence number, so no statement waits for a number
    that the database assigns.

    All other indexes except those with few values begin with the hour. Without it, new rows
    would change pages all over an index: once the index is larger than the memory of the
    database, each insert would have to read a page from the disk. A reader of several hours
    reads the index once for each of them.

    :ivar hour: ``received_at`` in hours
    :ivar seq: the sequence number of its first event
    """

    __tablename__ = 'journal_requests'
    __table_args__ = (
        _clustered('received_at'),
        sa.Index('ix_journal_requests_request_id', 'hour', 'request_id'),
        sa.Index('ix_journal_requests_global_request_id', 'hour', 'global_request_id'),
        sa.Index('ix_journal_requests_user_id', 'user_id', 'received_at'),
        _INNODB,
    )

    received_at: orm.Mapped[int] = orm.mapped_column(sa.BigInteger)
    worker: orm.Mapped[int] = orm.mapped_column(sa.Integer)
    seq: orm.Mapped[int] = orm.mapped_column(sa.BigInteger)
    hour: orm.Mapped[int] = orm.mapped_column(sa.Integer)
    events: orm.Mapped[int] = orm.mapped_column(sa.Integer)
    request_id: orm.Mapped[str | None] = orm.mapped_column(_text(ID_LENGTH))
    global_request_id: orm.Mapped[str | None] = orm.mapped_column(_text(ID_LENGTH))
    user_id: orm.Mapped[str | None] = orm.mapped_column(_text(ID_LENGTH))
    project_id: orm.Mapped[str | None] = orm.mapped_column(_text(ID_LENGTH))
    duration_ms: orm.Mapped[int] = orm.mapped_column(sa.Integer)


class JournalEvent(Base):
    """An event that was routed; see ``journal.records.EventRow``.

    :ivar host: the first host; null if the event had no host
    :ivar hosts: all hosts, a JSON list; null if there are fewer than two
    """

    __tablename__ = 'journal_events'
    __table_args__ = (
        _clustered('received_at'),
        sa.Index('ix_journal_events_server_uuid', 'hour', 'server_uuid', 'received_at'),
        sa.Index('ix_journal_events_tag', 'hour', 'tag', 'received_at'),
        sa.Index('ix_journal_events_event_id', 'hour', 'event_id'),
        sa.Index('ix_journal_events_host', 'hour', 'host', 'received_at'),
        sa.Index('ix_journal_events_reason', 'reason', 'received_at'),
        _INNODB,
    )

    received_at: orm.Mapped[int] = orm.mapped_column(sa.BigInteger)
    worker: orm.Mapped[int] = orm.mapped_column(sa.Integer)
    seq: orm.Mapped[int] = orm.mapped_column(sa.BigInteger)
    hour: orm.Mapped[int] = orm.mapped_column(sa.Integer)
    event_id: orm.Mapped[str] = orm.mapped_column(_name(ID_LENGTH))
    server_uuid: orm.Mapped[str] = orm.mapped_column(_name(_UUID_LENGTH))
    name: orm.Mapped[str] = orm.mapped_column(_name(NAME_LENGTH))
    tag: orm.Mapped[str | None] = orm.mapped_column(_text(TAG_LENGTH))
    status: orm.Mapped[str] = orm.mapped_column(_name(16))
    code: orm.Mapped[int] = orm.mapped_column(sa.SmallInteger)
    reason: orm.Mapped[str] = orm.mapped_column(_name(NAME_LENGTH))
    detail: orm.Mapped[str | None] = orm.mapped_column(_text(DETAIL_LENGTH))
    host: orm.Mapped[str | None] = orm.mapped_column(_name(HOST_LENGTH))
    hosts: orm.Mapped[str | None] = orm.mapped_column(sa.Text)
    ack_ms: orm.Mapped[int | None] = orm.mapped_column(sa.Integer)
    waiter: orm.Mapped[int | None] = orm.mapped_column(sa.SmallInteger)
    wait_ms: orm.Mapped[int | None] = orm.mapped_column(sa.Integer)
    handler: orm.Mapped[str | None] = orm.mapped_column(_text(ID_LENGTH))
    handler_ms: orm.Mapped[int | None] = orm.mapped_column(sa.Integer)
    replayed: orm.Mapped[int] = orm.mapped_column(sa.SmallInteger)


class JournalEventHost(Base):
    """A further host of an event of several hosts: those after the first, to find it by any of them."""

    __tablename__ = 'journal_event_hosts'
    __table_args__ = (
        sa.PrimaryKeyConstraint('received_at', 'worker', 'seq', 'host'),
        sa.Index('ix_journal_event_hosts_host', 'hour', 'host', 'received_at'),
        _INNODB,
    )

    received_at: orm.Mapped[int] = orm.mapped_column(sa.BigInteger)
    worker: orm.Mapped[int] = orm.mapped_column(sa.Integer)
    seq: orm.Mapped[int] = orm.mapped_column(sa.BigInteger)
    host: orm.Mapped[str] = orm.mapped_column(_name(HOST_LENGTH))
    hour: orm.Mapped[int] = orm.mapped_column(sa.Integer)


class JournalStep(Base):
    """What happened to an event after its answer; see ``journal.records.StepRow``."""

    __tablename__ = 'journal_steps'
    __table_args__ = (
        _clustered('at'),
        sa.Index('ix_journal_steps_server_uuid', 'hour', 'server_uuid', 'at'),
        sa.Index('ix_journal_steps_event_id', 'hour', 'event_id', 'at'),
        sa.Index('ix_journal_steps_host', 'hour', 'host', 'at'),
        sa.Index('ix_journal_steps_kind', 'kind', 'at'),
        _INNODB,
    )

    at: orm.Mapped[int] = orm.mapped_column(sa.BigInteger)
    worker: orm.Mapped[int] = orm.mapped_column(sa.Integer)
    seq: orm.Mapped[int] = orm.mapped_column(sa.BigInteger)
    hour: orm.Mapped[int] = orm.mapped_column(sa.Integer)
    event_id: orm.Mapped[str] = orm.mapped_column(_name(ID_LENGTH))
    server_uuid: orm.Mapped[str] = orm.mapped_column(_name(_UUID_LENGTH))
    kind: orm.Mapped[str] = orm.mapped_column(_name(NAME_LENGTH))
    host: orm.Mapped[str | None] = orm.mapped_column(_name(HOST_LENGTH))
    detail: orm.Mapped[str | None] = orm.mapped_column(_text(DETAIL_LENGTH))
    attempt: orm.Mapped[int | None] = orm.mapped_column(sa.Integer)
    actor: orm.Mapped[str | None] = orm.mapped_column(_text(WORKER_LENGTH))
    waiter: orm.Mapped[int | None] = orm.mapped_column(sa.SmallInteger)
    wait_ms: orm.Mapped[int | None] = orm.mapped_column(sa.Integer)
    handler: orm.Mapped[str | None] = orm.mapped_column(_text(ID_LENGTH))
    handler_ms: orm.Mapped[int | None] = orm.mapped_column(sa.Integer)


class JournalRefusal(Base):
    """A request that was refused; see ``journal.records.RefusalRow``."""

    __tablename__ = 'journal_refusals'
    __table_args__ = (
        _clustered('at'),
        sa.Index('ix_journal_refusals_request_id', 'hour', 'request_id'),
        sa.Index('ix_journal_refusals_global_request_id', 'hour', 'global_request_id'),
        _INNODB,
    )

    at: orm.Mapped[int] = orm.mapped_column(sa.BigInteger)
    worker: orm.Mapped[int] = orm.mapped_column(sa.Integer)
    seq: orm.Mapped[int] = orm.mapped_column(sa.BigInteger)
    hour: orm.Mapped[int] = orm.mapped_column(sa.Integer)
    status: orm.Mapped[int] = orm.mapped_column(sa.SmallInteger)
    reason: orm.Mapped[str] = orm.mapped_column(_name(NAME_LENGTH))
    detail: orm.Mapped[str] = orm.mapped_column(_text(DETAIL_LENGTH))
    user_id: orm.Mapped[str | None] = orm.mapped_column(_text(ID_LENGTH))
    user_name: orm.Mapped[str | None] = orm.mapped_column(_text(DETAIL_LENGTH))
    project_id: orm.Mapped[str | None] = orm.mapped_column(_text(ID_LENGTH))
    address: orm.Mapped[str | None] = orm.mapped_column(_text(ID_LENGTH))
    request_id: orm.Mapped[str | None] = orm.mapped_column(_text(ID_LENGTH))
    global_request_id: orm.Mapped[str | None] = orm.mapped_column(_text(ID_LENGTH))
    suppressed: orm.Mapped[int] = orm.mapped_column(sa.Integer)
    servers: orm.Mapped[str | None] = orm.mapped_column(sa.Text)
    names: orm.Mapped[str | None] = orm.mapped_column(sa.Text)


class JournalAction(Base):
    """An action of an operator; see ``journal.actions.ActionRow``.

    :ivar seq: a random number that distinguishes actions of the same microsecond
    :ivar filter: JSON in ASCII
    """

    __tablename__ = 'journal_actions'
    __table_args__ = (sa.PrimaryKeyConstraint('at', 'seq'), _INNODB)

    at: orm.Mapped[int] = orm.mapped_column(sa.BigInteger)
    seq: orm.Mapped[int] = orm.mapped_column(sa.BigInteger)
    action: orm.Mapped[str] = orm.mapped_column(_name(NAME_LENGTH))
    user_id: orm.Mapped[str | None] = orm.mapped_column(_text(ID_LENGTH))
    user_name: orm.Mapped[str] = orm.mapped_column(_text(DETAIL_LENGTH))
    project_id: orm.Mapped[str | None] = orm.mapped_column(_text(ID_LENGTH))
    address: orm.Mapped[str | None] = orm.mapped_column(_text(ID_LENGTH))
    request_id: orm.Mapped[str | None] = orm.mapped_column(_text(ID_LENGTH))
    filter: orm.Mapped[str] = orm.mapped_column(sa.Text)
    number: orm.Mapped[int] = orm.mapped_column(sa.Integer)
    problem: orm.Mapped[str | None] = orm.mapped_column(_text(DETAIL_LENGTH))


class JournalWorker(Base):
    """An incarnation of a worker; see ``journal.records.WorkerRow``."""

    __tablename__ = 'journal_workers'
    __table_args__ = (
        sa.Index('ix_journal_workers_stopped_at', 'stopped_at'),
        {'mysql_engine': 'InnoDB', 'sqlite_autoincrement': True},
    )

    id: orm.Mapped[int] = orm.mapped_column(sa.Integer, primary_key=True, autoincrement=True)
    name: orm.Mapped[str] = orm.mapped_column(_name(WORKER_LENGTH))
    service: orm.Mapped[str] = orm.mapped_column(_name(ID_LENGTH))
    host: orm.Mapped[str] = orm.mapped_column(_name(HOST_LENGTH))
    pid: orm.Mapped[int] = orm.mapped_column(sa.Integer)
    record: orm.Mapped[str] = orm.mapped_column(_name(16))
    started_at: orm.Mapped[int] = orm.mapped_column(sa.BigInteger)
    last_seen_at: orm.Mapped[int] = orm.mapped_column(sa.BigInteger)
    written_until: orm.Mapped[int] = orm.mapped_column(sa.BigInteger)
    stopped_at: orm.Mapped[int | None] = orm.mapped_column(sa.BigInteger)
    killed: orm.Mapped[int] = orm.mapped_column(sa.SmallInteger)
    written_seq: orm.Mapped[int] = orm.mapped_column(sa.BigInteger)
    written: orm.Mapped[int] = orm.mapped_column(sa.BigInteger)
    dropped: orm.Mapped[int] = orm.mapped_column(sa.BigInteger)


class JournalGap(Base):
    """A period for which records are missing; see ``journal.records.Gap``."""

    __tablename__ = 'journal_gaps'
    __table_args__ = (
        sa.Index('ix_journal_gaps_to_at', 'to_at'),
        {'mysql_engine': 'InnoDB', 'sqlite_autoincrement': True},
    )

    id: orm.Mapped[int] = orm.mapped_column(_SEQUENCE, primary_key=True, autoincrement=True)
    worker: orm.Mapped[int] = orm.mapped_column(sa.Integer)
    reason: orm.Mapped[str] = orm.mapped_column(_name(NAME_LENGTH))
    from_at: orm.Mapped[int] = orm.mapped_column(sa.BigInteger)
    to_at: orm.Mapped[int] = orm.mapped_column(sa.BigInteger)
    from_seq: orm.Mapped[int | None] = orm.mapped_column(sa.BigInteger)
    to_seq: orm.Mapped[int | None] = orm.mapped_column(sa.BigInteger)
    missing: orm.Mapped[int | None] = orm.mapped_column(sa.BigInteger)


class JournalRetention(Base):
    """The deletions by retention, and the worker that deletes now. The table has one row.

    :ivar worker: the worker that deletes until ``leased_until``
    :ivar deleted_until: rows of requests that arrived before this time have been deleted
    :ivar balance: event rows written by workers whose row in ``journal_workers`` was deleted, minus the
        deleted event rows; negative while most workers have a row
    """

    __tablename__ = 'journal_retention'
    __table_args__ = {'mysql_engine': 'InnoDB'}

    id: orm.Mapped[int] = orm.mapped_column(sa.Integer, primary_key=True, autoincrement=False)
    worker: orm.Mapped[int] = orm.mapped_column(sa.Integer)
    leased_until: orm.Mapped[int] = orm.mapped_column(sa.BigInteger)
    deleted_until: orm.Mapped[int] = orm.mapped_column(sa.BigInteger)
    balance: orm.Mapped[int] = orm.mapped_column(sa.BigInteger)


class HostReport(Base):
    """The last report of a host.

    :ivar reported_at: seconds since the epoch, by the database's clock
    """

    __tablename__ = 'host_reports'
    __table_args__ = {'mysql_engine': 'InnoDB'}

    host: orm.Mapped[str] = orm.mapped_column(_name(HOST_LENGTH), primary_key=True)
    reported_at: orm.Mapped[float] = orm.mapped_column(sa.Double)


class OpenBreaker(Base):
    """A host whose circuit breaker is open in a worker.

    :ivar worker: name of the resolver worker
    :ivar seen_at: when the worker wrote the row last, by the database's clock; a worker that has ended
        does not write it again
    """

    __tablename__ = 'open_breakers'
    __table_args__ = {'mysql_engine': 'InnoDB'}

    worker: orm.Mapped[str] = orm.mapped_column(_name(CLAIM_LENGTH), primary_key=True)
    host: orm.Mapped[str] = orm.mapped_column(_name(HOST_LENGTH), primary_key=True)
    seen_at: orm.Mapped[float] = orm.mapped_column(sa.Double)
