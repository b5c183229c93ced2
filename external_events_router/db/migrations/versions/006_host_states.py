"""The last report of each host, and the workers whose circuit breaker for it is open."""

from __future__ import annotations

from alembic import op
import sqlalchemy as sa
from sqlalchemy.dialects import mysql

revision = '006'
down_revision = '005'


def _name(length: int) -> sa.String:
    return (
        sa.String(length)
        .with_variant(sa.String(length, collation='C'), 'postgresql')
        .with_variant(mysql.VARCHAR(length, charset='ascii', collation='ascii_bin'), 'mysql', 'mariadb')
    )


def upgrade() -> None:
    op.create_table(
        'host_reports',
        sa.Column('host', _name(255), nullable=False),
        sa.Column('reported_at', sa.Double, nullable=False),
        sa.PrimaryKeyConstraint('host', name='pk_host_reports'),
        mysql_engine='InnoDB',
    )
    op.create_table(
        'open_breakers',
        sa.Column('worker', _name(320), nullable=False),
        sa.Column('host', _name(255), nullable=False),
        sa.Column('seen_at', sa.Double, nullable=False),
        sa.PrimaryKeyConstraint('worker', 'host', name='pk_open_breakers'),
        mysql_engine='InnoDB',
    )
