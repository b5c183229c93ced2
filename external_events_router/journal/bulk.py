"""Inserts many rows in the way that costs the least processor time with each driver.

All rows of a worker pass through here, on a thread that shares the processor with the requests.
psycopg parses a statement with thousands of parameters for 80 microseconds per row; ``COPY`` takes
a tenth. PyMySQL writes parameters into the statement with several calls for each; quoting texts
that need no escapes takes a third.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
import functools
from typing import Any

import sqlalchemy as sa

#: Rows of one statement.
ROWS = 100

Rows = Sequence[tuple[Any, ...]]


def insert(connection: sa.Connection, table: str, columns: Sequence[str], rows: Rows) -> None:
    """Insert rows into a table, in the transaction of a connection.

    :param columns: names, in the order of the values; values are integers, texts or None
    """
    match connection.dialect.driver:
        case 'psycopg':
            _copy(connection, table, columns, rows)
        case 'pymysql':
            _in_parts(connection, table, columns, rows, _insert_literals)
        case _:
            _in_parts(connection, table, columns, rows, _insert_parameters)


def _in_parts(
    connection: sa.Connection,
    table: str,
    columns: Sequence[str],
    rows: Rows,
    insert_some: Callable[[sa.Connection, str, Sequence[str], Rows], None],
) -> None:
    for first in range(0, len(rows), ROWS):
        insert_some(connection, table, columns, rows[first : first + ROWS])


def _copy(connection: sa.Connection, table: str, columns: Sequence[str], rows: Rows) -> None:
    driver: Any = connection.connection.driver_connection
    error: Any = connection.dialect.loaded_dbapi.Error
    statement = f'COPY {table} ({", ".join(columns)}) FROM STDIN'
    try:
        with driver.cursor() as cursor, cursor.copy(statement) as copy:
            for row in rows:
                copy.write_row(row)
    except error as exc:
        raise sa.exc.DBAPIError.instance(statement, (), exc, error) from exc


def _insert_literals(connection: sa.Connection, table: str, columns: Sequence[str], rows: Rows) -> None:
    driver: Any = connection.connection.driver_connection
    escape = driver.escape
    values = ', '.join([f'({", ".join([literal(value, escape) for value in row])})' for row in rows])
    statement = f'{_insert_into(table, tuple(columns))} {values}'
    # NOTE: without this option the driver would interpret a percent sign in a text as a parameter.
    connection.execution_options(no_parameters=True).exec_driver_sql(statement)


def literal(value: object, escape: Callable[[object], str]) -> str:
    """Return a value as text of a statement of MySQL.

    :param escape: the escape function of the driver, for texts that may need it
    """
    if value is None:
        return 'NULL'
    if type(value) is int:
        return str(value)
    if type(value) is str and "'" not in value and '\\' not in value and value.isprintable():
        return f"'{value}'"
    return escape(value)


def _insert_parameters(connection: sa.Connection, table: str, columns: Sequence[str], rows: Rows) -> None:
    mark = '?' if connection.dialect.paramstyle == 'qmark' else '%s'
    row = f'({", ".join([mark] * len(columns))})'
    statement = f'{_insert_into(table, tuple(columns))} {", ".join([row] * len(rows))}'
    connection.exec_driver_sql(statement, tuple(value for values in rows for value in values))


@functools.cache
def _insert_into(table: str, columns: tuple[str, ...]) -> str:
    return f'INSERT INTO {table} ({", ".join(columns)}) VALUES'
