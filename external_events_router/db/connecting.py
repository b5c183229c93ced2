"""How we connect: the URL with its bounds, and what every new connection is told.

No transactions and no statements of the service here, see ``session``.
"""

from __future__ import annotations

import sqlite3
import time
from typing import Any

import sqlalchemy as sa

from external_events_router import exceptions

#: The option that errors about the database name.
OPTION = '[database] connection'

#: Seconds in which a connection must stand. libpq rounds 1 up to 2.
CONNECT_TIMEOUT = 5

#: Seconds that one statement of a service may take. Look-ups have a bound of
#: their own far below; this one gives their threads back.
READ_TIMEOUT = 10.0

#: Seconds that a statement waits for another transaction's lock, at most.
LOCK_TIMEOUT = 5.0

#: Seconds between attempts where SQLite itself does not wait.
_POLL = 0.01

#: Execution option: the transaction is going to write.
WRITES = 'external_events_writes'

#: Of an engine for reading: every statement is a transaction of its own, which needs no
#: end, and no connection is asked beforehand whether it is still there. One that is
#: not is seen by the statement, which is sent again (see ``session.retried``).
READER = {'isolation_level': 'AUTOCOMMIT', 'skip_autocommit_rollback': True, 'pool_pre_ping': False}

#: Of an engine for writing: not a round trip more than the transaction has. All ways out
#: of ``Database.writing`` end the transaction, so nothing is left to be rolled back.
WRITER = {'pool_pre_ping': False, 'pool_reset_on_return': None}

#: The database systems that the service knows.
_BACKENDS = ('sqlite', 'postgresql', 'mysql')

#: The driver where a URL names none: what we are tested with.
_DRIVERS = {'mysql': 'mysql+pymysql', 'mariadb': 'mysql+pymysql', 'postgresql': 'postgresql+psycopg'}


def bounded(
    connection: str | None, parameters: str = '', *, read_timeout: float, option: str = OPTION
) -> sa.URL:
    """The URL to connect to, with a bound for every wait where the operator set none.

    :param connection: as ``[database] connection``
    :param parameters: as ``[database] connection_parameters``
    :param option: where the URL is from, for the error
    :raises ConfigurationError: there is no URL, or it names no database that we know
    """
    if not connection:
        raise exceptions.ConfigurationError(option=option, reason='is not set')
    try:
        url = sa.make_url(connection).update_query_string(parameters or '')
    except Exception as error:
        # NOTE: not the error's own text, which holds the URL and its password.
        raise exceptions.ConfigurationError(option=option, reason='is not a database URL') from error
    if url.drivername in _DRIVERS:
        url = url.set(drivername=_DRIVERS[url.drivername])
    elif url.drivername.startswith('mariadb+'):
        # NOTE: oslo.db knows deadlocks and lost connections by the name mysql only.
        url = url.set(drivername=url.drivername.replace('mariadb', 'mysql', 1))
    _check_encoding(url, option)
    return url.update_query_dict(
        {key: str(value) for key, value in _bounds(url, read_timeout, option).items() if key not in url.query}
    )


def no_driver(url: sa.URL, option: str, error: BaseException) -> exceptions.ConfigurationError:
    """The error for a URL whose driver is unknown, or is not installed."""
    return exceptions.ConfigurationError(
        option=option,
        reason=f'no driver for {url.drivername} ({type(error).__name__}); '
        'use mysql+pymysql, postgresql+psycopg or sqlite, or install the driver',
    )


def _check_encoding(url: sa.URL, option: str) -> None:
    """Refuse a password that the driver cannot send.

    :raises ConfigurationError: the password has characters outside of Latin-1
    """
    # NOTE: PyMySQL encodes passwords as Latin-1, whatever the character set of
    # the connection is, and raises UnicodeEncodeError at each connect.
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
    """Whether it is an SQLite that ends with its connection."""
    return url.get_backend_name() == 'sqlite' and url.database in (None, '', ':memory:')


def listen(engine: sa.Engine, *, read_timeout: float) -> None:
    """Have every new connection of an engine told what no URL can say."""
    sa.event.listen(engine, 'do_connect', _connect)
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


def _connect(dialect: Any, record: Any, arguments: Any, parameters: Any) -> Any:
    """Connect; an error that is not one of the driver's own means that it cannot use the URL.

    :raises DatabaseUnavailable: in place of a TypeError, ValueError and the like
    """
    try:
        return dialect.connect(*arguments, **parameters)
    except (TypeError, dialect.loaded_dbapi.ProgrammingError) as error:
        # NOTE: it names a parameter of the URL, and no value.
        raise exceptions.DatabaseUnavailable(reason=f'the driver refuses the URL: {error}') from error
    except (dialect.loaded_dbapi.Error, OSError):
        raise
    except Exception as error:
        # NOTE: not the error's own text, which may hold a part of the password.
        raise exceptions.DatabaseUnavailable(
            reason=f'the driver cannot use the URL ({type(error).__name__})'
        ) from error


def _bounds(url: sa.URL, read_timeout: float, option: str) -> dict[str, object]:
    backend = url.get_backend_name()
    if backend not in _BACKENDS:
        raise exceptions.ConfigurationError(
            option=option, reason=f'{backend} is none of {", ".join(_BACKENDS)}; use one of these'
        )
    try:
        driver = url.get_driver_name()
    except Exception as error:
        raise no_driver(url, option, error) from error
    match backend, driver:
        case 'sqlite', _:
            return {'timeout': LOCK_TIMEOUT}
        case 'postgresql', 'psycopg':
            # NOTE: the server bounds the statement (see listen); these bound a
            # server that is gone without a word, at about as many seconds.
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
    # NOTE: readers then do not wait for a writer. The first one changes the
    # mode of a new file, while others may have it open: SQLite then gives up
    # at once and not at its timeout.
    deadline = time.monotonic() + LOCK_TIMEOUT
    while True:
        try:
            dbapi_connection.execute('PRAGMA journal_mode = WAL')
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                return
            time.sleep(_POLL)
        except sqlite3.DatabaseError:
            # What is wrong with the file the first statement says better.
            return
        else:
            return


def _begin_immediate(connection: sa.Connection) -> None:
    # NOTE: a transaction that reads first and then finds that another one wrote
    # fails at once, whatever the timeout. So writers queue at their beginning.
    # The plain BEGIN that oslo.db has sent just before has done nothing yet.
    if connection.get_execution_options().get(WRITES):
        connection.exec_driver_sql('ROLLBACK')
        connection.exec_driver_sql('BEGIN IMMEDIATE')


def _statement_timeout(seconds: float) -> Any:
    def set_timeout(dbapi_connection: Any, record: Any) -> None:
        dbapi_connection.execute(f'SET statement_timeout = {int(seconds * 1000)}')
        dbapi_connection.commit()

    return set_timeout


def _set_session(dbapi_connection: Any, record: Any) -> None:
    # NOTE: as PostgreSQL does it; without the gaps that REPEATABLE READ locks,
    # two reports at once seldom meet.
    with dbapi_connection.cursor() as cursor:
        cursor.execute('SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED')
        cursor.execute(f'SET SESSION innodb_lock_wait_timeout = {int(LOCK_TIMEOUT)}')
