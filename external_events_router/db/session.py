"""Database transactions: connections, differences between database systems, translation of errors.

This module contains no table. Modules that own data (for example the host map) get a
:class:`Database` and execute their statements on its connections.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
import functools
import json
import threading
import time
from typing import Any
from typing import ParamSpec
from typing import TypeVar
from typing import cast

from oslo_config import cfg
from oslo_db import api
from oslo_db import exception as db_exception
from oslo_db.sqlalchemy import engines
import sqlalchemy as sa
from sqlalchemy.dialects import mysql
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects import sqlite

from external_events_router import exceptions
from external_events_router.db import connecting
from external_events_router.db import problems

_P = ParamSpec('_P')
_T = TypeVar('_T')

#: Maximum number of retries of a transaction that failed because of another transaction, and the
#: first and the longest interval in seconds.
_RETRIES = 5
_RETRY_INTERVAL = 0.05
_MAX_RETRY_INTERVAL = 1.0

#: Maximum seconds from the start of a transaction to the loss of its connection for one more attempt.
#: A connection that was cut, or was stale in the pool, fails immediately. A connection to a database
#: that hangs fails only at its timeout.
_LOST_AT_ONCE = 1.0

#: Errors of drivers for invalid values, by the names of their classes and by the numbers of
#: MariaDB: for example collations that do not match, and incorrect strings.
_REFUSALS = frozenset({'DataError', 'UntranslatableCharacter', 'CharacterNotInRepertoire'})
_MYSQL_REFUSALS = frozenset({1267, 1300, 1366, 3988})


#: See :meth:`Database.insert_or_merge`.
Merge = Callable[[Any, Any], Sequence[tuple[str, Any]]]


class Database:
    """The database of ``[database] connection``. It connects at the first use. Thread-safe.

    :ivar dialect: ``sqlite``, ``postgresql`` or ``mysql``
    """

    def __init__(self, engine: sa.Engine, reader: sa.Engine | None = None) -> None:
        """:param reader: engine for reading, without transactions; None: ``engine``"""
        self.dialect = engine.dialect.name
        self._engine = engine
        self._reader = reader or engine
        # NOTE: an SQLite database in memory has one connection for all threads, and a transaction
        # belongs to a connection.
        self._one_thread: contextlib.AbstractContextManager[Any] = (
            threading.RLock() if connecting.in_memory(engine.url) else contextlib.nullcontext()
        )

    @classmethod
    def from_conf(cls, conf: cfg.ConfigOpts, *, read_timeout: float = connecting.READ_TIMEOUT) -> Database:
        """Build the database from the configuration.

        :param read_timeout: maximum seconds of one statement
        :raises ConfigurationError: the option is missing, or the database is not supported
        """
        options = conf.database
        return cls.at(conf, options.connection, options.connection_parameters, read_timeout=read_timeout)

    @classmethod
    def at(
        cls,
        conf: cfg.ConfigOpts,
        connection: str | None,
        parameters: str = '',
        *,
        option: str = connecting.OPTION,
        read_timeout: float = connecting.READ_TIMEOUT,
    ) -> Database:
        """Build the database for a URL, with the options for pools and sessions of ``[database]``.

        :param connection: in the format of ``[database] connection``
        :param parameters: in the format of ``[database] connection_parameters``
        :param option: option that contains the URL, for the error
        :param read_timeout: maximum seconds of one statement
        :raises ConfigurationError: the URL is missing, or its database is not supported
        """
        options = conf.database
        url = connecting.bounded(connection, parameters, read_timeout=read_timeout, option=option)
        changed = {} if url.get_backend_name() == 'sqlite' else connecting.WRITER
        engine = _make_engine(options, url, read_timeout=read_timeout, option=option, **changed)
        if url.get_backend_name() == 'sqlite':
            return cls(engine)
        reader = _make_engine(options, url, read_timeout=read_timeout, option=option, **connecting.READER)
        return cls(engine, reader)

    @contextlib.contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """Yield a connection for reading. Each statement sees the data that is committed at its start."""
        with self._one_thread, self._reader.connect() as connection:
            yield connection

    @contextlib.contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """Yield a connection with a transaction. It is committed at the end, or rolled back on an error."""
        with self._one_thread, self._engine.connect() as connection:
            connection.execution_options(**{connecting.WRITES: True})
            with connection.begin():
                yield connection

    def among(self, column: sa.ColumnElement[str], values: Collection[str]) -> sa.ColumnElement[bool]:
        """Return the condition that ``column`` is one of ``values``, for any number of values."""
        # NOTE: a statement of SQLite can have 32,766 parameters, and one of PostgreSQL 65,535, so the
        # values are sent as one parameter. PyMySQL writes them into the statement.
        match self.dialect:
            case 'postgresql':
                return column == sa.any_(sa.literal(list(values), postgresql.ARRAY(sa.String)))
            case 'sqlite':
                each = sa.func.json_each(json.dumps(list(values))).table_valued('value')
                return column.in_(sa.select(each.c.value))
            case _:
                return column.in_(values)

    def rows_among(self, select: str, column: str, values: Collection[str]) -> Sequence[Sequence[Any]]:
        """Return the rows of ``SELECT ... FROM ...`` in which ``column`` is one of ``values``.

        For queries of every batch. The text is passed to the driver directly, because building
        and compiling a statement takes longer than all other steps.

        :param select: without parameters; its names must be valid in all databases
        """
        if not values:
            return ()
        parameter: object
        match self.dialect:
            case 'postgresql':
                condition, parameter = '= ANY(%s::varchar[])', list(values)
            case 'sqlite':
                condition, parameter = 'IN (SELECT value FROM json_each(?))', json.dumps(list(values))
            case _:
                condition, parameter = 'IN %s', list(values)
        statement, parameters = f'{select} WHERE {column} {condition}', (parameter,)
        if self._reader is not self._engine and (rows := self._fetch(statement, parameters)) is not None:
            return rows
        with self.reading() as connection:
            return connection.exec_driver_sql(statement, parameters).all()

    def _fetch(self, statement: str, parameters: Sequence[object]) -> Sequence[Sequence[Any]] | None:
        """Return the rows of a statement, using only the driver: SQLAlchemy would take most of the time.

        :returns: None: it failed immediately, and has to be executed with SQLAlchemy to handle the error
        :raises sa.exc.DBAPIError: it failed after some time
        """
        began = time.monotonic()
        error = self._reader.dialect.loaded_dbapi.Error
        try:
            return self._fetched(statement, parameters)
        except error as exc:
            if time.monotonic() - began <= _LOST_AT_ONCE:
                return None
            raise sa.exc.DBAPIError.instance(statement, parameters, exc, error) from exc

    def _fetched(self, statement: str, parameters: Sequence[object]) -> Sequence[Sequence[Any]]:
        with contextlib.closing(self._reader.raw_connection()) as connection:
            try:
                cursor = connection.cursor()
                cursor.execute(statement, parameters)
                return cursor.fetchall()
            except BaseException:
                # NOTE: the state of the connection is unknown.
                connection.invalidate()
                raise

    def insert_missing(
        self, connection: sa.Connection, table: sa.Table, rows: Sequence[Mapping[str, Any]]
    ) -> None:
        """Insert the rows whose key does not exist, also if others insert the same rows at the same time."""
        if not rows:
            return
        statement: sa.Insert
        match self.dialect:
            case 'postgresql':
                statement = postgresql.insert(table).on_conflict_do_nothing()
            case 'sqlite':
                statement = sqlite.insert(table).on_conflict_do_nothing()
            case _:
                # NOTE: not INSERT IGNORE, which would also hide all other errors.
                column = next(iter(table.primary_key.columns))
                statement = mysql.insert(table).on_duplicate_key_update({column.name: column})
        connection.execute(statement, rows)

    def insert_or_merge(self, table: sa.Table, merge: Merge) -> sa.Insert:
        """Return a statement that inserts rows, and updates and locks rows whose primary key exists.

        Create it once. Execute it with rows in the order of their keys; otherwise two callers may
        deadlock. The locks are held until the end of the transaction.

        :param merge: returns the update of an existing row: the name and the new value of each changed
            column. Its arguments are the columns of the table and of the new row. A value must not
            depend on a column before it
        """
        key = next(iter(table.primary_key.columns)).name
        statement: Any
        match self.dialect:
            case 'postgresql' | 'sqlite':
                statement = (postgresql if self.dialect == 'postgresql' else sqlite).insert(table)
                changes = dict(merge(table.c, statement.excluded)) or {key: statement.excluded[key]}
                return cast(sa.Insert, statement.on_conflict_do_update(index_elements=[key], set_=changes))
            case _:
                # NOTE: in MySQL a change sees the changes before it, so the order matters. With the
                # row alias of MySQL 8 instead of VALUES(), PyMySQL would send each row in a separate
                # statement.
                proposed = {
                    column.name: sa.func.values(sa.literal_column(column.name)) for column in table.columns
                }
                statement = mysql.insert(table)
                pairs = list(merge(table.c, proposed)) or [(key, table.c[key])]
                return cast(sa.Insert, statement.on_duplicate_key_update(pairs))

    def skips_locked(self, connection: sa.Connection) -> bool:
        """Return whether ``SELECT ... FOR UPDATE`` can skip locked rows; otherwise it waits for them."""
        if self.dialect != 'mysql':
            return True
        dialect = connection.dialect
        needed = (10, 6) if getattr(dialect, 'is_mariadb', False) else (8, 0, 1)
        return tuple(dialect.server_version_info or ()) >= needed

    def now(self, connection: sa.Connection) -> float:
        """Return seconds since the epoch by the clock of the database, which all machines share."""
        match self.dialect:
            case 'postgresql':
                clock = 'extract(epoch from clock_timestamp())'
            case 'mysql':
                clock = 'unix_timestamp(sysdate(6))'
            case _:
                clock = "(julianday('now') - 2440587.5) * 86400.0"
        return float(connection.exec_driver_sql(f'SELECT {clock}').scalar_one())

    def analyze(self, connection: sa.Connection, *tables: sa.Table) -> None:
        """Update the statistics of the database after a change of many rows."""
        # NOTE: until PostgreSQL has statistics it reads whole tables instead of using their keys
        # (0.4 s for a look-up among a million servers). The other databases choose the keys without
        # statistics.
        if self.dialect == 'postgresql':
            for table in tables:
                connection.exec_driver_sql(f'ANALYZE {table.name}')

    def warm(self, connections: int) -> None:
        """Open this number of connections for writing in the pool, at most as many as the pool keeps.

        Does nothing for SQLite, which opens connections very fast.
        """
        pool = self._engine.pool
        if self._reader is self._engine or not isinstance(pool, sa.QueuePool):
            return
        with contextlib.ExitStack() as stack:
            for _ in range(min(connections, pool.size()) - pool.checkedout()):
                stack.enter_context(self._engine.connect())

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()
        self._reader.dispose()


def _make_engine(
    options: Any, url: sa.URL, *, read_timeout: float, option: str, **changed: object
) -> sa.Engine:
    """:param changed: arguments of SQLAlchemy that replace those of oslo.db
    :raises ConfigurationError: there is no driver for the URL
    """

    def make(url: sa.URL, **arguments: Any) -> tuple[sa.Engine, sa.Engine]:
        made = sa.create_engine(url, **{**arguments, **changed})
        return made, made

    try:
        engine: sa.Engine = engines.create_engine(
            url,
            sqlite_fk=True,
            sqlite_synchronous=options.sqlite_synchronous,
            mysql_sql_mode=options.mysql_sql_mode,
            mysql_wsrep_sync_wait=options.mysql_wsrep_sync_wait,
            connection_recycle_time=options.connection_recycle_time,
            connection_debug=options.connection_debug,
            connection_trace=options.connection_trace,
            max_pool_size=options.max_pool_size,
            max_overflow=options.max_overflow,
            # NOTE: an SQLite file has no pool, and oslo.db would pass the option to it.
            pool_timeout=None if url.get_backend_name() == 'sqlite' else options.pool_timeout,
            # NOTE: otherwise it would connect here, before the listeners are registered.
            max_retries=0,
            # NOTE: otherwise each transaction would end with a thread switch, which is useful only for
            # green threads.
            thread_checkin=False,
            _engine_target=make,
        )
    except (ImportError, sa.exc.NoSuchModuleError) as exc:
        raise connecting.no_driver(url, option, exc) from exc
    except Exception as exc:
        # NOTE: without the text of the error, which may contain part of the URL.
        raise exceptions.ConfigurationError(
            option=option, reason=f'the driver cannot use the URL ({type(exc).__name__}); correct it'
        ) from exc
    connecting.listen(engine, read_timeout=read_timeout)
    return engine


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Translate the errors of the database into exceptions of this package.

    :raises DatabaseRefused: the database refuses a value
    :raises DatabaseUnavailable: other errors, with the message of the database in one line
    """
    try:
        yield
    except (
        db_exception.DBError,
        sa.exc.SQLAlchemyError,
        # NOTE: raised by a driver if a TLS file is missing.
        OSError,
    ) as exc:
        kind = exceptions.DatabaseRefused if _is_refusal(exc) else exceptions.DatabaseUnavailable
        raise kind(reason=_error_text(exc)) from exc
    except UnicodeError as exc:
        # NOTE: the driver cannot encode a value.
        raise exceptions.DatabaseRefused(reason=type(exc).__name__) from exc


