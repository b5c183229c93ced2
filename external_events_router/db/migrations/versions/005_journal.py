"""The journal: requests, events, later steps, refusals, and the workers that record them."""

from __future__ import annotations

from alembic import op
import sqlalchemy as sa
from sqlalchemy.dialects import mysql

revision = '005'
down_revision = '004'


def _name(length: int) -> sa.String:
    return (
        sa.String(length)
        .with_variant(sa.String(length, collation='C'), 'postgresql')
        .with_variant(mysql.VARCHAR(length, charset='ascii', collation='ascii_bin'), 'mysql', 'mariadb')
    )


def _text(length: int) -> sa.String:
    return (
        sa.String(length)
        .with_variant(sa.String(length, collation='C'), 'postgresql')
        .with_variant(mysql.VARCHAR(length, charset='utf8mb4', collation='utf8mb4_bin'), 'mysql', 'mariadb')
    )


def _columns(time_column: str) -> list[sa.Column[object]]:
    """Return the columns that identify a record: they are the primary key, with the time first."""
    return [
        sa.Column(time_column, sa.BigInteger, nullable=False),
        sa.Column('worker', sa.Integer, nullable=False),
        sa.Column('seq', sa.BigInteger, nullable=False),
        sa.Column('hour', sa.Integer, nullable=False),
    ]


def _handling() -> list[sa.Column[object]]:
    return [
        sa.Column('waiter', sa.SmallInteger, nullable=True),
        sa.Column('wait_ms', sa.Integer, nullable=True),
        sa.Column('handler', _text(64), nullable=True),
        sa.Column('handler_ms', sa.Integer, nullable=True),
    ]


def _create(
    table: str, *columns: sa.schema.SchemaItem, key: tuple[str, ...], indexes: dict[str, list[str]]
) -> None:
    op.create_table(table, *columns, sa.PrimaryKeyConstraint(*key, name=f'pk_{table}'), mysql_engine='InnoDB')
    for name, indexed in indexes.items():
        op.create_index(f'ix_{table}_{name}', table, indexed)


def _sequence() -> sa.BigInteger:
    return sa.BigInteger().with_variant(sa.Integer, 'sqlite')


def upgrade() -> None:
    _create_requests()
    _create_events()
    _create_event_hosts()
    _create_steps()
    _create_refusals()
    _create_workers()
    _create_gaps()
    _create_retention()


def _create_requests() -> None:
    _create(
        'journal_requests',
        *_columns('received_at'),
        sa.Column('events', sa.Integer, nullable=False),
        sa.Column('request_id', _text(64), nullable=True),
        sa.Column('global_request_id', _text(64), nullable=True),
        sa.Column('user_id', _text(64), nullable=True),
        sa.Column('project_id', _text(64), nullable=True),
        sa.Column('duration_ms', sa.Integer, nullable=False),
        key=('received_at', 'worker', 'seq'),
        indexes={
            'request_id': ['hour', 'request_id'],
            'global_request_id': ['hour', 'global_request_id'],
            'user_id': ['user_id', 'received_at'],
        },
    )


def _create_events() -> None:
    _create(
        'journal_events',
        *_columns('received_at'),
        sa.Column('event_id', _name(64), nullable=False),
        sa.Column('server_uuid', _name(36), nullable=False),
        sa.Column('name', _name(32), nullable=False),
        sa.Column('tag', _text(255), nullable=True),
        sa.Column('status', _name(16), nullable=False),
        sa.Column('code', sa.SmallInteger, nullable=False),
        sa.Column('reason', _name(32), nullable=False),
        sa.Column('detail', _text(255), nullable=True),
        sa.Column('host', _name(255), nullable=True),
        sa.Column('hosts', sa.Text, nullable=True),
        sa.Column('ack_ms', sa.Integer, nullable=True),
        *_handling(),
        sa.Column('replayed', sa.SmallInteger, nullable=False),
        key=('received_at', 'worker', 'seq'),
        indexes={
            'server_uuid': ['hour', 'server_uuid', 'received_at'],
            'tag': ['hour', 'tag', 'received_at'],
            'event_id': ['hour', 'event_id'],
            'host': ['hour', 'host', 'received_at'],
            'reason': ['reason', 'received_at'],
        },
    )


def _create_event_hosts() -> None:
    _create(
        'journal_event_hosts',
        *_columns('received_at'),
        sa.Column('host', _name(255), nullable=False),
        key=('received_at', 'worker', 'seq', 'host'),
        indexes={'host': ['hour', 'host', 'received_at']},
    )


