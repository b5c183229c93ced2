"""Add the table of actions of operators: operator, action, filter, number of objects, and time."""

from __future__ import annotations

from alembic import op
import sqlalchemy as sa
from sqlalchemy.dialects import mysql

revision = '007'
down_revision = '006'


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


def upgrade() -> None:
    op.create_table(
        'journal_actions',
        sa.Column('at', sa.BigInteger, nullable=False),
        sa.Column('seq', sa.BigInteger, nullable=False),
        sa.Column('action', _name(32), nullable=False),
        sa.Column('user_id', _text(64), nullable=True),
        sa.Column('user_name', _text(255), nullable=False),
        sa.Column('project_id', _text(64), nullable=True),
        sa.Column('address', _text(64), nullable=True),
        sa.Column('request_id', _text(64), nullable=True),
        sa.Column('filter', sa.Text, nullable=False),
        sa.Column('number', sa.Integer, nullable=False),
        sa.Column('problem', _text(255), nullable=True),
        sa.PrimaryKeyConstraint('at', 'seq', name='pk_journal_actions'),
        mysql_engine='InnoDB',
    )
