"""The version of the schema: read it, bring it up, insist on it.

The steps themselves are in ``migrations/versions``.
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

#: How to wait, a minute or as long as a statement may take, for another upgrade to end.
_LOCKS = {
    'mysql': sa.select(sa.func.get_lock('external_events_router.upgrade', 60)),
    'postgresql': sa.select(sa.func.pg_advisory_lock(0x65767274)),
}


def head() -> str:
    """The newest revision that this release knows."""
    revision = _scripts().get_current_head()
    assert revision is not None  # noqa: S101 - there are migrations
    return revision


def current(database: session.Database) -> str | None:
    """The revision of the schema; None: there is none.

    :raises DatabaseUnavailable: the database cannot be asked
    """
    with session.translated(), database.reading() as connection:
        return _revision(connection)


def upgrade(database: session.Database) -> None:
    """Bring the schema to :func:`head`. Two at once do it one after the other.

    :raises DatabaseUnavailable: the database cannot be asked, or refused a step
    """
    with session.translated(), _alone(database), database.writing() as connection:
        revision = _revision(connection)
        if revision is None or _is_known(revision):
            settings = _config()
            settings.attributes['connection'] = connection
            command.upgrade(settings, 'head')


def check(database: session.Database, *, option: str = connecting.OPTION) -> None:
    """Insist on a schema that this release can use.

    A newer one is taken, because a rolling upgrade begins with the schema.

    :param option: that names the database, for the error
    :raises ConfigurationError: the database cannot be asked, or its schema is missing or old
    """
    try:
        revision = current(database)
    except exceptions.DatabaseUnavailable as exc:
        raise exceptions.ConfigurationError(option=option, reason=str(exc)) from exc
    if revision == head():
        return
    if revision is not None and not _is_known(revision):
        LOG.warning('The schema is at revision %s, newer than this release knows (%s)', revision, head())
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


def _is_known(revision: str) -> bool:
    return any(step.revision == revision for step in _scripts().walk_revisions())


@contextlib.contextmanager
def _alone(database: session.Database) -> Iterator[None]:
    if database.dialect == 'sqlite':
        # The transaction holds the file.
        yield
        return
    # NOTE: on a connection of its own, because MySQL ends the transaction at
    # each step. The lock ends with the connection.
    with database.reading() as connection:
        try:
            if connection.scalar(_LOCKS[database.dialect]) == 0:
                raise exceptions.DatabaseUnavailable(reason='another upgrade is running')
            yield
        finally:
            connection.invalidate()