def _create_steps() -> None:
    _create(
        'journal_steps',
        *_columns('at'),
        sa.Column('event_id', _name(64), nullable=False),
        sa.Column('server_uuid', _name(36), nullable=False),
        sa.Column('kind', _name(32), nullable=False),
        sa.Column('host', _name(255), nullable=True),
        sa.Column('detail', _text(255), nullable=True),
        sa.Column('attempt', sa.Integer, nullable=True),
        sa.Column('actor', _text(320), nullable=True),
        *_handling(),
        key=('at', 'worker', 'seq'),
        indexes={
            'server_uuid': ['hour', 'server_uuid', 'at'],
            'event_id': ['hour', 'event_id', 'at'],
            'host': ['hour', 'host', 'at'],
            'kind': ['kind', 'at'],
        },
    )


def _create_refusals() -> None:
    _create(
        'journal_refusals',
        *_columns('at'),
        sa.Column('status', sa.SmallInteger, nullable=False),
        sa.Column('reason', _name(32), nullable=False),
        sa.Column('detail', _text(255), nullable=False),
        sa.Column('user_id', _text(64), nullable=True),
        sa.Column('user_name', _text(255), nullable=True),
        sa.Column('project_id', _text(64), nullable=True),
        sa.Column('address', _text(64), nullable=True),
        sa.Column('request_id', _text(64), nullable=True),
        sa.Column('global_request_id', _text(64), nullable=True),
        sa.Column('suppressed', sa.Integer, nullable=False),
        sa.Column('servers', sa.Text, nullable=True),
        sa.Column('names', sa.Text, nullable=True),
        key=('at', 'worker', 'seq'),
        indexes={
            'request_id': ['hour', 'request_id'],
            'global_request_id': ['hour', 'global_request_id'],
        },
    )


def _create_workers() -> None:
    op.create_table(
        'journal_workers',
        sa.Column('id', sa.Integer, nullable=False, autoincrement=True),
        sa.Column('name', _name(320), nullable=False),
        sa.Column('service', _name(64), nullable=False),
        sa.Column('host', _name(255), nullable=False),
        sa.Column('pid', sa.Integer, nullable=False),
        sa.Column('record', _name(16), nullable=False),
        sa.Column('started_at', sa.BigInteger, nullable=False),
        sa.Column('last_seen_at', sa.BigInteger, nullable=False),
        sa.Column('written_until', sa.BigInteger, nullable=False),
        sa.Column('stopped_at', sa.BigInteger, nullable=True),
        sa.Column('killed', sa.SmallInteger, nullable=False),
        sa.Column('written_seq', sa.BigInteger, nullable=False),
        sa.Column('written', sa.BigInteger, nullable=False),
        sa.Column('dropped', sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint('id', name='pk_journal_workers'),
        mysql_engine='InnoDB',
        sqlite_autoincrement=True,
    )
    op.create_index('ix_journal_workers_stopped_at', 'journal_workers', ['stopped_at'])


def _create_gaps() -> None:
    op.create_table(
        'journal_gaps',
        sa.Column('id', _sequence(), nullable=False, autoincrement=True),
        sa.Column('worker', sa.Integer, nullable=False),
        sa.Column('reason', _name(32), nullable=False),
        sa.Column('from_at', sa.BigInteger, nullable=False),
        sa.Column('to_at', sa.BigInteger, nullable=False),
        sa.Column('from_seq', sa.BigInteger, nullable=True),
        sa.Column('to_seq', sa.BigInteger, nullable=True),
        sa.Column('missing', sa.BigInteger, nullable=True),
        sa.PrimaryKeyConstraint('id', name='pk_journal_gaps'),
        mysql_engine='InnoDB',
        sqlite_autoincrement=True,
    )
    op.create_index('ix_journal_gaps_to_at', 'journal_gaps', ['to_at'])


def _create_retention() -> None:
    op.create_table(
        'journal_retention',
        sa.Column('id', sa.Integer, nullable=False, autoincrement=False),
        sa.Column('worker', sa.Integer, nullable=False),
        sa.Column('leased_until', sa.BigInteger, nullable=False),
        sa.Column('deleted_until', sa.BigInteger, nullable=False),
        sa.Column('balance', sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint('id', name='pk_journal_retention'),
        mysql_engine='InnoDB',
    )
