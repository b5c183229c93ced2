"""Transactions: their connections, what differs between databases in them, and errors of ours.

It knows no table. Whoever has data there (the host map) takes a
:class:`Database` and writes its statements on the connections that it hands
out.
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

_P = ParamSpec('_P')
_T = TypeVar('_T')

#: How often, and after how many seconds at first, a transaction is tried again
#: that lost against another one.
_RETRIES = 5
_RETRY_INTERVAL = 0.05
_MAX_RETRY_INTERVAL = 1.0

#: Seconds within which a connection must have been lost for its transaction to be
#: tried once more: one that was cut off or had gone stale in the pool is lost at
#: once, one to a database that hangs only after all the time that it was given.
_LOST_AT_ONCE = 1.0

#: Errors of drivers, by the names of their classes and by MariaDB's numbers, that say that a
#: value cannot be used: collations that do not fit, incorrect strings.
_REFUSALS = frozenset({'DataError', 'UntranslatableCharacter', 'CharacterNotInRepertoire'})
_MYSQL_REFUSALS = frozenset({1267, 1300, 1366, 3988})


#: See :meth:`Database.insert_or_merge`.
Merge = Callable[[Any, Any], Sequence[tuple[str, Any]]]


class Database:
    """The database of ``[database] connection``. Connects at its first use; thread-safe.

    :ivar dialect: ``sqlite``, ``postgresql`` or ``mysql``
    """

    def __init__(self, engine: sa.Engine, reader: sa.Engine | None = None) -> None:
        """:param reader: connections without transactions, for reading; None: those of ``engine``"""
        self.dialect = engine.dialect.name
        self._engine = engine
        self._reader = reader or engine
        # NOTE: an in-memory SQLite is one connection for all threads, and
        # transactions belong to a connection.
        self._turn: contextlib.AbstractContextManager[Any] = (
            threading.RLock() if connecting.in_memory(engine.url) else contextlib.nullcontext()
        )

    @classmethod
    def from_conf(cls, conf: cfg.ConfigOpts, *, read_timeout: float = connecting.READ_TIMEOUT) -> Database:
        """The database that the configuration names.

        :param read_timeout: seconds that one statement may take
        :raises ConfigurationError: the option is missing or names no database that we know
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
        """The database at a URL, with the pool and the sessions that ``[database]`` says.

        :param connection: as ``[database] connection``
        :param parameters: as ``[database] connection_parameters``
        :param option: where the URL is from, for the error
        :param read_timeout: seconds that one statement may take
        :raises ConfigurationError: there is none, or it names no database that we know
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
        """A connection for reading; each statement sees what is committed by then."""
        with self._turn, self._reader.connect() as connection:
            yield connection

    @contextlib.contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """A connection with a transaction that is committed at the end, or rolled back on an error."""
        with self._turn, self._engine.connect() as connection:
            connection.execution_options(**{connecting.WRITES: True})
            with connection.begin():
                yield connection

    def among(self, column: sa.ColumnElement[str], values: Collection[str]) -> sa.ColumnElement[bool]:
        """``column`` is one of ``values``, however many those are."""
        # NOTE: SQLite takes 32,766 parameters in a statement and PostgreSQL
        # 65,535, so the values travel as one. PyMySQL writes them into the text.
        match self.dialect:
            case 'postgresql':
                return column == sa.any_(sa.literal(list(values), postgresql.ARRAY(sa.String)))
            case 'sqlite':
                each = sa.func.json_each(json.dumps(list(values))).table_valued('value')
                return column.in_(sa.select(each.c.value))
            case _:
                return column.in_(values)

    def rows_among(self, select: str, column: str, values: Collection[str]) -> Sequence[Sequence[Any]]:
        """The rows of ``SELECT ... FROM ...`` in which ``column`` is one of ``values``.

        For what every batch asks: the text is handed to the driver as it is, because
        building and compiling a statement takes longer than all the rest.

        :param select: without parameters, of names that every database takes
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
        """The rows of a statement, by the driver alone: SQLAlchemy's own way takes longer than the rest.

        :returns: None: it failed at once, and the ordinary way knows what that means
        :raises sa.exc.DBAPIError: it failed after a while
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
                # NOTE: what state it is in, nobody knows.
                connection.invalidate()
                raise

    def insert_missing(
        self, connection: sa.Connection, table: sa.Table, rows: Sequence[Mapping[str, Any]]
    ) -> None:
        """Insert the rows whose key is not there yet, whoever else inserts them meanwhile."""
        if not rows:
            return
        statement: sa.Insert
        match self.dialect:
            case 'postgresql':
                statement = postgresql.insert(table).on_conflict_do_nothing()
            case 'sqlite':
                statement = sqlite.insert(table).on_conflict_do_nothing()
            case _:
                # NOTE: not INSERT IGNORE, which would let any other error pass.
                column = next(iter(table.primary_key.columns))
                statement = mysql.insert(table).on_duplicate_key_update({column.name: column})
        connection.execute(statement, rows)

    def insert_or_merge(self, table: sa.Table, merge: Merge) -> sa.Insert:
        """A statement that inserts rows, and locks those whose primary key is there already, until the end.

        Make it once, and execute it with rows in the order of their keys, or two
        callers may deadlock.

        :param merge: the update of an existing row: called with the columns of the table and
            of the proposed row; returns the name and the new value of each changed column.
            A value must not depend on a column that stands before it
        """
        key = next(iter(table.primary_key.columns)).name
        statement: Any
        match self.dialect:
            case 'postgresql' | 'sqlite':
                statement = (postgresql if self.dialect == 'postgresql' else sqlite).insert(table)
                changes = dict(merge(table.c, statement.excluded)) or {key: statement.excluded[key]}
                return cast(sa.Insert, statement.on_conflict_do_update(index_elements=[key], set_=changes))
            case _:
                # NOTE: here a change sees those before it, so the order of the pairs counts.
                # VALUES() and not the alias of MySQL 8, with which PyMySQL would send
                # each row on its own.
                proposed = {
                    column.name: sa.func.values(sa.literal_column(column.name)) for column in table.columns
                }
                statement = mysql.insert(table)
                pairs = list(merge(table.c, proposed)) or [(key, table.c[key])]
                return cast(sa.Insert, statement.on_duplicate_key_update(pairs))

    def skips_locked(self, connection: sa.Connection) -> bool:
        """Whether ``SELECT ... FOR UPDATE`` can pass over what others have locked; else it waits for them."""
        if self.dialect != 'mysql':
            return True
        dialect = connection.dialect
        needed = (10, 6) if getattr(dialect, 'is_mariadb', False) else (8, 0, 1)
        return tuple(dialect.server_version_info or ()) >= needed

    def now(self, connection: sa.Connection) -> float:
        """Seconds since the epoch by the database's clock, which all machines share."""
        match self.dialect:
            case 'postgresql':
                clock = 'extract(epoch from clock_timestamp())'
            case 'mysql':
                clock = 'unix_timestamp(sysdate(6))'
            case _:
                clock = "(julianday('now') - 2440587.5) * 86400.0"
        return float(connection.exec_driver_sql(f'SELECT {clock}').scalar_one())

    def analyze(self, connection: sa.Connection, *tables: sa.Table) -> None:
        """Have the database count, after a change of many rows."""
        # NOTE: until PostgreSQL has counted it reads whole tables where it
        # should use their keys (0.4 s for a look-up among a million servers);
        # the others need no count to choose right.
        if self.dialect == 'postgresql':
            for table in tables:
                connection.exec_driver_sql(f'ANALYZE {table.name}')

    def warm(self, connections: int) -> None:
        """Have connections for writing open in the pool: so many, but no more than the pool keeps.

        For SQLite there are none, because it opens them at once.
        """
        pool = self._engine.pool
        if self._reader is self._engine or not isinstance(pool, sa.QueuePool):
            return
        with contextlib.ExitStack() as stack:
            for _ in range(min(connections, pool.size()) - pool.checkedout()):
                stack.enter_context(self._engine.connect())

    def close(self) -> None:
        """Let go of the connections."""
        self._engine.dispose()
        self._reader.dispose()


