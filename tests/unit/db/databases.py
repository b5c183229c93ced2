"""A configured database for tests, with any URL."""

import contextlib
import functools

from oslo_config import cfg
import sqlalchemy as sa

from external_events_router import conf as router_conf
from external_events_router.db import connecting
from external_events_router.db import migration
from external_events_router.db import session


def configured(url, **options):
    """A configuration with this connection and these options in ``[database]``."""
    conf = cfg.ConfigOpts()
    router_conf.register_all(conf)
    conf([])
    for name, value in {'connection': url, **options}.items():
        conf.set_override(name, value, group='database')
    return conf


def database(url, *, read_timeout=connecting.READ_TIMEOUT, **options):
    """The database of this configuration."""
    return session.Database.from_conf(configured(url, **options), read_timeout=read_timeout)


def create_schema(a_database):
    """Create the schema of the newest revision, if the database is empty, like ``migration.upgrade``.

    An upgrade takes about 0.1 s of processor time, so each process runs it once for SQLite, and
    this function repeats its result.
    """
    if a_database.dialect != 'sqlite':
        migration.upgrade(a_database)
        return
    with a_database.writing() as connection:
        if sa.inspect(connection).get_table_names():
            return
        for statement in _upgraded():
            connection.exec_driver_sql(statement)


@functools.cache
def _upgraded():
    """The statements that create an upgraded SQLite database."""
    with contextlib.closing(database('sqlite://')) as memory:
        migration.upgrade(memory)
        with memory.reading() as connection:
            dump = list(connection.connection.driver_connection.iterdump())
    return [statement for statement in dump if statement not in ('BEGIN TRANSACTION;', 'COMMIT;')]


@contextlib.contextmanager
def statements(a_database):
    """The statements that are sent within the block, without the beginnings of transactions."""
    sent = []

    def keep(connection, cursor, statement, *rest):
        if statement not in ('BEGIN', 'BEGIN IMMEDIATE', 'ROLLBACK'):
            sent.append(statement)

    # Frequent queries use the driver directly, if it has connections for this.
    fetch = a_database._fetch

    def fetched(statement, parameters):
        sent.append(statement)
        return fetch(statement, parameters)

    a_database._fetch = fetched
    engines = {a_database._engine, a_database._reader}
    for engine in engines:
        sa.event.listen(engine, 'before_cursor_execute', keep)
    try:
        yield sent
    finally:
        del a_database._fetch
        for engine in engines:
            sa.event.remove(engine, 'before_cursor_execute', keep)
