"""Why a connection to a database failed: three causes, each with its own remedy.

The drivers report a refused login, an unknown database and an unreachable server with the same class. Only
MySQL has numbers for them. PostgreSQL sends a code, but libpq returns only the text, whose beginning does
not depend on the language of the server.
"""

from __future__ import annotations

import re
import sqlite3

#: Numbers of the errors of MySQL and MariaDB.
_MYSQL_LOGIN = frozenset({1044, 1045, 1130, 1251, 1698, 1862})
_MYSQL_DATABASE = frozenset({1049})
_MYSQL_SERVER = frozenset({2002, 2003, 2005, 2006, 2013})

_PG_LOGIN = re.compile(
    'authentication failed|no pg_hba.conf entry|role ".*" (does not exist|is not permitted)'
)
_PG_PASSWORD = re.compile('no password supplied')
_PG_DATABASE = re.compile('database ".*" does not exist')
_PG_SERVER = re.compile(
    'Connection refused|failed to resolve host|could not translate host name|timeout expired|'
    'No route to host|Network is unreachable|No such file or directory|server closed the connection|'
    'the database system is (starting up|shutting down|not yet accepting)|connection timeout'
)

_LOGIN = 'the server refuses the login; correct the user and the password in the URL, or the permissions'
_DATABASE = (
    'the server has no database with this name; correct the name in the URL, or create the database, and '
    'then run "external-events-manage db upgrade"'
)
_SERVER = 'the server cannot be reached; check the host and the port in the URL, the server, and the network'
_FILE = 'the file cannot be opened; correct the path in the URL, or the permissions of its folder'


def describe(original: BaseException) -> str | None:
    """Return the cause and the remedy of a failed connection; None: the error has another cause.

    :param original: the exception of the driver
    """
    if isinstance(original, sqlite3.OperationalError) and 'unable to open database file' in str(original):
        return _FILE
    number = original.args[0] if original.args else None
    if isinstance(number, int) and type(original).__module__.startswith('pymysql'):
        for numbers, text in ((_MYSQL_LOGIN, _LOGIN), (_MYSQL_DATABASE, _DATABASE), (_MYSQL_SERVER, _SERVER)):
            if number in numbers:
                return text
        return None
    if type(original).__module__.startswith('psycopg'):
        return _of_postgresql(str(original))
    return None


def _of_postgresql(text: str) -> str | None:
    for pattern, described in (
        (_PG_DATABASE, _DATABASE),
        (_PG_LOGIN, _LOGIN),
        (_PG_PASSWORD, _LOGIN),
        (_PG_SERVER, _SERVER),
    ):
        if pattern.search(text):
            return described
    return None
