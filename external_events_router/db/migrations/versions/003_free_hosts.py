"""The hosts of a held server that have acknowledged all its held events: they get later ones at once."""

from __future__ import annotations

from alembic import op
import sqlalchemy as sa

revision = '003'
down_revision = '002'


def upgrade() -> None:
    # NOTE: existing rows, and rows that an older release writes, have null: no host of
    # the server is free.
    op.add_column('held_servers', sa.Column('free_hosts', sa.Text, nullable=True))
