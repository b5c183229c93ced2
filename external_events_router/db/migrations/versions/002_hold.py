"""Add the tables of the hold: events without acknowledgement, and events that ended without it."""

from __future__ import annotations

from alembic import op
import sqlalchemy as sa
from sqlalchemy.dialects import mysql

revision = '002'
down_revision = '001'


def _name(length: int) -> sa.String:
    return (
        sa.String(length)
        .with_variant(sa.String(length, collation='C'), 'postgresql')
        .with_variant(mysql.VARCHAR(length, charset='ascii', collation='ascii_bin'), 'mysql', 'mariadb')
    )


def _sequence() -> sa.BigInteger:
    return sa.BigInteger().with_variant(sa.Integer, 'sqlite')


def upgrade() -> None:
    op.create_table(
        'held_servers',
        sa.Column('server_uuid', _name(36), nullable=False),
        sa.Column('next_attempt', sa.Double, nullable=False),
        sa.Column('attempts', sa.Integer, nullable=False),
        sa.Column('reason', sa.String(255), nullable=False),
        sa.Column('claimed_by', sa.String(320), nullable=True),
        sa.Column('claimed_until', sa.Double, nullable=False),
        sa.PrimaryKeyConstraint('server_uuid', name='pk_held_servers'),
        mysql_engine='InnoDB',
    )
    op.create_index('ix_held_servers_next_attempt', 'held_servers', ['next_attempt'])
    op.create_table(
        'held_hosts',
        sa.Column('server_uuid', _name(36), nullable=False),
        sa.Column('host', _name(255), nullable=False),
        sa.PrimaryKeyConstraint('server_uuid', 'host', name='pk_held_hosts'),
        sa.ForeignKeyConstraint(
            ['server_uuid'],
            ['held_servers.server_uuid'],
            name='fk_held_hosts_server_uuid',
            ondelete='CASCADE',
        ),
        mysql_engine='InnoDB',
    )
    op.create_index('ix_held_hosts_host', 'held_hosts', ['host'])
    op.create_table(
        'held_events',
        sa.Column('seq', _sequence(), nullable=False, autoincrement=True),
        sa.Column('event_id', _name(36), nullable=False),
        sa.Column('server_uuid', _name(36), nullable=False),
        sa.Column('event', sa.Text, nullable=False),
        sa.Column('context', sa.Text, nullable=False),
        sa.Column('held_at', sa.Double, nullable=False),
        sa.Column('deadline', sa.Double, nullable=False),
        sa.Column('acknowledged', sa.Text, nullable=False),
        sa.PrimaryKeyConstraint('seq', name='pk_held_events'),
        sa.UniqueConstraint('event_id', name='uq_held_events_event_id'),
        sa.ForeignKeyConstraint(
            ['server_uuid'], ['held_servers.server_uuid'], name='fk_held_events_server_uuid'
        ),
        mysql_engine='InnoDB',
        sqlite_autoincrement=True,
    )
    op.create_index('ix_held_events_server_uuid', 'held_events', ['server_uuid'])
    op.create_table(
        'ended_events',
        sa.Column('seq', _sequence(), nullable=False, autoincrement=True),
        sa.Column('event_id', _name(36), nullable=False),
        sa.Column('server_uuid', _name(36), nullable=False),
        sa.Column('event', sa.Text, nullable=False),
        sa.Column('context', sa.Text, nullable=False),
        sa.Column('state', _name(16), nullable=False),
        sa.Column('hosts', sa.Text, nullable=False),
        sa.Column('reason', sa.String(255), nullable=False),
        sa.Column('attempts', sa.Integer, nullable=False),
        sa.Column('held_at', sa.Double, nullable=False),
        sa.Column('ended_at', sa.Double, nullable=False),
        sa.PrimaryKeyConstraint('seq', name='pk_ended_events'),
        mysql_engine='InnoDB',
        sqlite_autoincrement=True,
    )
    op.create_index('ix_ended_events_event_id', 'ended_events', ['event_id'])
    op.create_index('ix_ended_events_server_uuid', 'ended_events', ['server_uuid'])
    op.create_index('ix_ended_events_ended_at', 'ended_events', ['ended_at'])
