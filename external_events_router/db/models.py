"""The tables of the service.

Only their shape: who reads and writes them are the modules that own the data
(``resolver.host_map.sql``, ``resolver.hold.store``, ``resolver.report_key``). What changes here
needs a migration beside it.
"""

from __future__ import annotations

from collections.abc import Collection
import json

import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.dialects import mysql

#: Characters of a host's name: what a compute host may be called at most.
HOST_LENGTH = 255

#: Characters that are kept of the reason of a failed attempt, and of who claims.
REASON_LENGTH = 255
CLAIM_LENGTH = 320

#: Hexadecimal digits of a key.
KEY_LENGTH = 64

_UUID_LENGTH = 36

# NOTE: SQLite numbers rows itself only in a column of exactly this type.
_SEQUENCE = sa.BigInteger().with_variant(sa.Integer, 'sqlite')


def _name(length: int) -> sa.String:
    """A column type whose values are ASCII and compare byte by byte on every database.

    MySQL would otherwise take host names that differ in case for the same, and
    PostgreSQL sort by the rules of a language.
    """
    return (
        sa.String(length)
        .with_variant(sa.String(length, collation='C'), 'postgresql')
        .with_variant(mysql.VARCHAR(length, charset='ascii', collation='ascii_bin'), 'mysql', 'mariadb')
    )


def host_list(hosts: Collection[str]) -> str:
    """Hosts as a column has them: a JSON list in their order, so that equal sets are equal texts."""
    return json.dumps(sorted(hosts))


def host_set(text: str | None) -> frozenset[str]:
    """The hosts that a column names; null, and what is damaged: none."""
    try:
        hosts = json.loads(text) if text else ()
    except (ValueError, RecursionError):
        return frozenset()
    return (
        frozenset(host for host in hosts if isinstance(host, str)) if isinstance(hosts, list) else frozenset()
    )


class Base(orm.DeclarativeBase):
    """What all tables share."""

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
    """A host that a server is on: no row, one, or two while it migrates."""

    __tablename__ = 'server_hosts'
    __table_args__ = {'mysql_engine': 'InnoDB'}

    server_uuid: orm.Mapped[str] = orm.mapped_column(
        _name(_UUID_LENGTH), sa.ForeignKey(Server.uuid, ondelete='CASCADE'), primary_key=True
    )
    host: orm.Mapped[str] = orm.mapped_column(_name(HOST_LENGTH), primary_key=True, index=True)


class HeldServer(Base):
    """A server that has events held: what its next attempt waits for.

    Events of a server are delivered in their order, so it is the server that is
    claimed by a worker and tried again, not the event.

    All times are seconds since the epoch by the database's clock, because those
    of the machines may differ.

    :ivar next_attempt: when it is due
    :ivar attempts: how many there were
    :ivar reason: why the last one did not succeed, or why it was held
    :ivar claimed_by: the worker that tries it now
    :ivar claimed_until: when another worker may take over
    :ivar free_hosts: the hosts that have acknowledged every held event of the server, a
        JSON list: they get later events at once. Null: there is none
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
    """A host that a held server waits for."""

    __tablename__ = 'held_hosts'
    __table_args__ = {'mysql_engine': 'InnoDB'}

    server_uuid: orm.Mapped[str] = orm.mapped_column(
        _name(_UUID_LENGTH), sa.ForeignKey(HeldServer.server_uuid, ondelete='CASCADE'), primary_key=True
    )
    host: orm.Mapped[str] = orm.mapped_column(_name(HOST_LENGTH), primary_key=True, index=True)


class HeldEvent(Base):
    """An event that was answered 200 and not yet acknowledged by all its hosts.

    :ivar seq: the order in which a server's events are delivered
    :ivar event: as ``Event.to_dict`` makes it, JSON in ASCII
    :ivar context: the request ids and the caller, JSON
    :ivar held_at: when it was held
    :ivar deadline: until when it is worth anything
    :ivar acknowledged: the hosts that have acknowledged it, a JSON list
    """

    __tablename__ = 'held_events'
    __table_args__ = (
        sa.UniqueConstraint('event_id'),
        {'mysql_engine': 'InnoDB', 'sqlite_autoincrement': True},
    )

    seq: orm.Mapped[int] = orm.mapped_column(_SEQUENCE, primary_key=True, autoincrement=True)
    event_id: orm.Mapped[str] = orm.mapped_column(_name(_UUID_LENGTH))
    # No cascade: a server's row must not go while it has events.
    server_uuid: orm.Mapped[str] = orm.mapped_column(
        _name(_UUID_LENGTH), sa.ForeignKey(HeldServer.server_uuid), index=True
    )
    event: orm.Mapped[str] = orm.mapped_column(sa.Text)
    context: orm.Mapped[str] = orm.mapped_column(sa.Text)
    held_at: orm.Mapped[float] = orm.mapped_column(sa.Double)
    deadline: orm.Mapped[float] = orm.mapped_column(sa.Double)
    acknowledged: orm.Mapped[str] = orm.mapped_column(sa.Text)


class EndedEvent(Base):
    """An event whose hold ended without all acknowledgements, kept for inspection.

    :ivar state: ``expired``, ``refused``, ``gone`` or ``damaged``
    :ivar hosts: the hosts that it waited for, a JSON list
    :ivar reason: why the last attempt did not succeed
    :ivar ended_at: when, as all times here
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
    """The key of the tokens that agents send with their reports: one row.

    :ivar key: hexadecimal
    """

    __tablename__ = 'report_keys'
    __table_args__ = {'mysql_engine': 'InnoDB'}

    id: orm.Mapped[int] = orm.mapped_column(sa.Integer, primary_key=True, autoincrement=False)
    key: orm.Mapped[str] = orm.mapped_column(_name(KEY_LENGTH))
