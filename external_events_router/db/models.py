"""The tables of the service.

Only their shape: who reads and writes them are the modules that own the data
(``resolver.host_map.sql``). What changes here needs a migration beside it.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.dialects import mysql

#: Characters of a host's name: what a compute host may be called at most.
HOST_LENGTH = 255

_UUID_LENGTH = 36


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
