"""The key of the tokens that agents send with their reports; the first resolver makes it."""

from __future__ import annotations

from alembic import op
import sqlalchemy as sa
from sqlalchemy.dialects import mysql

revision = '004'
down_revision = '003'


def _name(length: int) -> sa.String:
    return (
        sa.String(length)
        .with_variant(sa.String(length, collation='C'), 'postgresql')
        .with_variant(mysql.VARCHAR(length, charset='ascii', collation='ascii_bin'), 'mysql', 'mariadb')
    )


def upgrade() -> None:
    op.create_table(
        'report_keys',
        sa.Column('id', sa.Integer, nullable=False, autoincrement=False),
        sa.Column('key', _name(64), nullable=False),
        sa.PrimaryKeyConstraint('id', name='pk_report_keys'),
        mysql_engine='InnoDB',
    )
