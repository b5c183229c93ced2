"""Connections to the database: the URL with its timeouts, and settings for each new connection.

``session`` contains transactions and statements.
"""

from __future__ import annotations

import functools
import re
import sqlite3
import time
from typing import Any

import sqlalchemy as sa

from external_events_router import exceptions

#: The default option that error messages name.
OPTION = '[database] connection'

#: Maximum seconds for opening a connection. libpq rounds 1 up to 2.
CONNECT_TIMEOUT = 5

#: Maximum seconds of one statement of a service. Look-ups have a much shorter timeout; this one ends
#: the threads of look-ups that nothing waits for.
READ_TIMEOUT = 10.0

#: Maximum seconds that a statement waits for the lock of another transaction.
LOCK_TIMEOUT = 5.0

#: Seconds after the limit of the server until the client ends the wait for a statement of PostgreSQL.
CLIENT_MARGIN = 1.0

#: The time limit of statements in the option ``options`` of a URL, and the units as seconds.
_STATEMENT_TIMEOUT = re.compile(r"statement_timeout\s*=\s*'?(\d+)\s*(ms|s|min|h|d|)")
_UNITS = {'ms': 0.001, '': 0.001, 's': 1.0, 'min': 60.0, 'h': 3600.0, 'd': 86400.0}

#: Seconds between attempts if SQLite itself does not wait.
_POLL = 0.01

#: Execution option: the transaction will write.
WRITES = 'external_events_writes'

#: Options of an engine for reading: each statement is a separate transaction without an explicit
#: end, and a pooled connection is not tested before use. If the connection is lost, the statement
#: fails and is sent again (see ``session.retried``).
READER = {'isolation_level': 'AUTOCOMMIT', 'skip_autocommit_rollback': True, 'pool_pre_ping': False}

#: Options of an engine for writing: no round trips in addition to the transaction. All paths through
#: ``Database.writing`` end the transaction, so the pool need not roll back.
WRITER = {'pool_pre_ping': False, 'pool_reset_on_return': None}

#: The supported database systems.
_BACKENDS = ('sqlite', 'postgresql', 'mysql')

#: The drivers for URLs without a driver; the tests use these.
_DRIVERS = {'mysql': 'mysql+pymysql', 'mariadb': 'mysql+pymysql', 'postgresql': 'postgresql+psycopg'}


def bounded(
    connection: str | None, parameters: str = '', *, read_timeout: float, option: str = OPTION
) -> sa.URL:
    """Return the URL to connect to, with a limit for every wait for which the operator has set none.

    :param connection: ``[database] connection``
    :param parameters: ``[database] connection_parameters``
    :param option: option that contains the URL, for the error
    :raises ConfigurationError: the URL is missing, or its database is not supported
    """
    if not connection:
        raise exceptions.ConfigurationError(option=option, reason='is not set')
    try:
        url = sa.make_url(connection).update_query_string(parameters or '')
    except Exception as error:
        # NOTE: without the text of the error, which contains the URL and its password.
        raise exceptions.ConfigurationError(option=option, reason='is not a database URL') from error
    if url.drivername in _DRIVERS:
        url = url.set(drivername=_DRIVERS[url.drivername])
    elif url.drivername.startswith('mariadb+'):
        # NOTE: oslo.db recognises deadlocks and lost connections only with the name mysql.
        url = url.set(drivername=url.drivername.replace('mariadb', 'mysql', 1))
    _check_encoding(url, option)
    return url.update_query_dict(
        {key: str(value) for key, value in _bounds(url, read_timeout, option).items() if key not in url.query}
    )


def no_driver(url: sa.URL, option: str, error: BaseException) -> exceptions.ConfigurationError:
    """Return the error for a URL whose driver is unknown or not installed."""
    return exceptions.ConfigurationError(
        option=option,
        reason=f'no driver for {url.drivername} ({type(error).__name__}); '
        'use mysql+pymysql, postgresql+psycopg or sqlite, or install the driver',
    )


def _check_encoding(url: sa.URL, option: str) -> None:
    """Refuse a password that the driver cannot send.

    :raises ConfigurationError: the password has characters outside of Latin-1
    """
    # NOTE: PyMySQL encodes passwords as Latin-1, with every character set of the connection,
    # and raises UnicodeEncodeError when it connects.
    if url.drivername != 'mysql+pymysql':
        return
    try:
        str(url.password or '').encode('latin-1')
    except UnicodeEncodeError as error:
        raise exceptions.ConfigurationError(
            option=option,
            reason='the password has characters outside of Latin-1, which PyMySQL cannot send; '
            'choose another password',
        ) from error


def in_memory(url: sa.URL) -> bool:
    """Return whether the URL is an SQLite database in memory, which ends with its connection."""
    return url.get_backend_name() == 'sqlite' and url.database in (None, '', ':memory:')