def _make_engine(
    options: Any, url: sa.URL, *, read_timeout: float, option: str, **changed: object
) -> sa.Engine:
    """:param changed: arguments of SQLAlchemy's that oslo.db has others for, or none
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
            # NOTE: a SQLite file has no pool, and oslo.db would pass this on to it.
            pool_timeout=None if url.get_backend_name() == 'sqlite' else options.pool_timeout,
            # NOTE: else it would connect here, before our listeners are on.
            max_retries=0,
            # NOTE: else each transaction ends with a change of threads, which is
            # for green ones.
            thread_checkin=False,
            _engine_target=make,
        )
    except (ImportError, sa.exc.NoSuchModuleError) as exc:
        raise connecting.no_driver(url, option, exc) from exc
    except Exception as exc:
        # NOTE: not the error's own text, which may hold a part of the URL.
        raise exceptions.ConfigurationError(
            option=option, reason=f'the driver cannot use the URL ({type(exc).__name__}); correct it'
        ) from exc
    connecting.listen(engine, read_timeout=read_timeout)
    return engine


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Turn the errors of the database into ours.

    :raises DatabaseRefused: the database does not take a value
    :raises DatabaseUnavailable: with what the database said, in one line
    """
    try:
        yield
    except (
        db_exception.DBError,
        sa.exc.SQLAlchemyError,
        # NOTE: a driver's own, of a TLS file that is missing.
        OSError,
    ) as exc:
        kind = exceptions.DatabaseRefused if _is_refusal(exc) else exceptions.DatabaseUnavailable
        raise kind(reason=_what_it_said(exc)) from exc
    except UnicodeError as exc:
        # NOTE: a driver that cannot encode a value.
        raise exceptions.DatabaseRefused(reason=type(exc).__name__) from exc


def _is_refusal(exc: Exception) -> bool:
    """Whether the database answered that it does not take a value."""
    inner: BaseException = getattr(exc, 'inner_exception', None) or exc
    original: BaseException = getattr(inner, 'orig', None) or inner
    if type(original).__name__ in _REFUSALS:
        return True
    return any(argument in _MYSQL_REFUSALS for argument in original.args[:1])


def is_away(exc: exceptions.DatabaseUnavailable) -> bool:
    """Whether the database could not be reached, or was too busy; else it refused what it was given."""
    cause = exc.__cause__
    return isinstance(
        cause, (db_exception.DBConnectionError, db_exception.DBDeadlock, sa.exc.TimeoutError, OSError)
    )


def retried(function: Callable[_P, _T]) -> Callable[_P, _T]:
    """Run a whole transaction again when it lost against another one; errors as :func:`translated`.

    Once more, too, when its connection was lost: it must bear to be run after a
    commit whose answer did not come.
    """
    again = api.wrap_db_retry(
        max_retries=_RETRIES,
        retry_interval=_RETRY_INTERVAL,
        max_retry_interval=_MAX_RETRY_INTERVAL,
        retry_on_deadlock=True,
        # NOTE: the server of a new row was forgotten before the row was there.
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


def _what_it_said(exc: BaseException) -> str:
    # NOTE: SQLAlchemy's own text would bring the statement and its values, and
    # so do psycopg's further lines.
    inner = getattr(exc, 'inner_exception', None) or exc
    return ': '.join([type(inner).__name__, *str(inner).strip().splitlines()[:1]])
