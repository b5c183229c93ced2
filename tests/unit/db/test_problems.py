"""The cause of a failed connection: the real exceptions of the drivers, or their texts without a server."""

from __future__ import annotations

import socket
import sqlite3

import psycopg
import pymysql

from external_events_router.db import problems
from tests import base

LOGIN, DATABASE, SERVER = 'refuses the login', 'no database with this name', 'cannot be reached'


def raised(function, *arguments, **options):  # type: ignore[no-untyped-def]
    """Return the exception that a function raises."""
    try:
        function(*arguments, **options)
    except Exception as exc:
        return exc
    raise AssertionError('no exception')


class ProblemsTest(base.TestCase):
    def assertCause(self, cause: str, exc: BaseException) -> None:
        described = problems.describe(exc)
        self.assertIn(cause, described or '', repr(exc))
        self.assertIn('; c', described or '', 'no remedy')

    def test_servers_that_cannot_be_reached(self) -> None:
        with socket.create_server(('127.0.0.1', 0)) as unused:
            port = unused.getsockname()[1]
        for host in ('127.0.0.1', 'no-such-host.invalid'):
            exc = raised(psycopg.connect, host=host, port=port, connect_timeout=5)
            self.assertCause(SERVER, exc)
            exc = raised(pymysql.connect, host=host, port=port, connect_timeout=5)
            self.assertCause(SERVER, exc)

    def test_a_server_that_does_not_answer(self) -> None:
        with socket.create_server(('127.0.0.1', 0)) as silent:
            port = silent.getsockname()[1]
            exc = raised(psycopg.connect, host='127.0.0.1', port=port, connect_timeout=2)
            self.assertCause(SERVER, exc)
            exc = raised(pymysql.connect, host='127.0.0.1', port=port, connect_timeout=1, read_timeout=1)
            self.assertCause(SERVER, exc)

    def test_texts_of_postgresql(self) -> None:
        for cause, text in (
            (LOGIN, 'FATAL:  password authentication failed for user "router"'),
            (LOGIN, 'FATAL:  role "router" does not exist'),
            (LOGIN, 'FATAL:  role "router" is not permitted to log in'),
            (LOGIN, 'FATAL:  no pg_hba.conf entry for host "192.0.2.1", user "router", database "r"'),
            (LOGIN, 'fe_sendauth: no password supplied'),
            (DATABASE, 'FATAL:  database "router" does not exist'),
            (SERVER, 'FATAL:  the database system is starting up'),
        ):
            beginning = 'connection failed: connection to server at "192.0.2.1", port 5432 failed: '
            self.assertCause(cause, psycopg.OperationalError(beginning + text))

    def test_numbers_of_mariadb(self) -> None:
        for cause, number in ((LOGIN, 1044), (LOGIN, 1045), (LOGIN, 1698), (DATABASE, 1049), (SERVER, 2003)):
            self.assertCause(cause, pymysql.err.OperationalError(number, 'any text'))

    def test_a_file_in_a_folder_that_does_not_exist(self) -> None:
        exc = raised(sqlite3.connect, '/nonexistent/router.sqlite')
        self.assertCause('the file cannot be opened', exc)

    def test_other_errors(self) -> None:
        for exc in (
            pymysql.err.OperationalError(1205, 'Lock wait timeout exceeded'),
            psycopg.errors.UndefinedTable('relation "servers" does not exist'),
            sqlite3.OperationalError('database is locked'),
            OSError(2, 'No such file or directory'),
        ):
            self.assertIsNone(problems.describe(exc), repr(exc))