def listen(engine: sa.Engine, *, read_timeout: float) -> None:
    """Apply settings to each new connection of an engine that a URL cannot contain."""
    limit = client_limit(engine.url, read_timeout)
    sa.event.listen(engine, 'do_connect', functools.partial(_connect, limit))
    match engine.dialect.name:
        case 'sqlite':
            if not in_memory(engine.url):
                sa.event.listen(engine, 'connect', _write_ahead)
            sa.event.listen(engine, 'begin', _begin_immediate)
        case 'postgresql':
            if 'options' not in engine.url.query:
                sa.event.listen(engine, 'connect', _statement_timeout(read_timeout))
        case 'mysql':
            sa.event.listen(engine, 'connect', _set_session)


def client_limit(url: sa.URL, read_timeout: float) -> float | None:
    """Return the seconds after which the client ends a wait for PostgreSQL; None: another driver limits it.

    It is a little more than the limit of the server, of which the operator may choose another one.
    """
    if url.get_backend_name() != 'postgresql' or url.get_driver_name() != 'psycopg':
        return None
    options = url.query.get('options')
    if options is None:
        return read_timeout + CLIENT_MARGIN
    found = _STATEMENT_TIMEOUT.findall(options if isinstance(options, str) else ' '.join(options))
    seconds = [int(number) * _UNITS[unit] for number, unit in found[-1:] if int(number)]
    return seconds[0] + CLIENT_MARGIN if seconds else None


def _connect(limit: float | None, dialect: Any, record: Any, arguments: Any, parameters: Any) -> Any:
    """Connect. An exception that is not an error of the driver means that it cannot use the URL.

    :raises DatabaseUnavailable: instead of TypeError, ValueError and similar exceptions
    """
    try:
        if limit is None:
            return dialect.connect(*arguments, **parameters)
        # NOTE: imported here, because only this driver is used then.
        from external_events_router.db import bounded_psycopg

        connection = bounded_psycopg.Connection.connect(*arguments, **parameters)
        connection.set_limit(limit)
        return connection
    except (TypeError, dialect.loaded_dbapi.ProgrammingError) as error:
        # NOTE: the text names a parameter of the URL, but no value.
        raise exceptions.DatabaseUnavailable(reason=f'the driver refuses the URL: {error}') from error
    except (dialect.loaded_dbapi.Error, OSError):
        raise
    except Exception as error:
        # NOTE: without the text of the error, which may contain part of the password.
        raise exceptions.DatabaseUnavailable(
            reason=f'the driver cannot use the URL ({type(error).__name__})'
        ) from error


def _bounds(url: sa.URL, read_timeout: float, option: str) -> dict[str, object]:
    backend = url.get_backend_name()
    if backend not in _BACKENDS:
        raise exceptions.ConfigurationError(
            option=option, reason=f'{backend} is not supported; use one of {", ".join(_BACKENDS)}'
        )
    try:
        driver = url.get_driver_name()
    except Exception as error:
        raise no_driver(url, option, error) from error
    match backend, driver:
        case 'sqlite', _:
            return {'timeout': LOCK_TIMEOUT}
        case 'postgresql', 'psycopg':
            # NOTE: the server limits the time of a statement (see listen), and the client that of a wait
            # (see client_limit). These options detect a machine that stopped responding, after
            # about the same time.
            return {
                'connect_timeout': CONNECT_TIMEOUT,
                'keepalives_idle': 3,
                'keepalives_interval': 2,
                'keepalives_count': 3,
                'tcp_user_timeout': 10000,
            }
        case 'mysql', 'pymysql':
            timeouts = {'read_timeout': int(read_timeout), 'write_timeout': int(read_timeout)}
            return {'connect_timeout': CONNECT_TIMEOUT, **timeouts, 'charset': 'utf8mb4'}
        case _:
            return {}


def _write_ahead(dbapi_connection: Any, record: Any) -> None:
    # NOTE: in this mode readers do not wait for a writer. The first connection changes the mode of a
    # new file while others may have it open. In this case SQLite fails immediately instead of
    # waiting for its timeout.
    deadline = time.monotonic() + LOCK_TIMEOUT
    while True:
        try:
            dbapi_connection.execute('PRAGMA journal_mode = WAL')
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                return
            time.sleep(_POLL)
        except sqlite3.DatabaseError:
            # The first statement reports an error of the file more precisely.
            return
        else:
            return


def _begin_immediate(connection: sa.Connection) -> None:
    # NOTE: if a transaction reads first, and another one has written meanwhile, its write fails
    # immediately, with every timeout. So a writer waits at the start of its transaction. oslo.db has
    # just sent a plain BEGIN, which has no effect yet.
    if connection.get_execution_options().get(WRITES):
        connection.exec_driver_sql('ROLLBACK')
        connection.exec_driver_sql('BEGIN IMMEDIATE')


def _statement_timeout(seconds: float) -> Any:
    def set_timeout(dbapi_connection: Any, record: Any) -> None:
        dbapi_connection.execute(f'SET statement_timeout = {int(seconds * 1000)}')
        dbapi_connection.commit()

    return set_timeout


def _set_session(dbapi_connection: Any, record: Any) -> None:
    # NOTE: the same isolation as in PostgreSQL. REPEATABLE READ also locks gaps between rows, so two
    # simultaneous reports would often wait for each other.
    with dbapi_connection.cursor() as cursor:
        cursor.execute('SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED')
        cursor.execute(f'SET SESSION innodb_lock_wait_timeout = {int(LOCK_TIMEOUT)}')
