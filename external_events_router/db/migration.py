"""The version of the schema: read it, upgrade it, check it.

The steps are in ``migrations/versions``.
"""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import pathlib

from alembic import command
from alembic import config
from alembic import script
from alembic.runtime import migration
from oslo_log import log
import sqlalchemy as sa

from external_events_router import exceptions
from external_events_router.db import connecting
from external_events_router.db import session

LOG = log.getLogger(__name__)

_INI = pathlib.Path(__file__).with_name('alembic.ini')

#: Statements that wait for the end of another upgrade: one minute, or the timeout of a statement.
_LOCKS = {
    'mysql': sa.select(sa.func.get_lock('external_events_router.upgrade', 60)),
    'postgresql': sa.select(sa.func.pg_advisory_lock(0x65767274)),
}


def head() -> str:
    """Return the newest revision in this release."""
    revision = _scripts().get_current_head()
    assert revision is not None  # noqa: S101 - there are migrations
    return revision


def current(database: session.Database) -> str | None:
    """Return the revision of the schema; None: there is no schema.

    :raises DatabaseUnavailable: the database is unavailable
    """
    with session.translated(), database.reading() as connection:
        return _revision(connection)


def upgrade(database: session.Database) -> None:
    """Upgrade the schema to :func:`head`. Two simultaneous upgrades run one after the other.

    :raises DatabaseUnavailable: the database is unavailable, or a step has failed
    :raises NewerSchema: a newer release has upgraded the schema; nothing has changed
    """
    with session.translated(), _alone(database), database.writing() as connection:
        revision = _revision(connection)
        if revision is not None and not is_known(revision):
            raise exceptions.NewerSchema(revision=revision, newest=head())
        settings = _config()
        settings.attributes['connection'] = connection
        command.upgrade(settings, 'head')


def check(database: session.Database, *, option: str = connecting.OPTION) -> None:
    """Check that this release can use the schema.

    A newer schema is accepted, because a rolling upgrade starts with the schema.

    :param option: option that names the database, for the error
    :raises ConfigurationError: the database is unavailable, or its schema is missing or too old
    """
    try:
        revision = current(database)
    except exceptions.DatabaseUnavailable as exc:
        raise exceptions.ConfigurationError(option=option, reason=str(exc)) from exc
    if revision == head():
        return
    if revision is not None and not is_known(revision):
        LOG.warning(
            'The schema is at revision %s, newer than this release supports (%s); upgrade this service, too',
            revision,
            head(),
        )
        return
    found = 'there is no schema' if revision is None else f'the schema is at {revision}, not at {head()}'
    raise exceptions.ConfigurationError(
        option=option, reason=f'{found}; run: external-events-manage db upgrade'
    )


def _config() -> config.Config:
    return config.Config(str(_INI))


def _scripts() -> script.ScriptDirectory:
    return script.ScriptDirectory.from_config(_config())


def _revision(connection: sa.Connection) -> str | None:
    revision: str | None = migration.MigrationContext.configure(connection).get_current_revision()
    return revision


def is_known(revision: str) -> bool:
    """Return whether this release has a migration to a revision."""
    return any(step.revision == revision for step in _scripts().walk_revisions())


@contextlib.contextmanager
def _alone(database: session.Database) -> Iterator[None]:
    if database.dialect == 'sqlite':
        # The transaction locks the file.
        yield
        return
    # NOTE: on a separate connection, because MySQL ends the transaction at each step. The lock is
    # released with the connection.
    with database.reading() as connection:
        try:
            if connection.scalar(_LOCKS[database.dialect]) == 0:
                raise exceptions.DatabaseUnavailable(reason='another upgrade is running')
            yield
        finally:
            connection.invalidate()
