"""Checks of the databases of the service: login, schema, grants, clock."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence
import time

import sqlalchemy as sa

from external_events_router import exceptions
from external_events_router.db import migration
from external_events_router.db import models
from external_events_router.db import session
from external_events_router.doctor import base

#: Seconds of difference between the clocks that have no visible effect.
CLOCK = 2.0

_JOURNAL = '[journal] connection'

#: Text of a database in an error, and the remedy. The numbers are those of MariaDB and MySQL.
_REMEDIES = (
    (
        ('1045', 'password authentication failed', 'no password supplied'),
        'correct user and password in {option}',
    ),
    (('1044', 'permission denied for database'), 'grant the user access to this database'),
    (('1049', '" does not exist'), 'correct the name of the database in {option}, or create it'),
    (
        ('2003', 'connection refused', 'timeout', 'timed out', 'resolve'),
        'start the database, or correct {option}',
    ),
    (('1698', 'no pg_hba.conf entry'), 'let the database accept this user from this address'),
)


def _databases(site: base.Site) -> Iterator[tuple[str, session.Database]]:
    """Yield the databases of the service, each with the option that names it."""
    yield '[database] connection', site.database()
    if url := site.conf.journal.connection:
        yield _JOURNAL, site.database_at(url, option=_JOURNAL)


def check_login(site: base.Site) -> base.Result:
    """Log in to each database."""
    found = []
    for option, database in _databases(site):
        try:
            with session.translated(), database.reading() as connection:
                connection.execute(sa.text('SELECT 1'))
                found.append(f'{option}: {_server(connection)}')
        except exceptions.DatabaseUnavailable as exc:
            reason = str(exc.kwargs['reason'])
            return base.fail(f'{option}: {reason}', remedy(reason, option))
    return base.ok('; '.join(found))


def _server(connection: sa.Connection) -> str:
    version = '.'.join(map(str, connection.dialect.server_version_info or ()))
    name = 'MariaDB' if getattr(connection.dialect, 'is_mariadb', False) else connection.dialect.name
    return f'{name} {version}'


def remedy(reason: str, option: str) -> str:
    """Return the remedy for an error of a login.

    :param reason: text of the database or of its driver
    :param option: option with the URL
    """
    lower = reason.lower()
    for texts, text in _REMEDIES:
        if any(each in lower for each in texts):
            return text.format(option=option)
    return f'correct {option}'


def check_schema(site: base.Site) -> base.Result:
    """Compare the version of the schema with this release."""
    newest = migration.head()
    for option, database in _databases(site):
        revision = migration.current(database)
        if revision == newest:
            continue
        if revision is None:
            return base.fail(f'{option}: the database has no schema', 'external-events-manage db upgrade')
        if migration.is_known(revision):
            return base.fail(
                f'{option}: the schema has version {revision}, and this release needs {newest}',
                'external-events-manage db upgrade',
            )
        return base.warn(
            f'{option}: the schema has version {revision}, newer than this release ({newest})',
            'upgrade this service to the release of the schema',
        )
    return base.ok(f'version {newest}')


def check_grants(site: base.Site) -> base.Result:
    """Execute each kind of statement on each table, without any effect on its rows."""
    for option, database in _databases(site):
        refused = [
            *refused_statements(database, tables_of(option), STATEMENTS),
            *_refused_sequences(database, tables_of(option)),
        ]
        if refused:
            return base.fail(
                f'{option}: the user must not {base.few(refused)}',
                'grant SELECT, INSERT, UPDATE, DELETE on all tables; on PostgreSQL also USAGE of sequences',
            )
    return base.ok('the user may read and write all tables')


#: Kinds of statements, each with one that changes no row of the table.
STATEMENTS = {
    'SELECT': 'SELECT {column} FROM {table} WHERE 1 = 0',
    'INSERT': 'INSERT INTO {table} SELECT * FROM {table} WHERE 1 = 0',
    'UPDATE': 'UPDATE {table} SET {column} = {column} WHERE 1 = 0',
    'DELETE': 'DELETE FROM {table} WHERE 1 = 0',
}


def tables_of(option: str) -> Sequence[sa.Table]:
    """Return the tables that the service uses in the database of an option."""
    tables = models.Base.metadata.sorted_tables
    return [table for table in tables if option != _JOURNAL or table.name.startswith('journal_')]


def refused_statements(
    database: session.Database, tables: Sequence[sa.Table], statements: dict[str, str]
) -> Iterator[str]:
    """Yield each statement that the database refuses, in a few words.

    :param statements: kind to template; see :data:`STATEMENTS`
    :raises DatabaseUnavailable: the database is unavailable
    """
    for table in tables:
        for kind, template in statements.items():
            statement = template.format(table=table.name, column=next(iter(table.columns)).name)
            try:
                with session.translated(), database.writing() as connection:
                    connection.exec_driver_sql(statement)
            except exceptions.DatabaseRefused:
                yield f'{kind} {table.name}'
            except exceptions.DatabaseUnavailable as exc:
                if session.is_away(exc):
                    raise
                yield f'{kind} {table.name}'


def _refused_sequences(database: session.Database, tables: Sequence[sa.Table]) -> Iterator[str]:
    """Yield each sequence of PostgreSQL that the user must not use; other databases have none."""
    if database.dialect != 'postgresql':
        return
    columns = [
        (table.name, column.name)
        for table in tables
        for column in table.primary_key.columns
        if column is table.autoincrement_column
    ]
    with session.translated(), database.reading() as connection:
        for table, column in columns:
            sequence = sa.func.pg_get_serial_sequence(table, column)
            if connection.scalar(sa.select(sa.func.has_sequence_privilege(sequence, 'USAGE'))) is False:
                yield f'use the sequence of {table}.{column}'


def check_clock(site: base.Site) -> base.Result:
    """Compare the clock of this machine with the clock of the database."""
    with session.translated(), site.database().reading() as connection:
        connection.execute(sa.text('SELECT 1'))
        began = time.time()
        theirs = site.database().now(connection)
        ended = time.time()
    difference = (began + ended) / 2 - theirs
    if difference == 0:
        return base.ok('no difference')
    direction = 'ahead of' if difference > 0 else 'behind'
    evidence = f'this machine is {abs(difference):.1f} s {direction} the database'
    if abs(difference) > CLOCK:
        return base.warn(
            f'{evidence}; tokens, certificates and log lines use the clock of this machine',
            'synchronize both clocks with NTP: chronyc tracking',
        )
    return base.ok(evidence)


CHECKS = (
    base.Check('database-login', check_login, services=base.WITH_DATABASE),
    base.Check('database-schema', check_schema, services=base.WITH_DATABASE, needs=('database-login',)),
    base.Check(
        'database-grants',
        check_grants,
        services=base.WITH_DATABASE,
        needs=('database-login', 'database-schema'),
        timeout=30.0,
    ),
    base.Check('database-clock', check_clock, services=base.WITH_DATABASE, needs=('database-login',)),
)
