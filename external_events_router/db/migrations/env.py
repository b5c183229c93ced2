"""The environment of alembic: runs the migrations on the given connection."""

from __future__ import annotations

from alembic import context
import sqlalchemy as sa

from external_events_router.db import models


def _run(connection: sa.Connection) -> None:
    context.configure(connection=connection, target_metadata=models.Base.metadata)
    with context.begin_transaction():
        context.run_migrations()


_given = context.config.attributes.get('connection')
if _given is not None:
    _run(_given)
else:
    # For developers: alembic -c .../alembic.ini -x url=sqlite:///... revision --autogenerate
    with sa.create_engine(context.get_x_argument(as_dictionary=True)['url']).begin() as _connection:
        _run(_connection)
