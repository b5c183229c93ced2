"""The host map: servers, and the hosts that they are on."""

from __future__ import annotations

from alembic import op
import sqlalchemy as sa
from sqlalchemy.dialects import mysql

revision = '001'
down_revision = None


def _name(length: int) -> sa.String:
    return (
        sa.String(length)
        .with_variant(sa.String(length, collation='C'), 'postgresql')
        .with_variant(mysql.VARCHAR(length, charset='ascii', collation='ascii_bin'), 'mysql', 'mariadb')
    )


def upgrade() -> None:
    op.create_table(
        'servers',
        sa.Column('uuid', _name(36), nullable=False),
        sa.PrimaryKeyConstraint('uuid', name='pk_servers'),
        mysql_engine='InnoDB',
    )
    op.create_table(
        'server_hosts',
        sa.Column('server_uuid', _name(36), nullable=False),
        sa.Column('host', _name(255), nullable=False),
        sa.PrimaryKeyConstraint('server_uuid', 'host', name='pk_server_hosts'),
        sa.ForeignKeyConstraint(
            ['server_uuid'],
            ['servers.uuid'],
            name='fk_server_hosts_server_uuid',
            ondelete='CASCADE',
        ),
        mysql_engine='InnoDB',
    )
    op.create_index('ix_server_hosts_host', 'server_hosts', ['host'])