def _is_refusal(exc: Exception) -> bool:
    """Return whether the database has answered that it refuses a value."""
    inner: BaseException = getattr(exc, 'inner_exception', None) or exc
    original: BaseException = getattr(inner, 'orig', None) or inner
    if type(original).__name__ in _REFUSALS:
        return True
    return any(argument in _MYSQL_REFUSALS for argument in original.args[:1])


def is_away(exc: exceptions.DatabaseUnavailable) -> bool:
    """Return whether the database was unavailable or too busy; False: it refused the statement."""
    cause = exc.__cause__
    return isinstance(
        cause, (db_exception.DBConnectionError, db_exception.DBDeadlock, sa.exc.TimeoutError, OSError)
    )


def retried(function: Callable[_P, _T]) -> Callable[_P, _T]:
    """Retry a transaction that failed because of another transaction; errors as in :func:`translated`.

    The transaction is also repeated once if its connection was lost. So it must be safe to run it again
    after a commit whose response was lost.
    """
    again = api.wrap_db_retry(
        max_retries=_RETRIES,
        retry_interval=_RETRY_INTERVAL,
        max_retry_interval=_MAX_RETRY_INTERVAL,
        retry_on_deadlock=True,
        # NOTE: the referenced server was deleted before the new row was inserted.
        exception_checker=lambda exc: isinstance(exc, db_exception.DBReferenceError),
    )(function)

    @functools.wraps(function)
    def run(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        began = time.monotonic()
        with translated():
            try:
                return again(*args, **kwargs)  # type: ignore[no-any-return]
            except db_exception.DBConnectionError:
                if time.monotonic() - began > _LOST_AT_ONCE:
                    raise
            return again(*args, **kwargs)  # type: ignore[no-any-return]

    return run


def _error_text(exc: BaseException) -> str:
    # NOTE: the text of SQLAlchemy would contain the statement and its values, and so would further
    # lines of psycopg.
    inner = getattr(exc, 'inner_exception', None) or exc
    text = ': '.join([type(inner).__name__, *str(inner).strip().splitlines()[:1]])
    described = problems.describe(getattr(inner, 'orig', None) or inner)
    return f'{described} ({text})' if described else text
