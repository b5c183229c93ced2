"""The real services that the tests need: where they are, and a private corner of each.

The address of a service is in an environment variable, or else is its default address.
A test whose service is not available is skipped with the name of the service, or
fails where ``EER_TEST_REQUIRE_SERVICES`` is set to ``1``.
"""

from __future__ import annotations

import atexit
import json
import os
import pathlib
import signal
import socket
import subprocess
import unittest
import uuid

import fixtures
import sqlalchemy as sa

REQUIRED = os.environ.get('EER_TEST_REQUIRE_SERVICES') == '1'

# NOTE: read once at the import, because each test has a temporary home.
_CACHE = os.environ.get('XDG_CACHE_HOME') or pathlib.Path.home() / '.cache'

#: Folder of the software that the tests install, for all runs of the user.
CACHE = pathlib.Path(_CACHE) / 'external-events-router'

#: Seconds for one command of a service's administration.
ADMIN_TIMEOUT = 60


def missing(what, why):
    """Skip the test, or fail it where the services are required."""
    text = f'{what}: {" ".join(str(why).split())}'
    if REQUIRED:
        raise AssertionError(text)
    raise unittest.SkipTest(text)


def share(case, fixture):
    """Use a fixture for all tests of a class; for ``setUpClass``."""
    fixture.setUp()
    case.addClassCleanup(fixture.cleanUp)
    return fixture


class RabbitMQ(fixtures.Fixture):
    """A virtual host of the test's own.

    :ivar url: for ``[DEFAULT] transport_url``
    """

    ADDRESS = os.environ.get('EER_TEST_RABBITMQ', 'rabbit://guest:guest@127.0.0.1:5672/')

    def __init__(self, *, password=None, configure='.*'):
        """:param password: of a separate user for the test; None: the user of the address
        :param configure: the queues and exchanges that this user may declare, a regular expression
        """
        self._password = password
        self._configure = configure

    def _setUp(self):
        url = sa.make_url(self.ADDRESS)
        try:
            socket.create_connection((url.host, url.port or 5672), timeout=5).close()
        except OSError as exc:
            missing('RabbitMQ (EER_TEST_RABBITMQ)', f'{url.host}:{url.port}: {exc}')
        if not self._password:
            name = _virtual_hosts.take(url.username or 'guest')
        else:
            name = _name()
            url = url.set(username=name, password=self._password)
            _rabbitmqctl('import_definitions', text=json.dumps(self._definitions(name, url.username)))
            self.addCleanup(_rabbitmqctl, 'eval', self._deletion(name))
        self.url = url.set(database=name).render_as_string(hide_password=False)

    def _definitions(self, name, user):
        """The virtual host, its user and the permissions of the user."""
        return {
            'vhosts': [{'name': name}],
            'users': [{'name': name, 'password': self._password, 'tags': ''}],
            'permissions': [_permission(name, user, configure=self._configure)],
        }

    def _deletion(self, name):
        """The Erlang expression with which the node deletes it."""
        user = f'rabbit_auth_backend_internal:delete_user(<<"{name}">>, <<"tests">>)'
        return f'{_deletion(name)}, {user}.'


class _VirtualHosts:
    """Virtual hosts for the tests of this process, made several at a time and deleted at its end.

    Each run of rabbitmqctl takes about a second of processor time, more than many tests.
    """

    NUMBER = 5

    def __init__(self):
        self._free = []
        self._made = []

    def take(self, user):
        """Return the name of an unused virtual host.

        :param user: the user that has all permissions
        """
        if not self._free:
            names = [_name() for _ in range(self.NUMBER)]
            definitions = {
                'vhosts': [{'name': name} for name in names],
                'permissions': [_permission(name, user) for name in names],
            }
            if not self._made:
                atexit.register(self._delete, os.getpid())
            _rabbitmqctl('import_definitions', text=json.dumps(definitions))
            self._made += names
            self._free += names
        return self._free.pop()

    def _delete(self, pid):
        # NOTE: a fork of this process still uses them.
        if os.getpid() == pid:
            _rabbitmqctl('eval', f'{", ".join(map(_deletion, self._made))}.')


_virtual_hosts = _VirtualHosts()


def _name():
    return f'eer-test-{uuid.uuid4().hex[:12]}'


def _permission(virtual_host, user, *, configure='.*'):
    return {'vhost': virtual_host, 'user': user, 'configure': configure, 'write': '.*', 'read': '.*'}


def _deletion(virtual_host):
    return f'rabbit_vhost:delete(<<"{virtual_host}">>, <<"tests">>)'


def _rabbitmqctl(*arguments, text=''):
    """Run rabbitmqctl.

    :param text: its standard input
    """
    try:
        subprocess.run(
            ['rabbitmqctl', '-q', *arguments],
            check=True,
            capture_output=True,
            text=True,
            input=text,
            timeout=ADMIN_TIMEOUT,
        )
    except FileNotFoundError:
        missing('RabbitMQ', 'a virtual host for the test is made with rabbitmqctl, which is not here')
    except subprocess.CalledProcessError as exc:
        missing('RabbitMQ', f'rabbitmqctl {arguments[0]}: {exc.stderr or exc.stdout}')


def list_queues(virtual_host):
    """The names of all queues of a virtual host."""
    done = subprocess.run(
        ['rabbitmqctl', '-q', 'list_queues', '-p', virtual_host, '--no-table-headers', 'name'],
        check=True,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=ADMIN_TIMEOUT,
    )
    return sorted(done.stdout.split())


class _Database(fixtures.Fixture):
    """A database of the test's own on a server.

    :ivar url: for ``[database] connection``
    """

    ADDRESS: str
    NAME: str

    def _setUp(self):
        admin = sa.create_engine(self.ADDRESS, isolation_level='AUTOCOMMIT', poolclass=sa.pool.NullPool)
        name = f'eer_test_{uuid.uuid4().hex[:12]}'
        try:
            self._execute(admin, f'CREATE DATABASE {name}')
        except sa.exc.SQLAlchemyError as exc:
            missing(self.NAME, exc)
        self.addCleanup(self._execute, admin, self._drop(name))
        url = sa.make_url(self.ADDRESS).set(database=name)
        self.url = url.render_as_string(hide_password=False)

    def _execute(self, admin, statement):
        with admin.connect() as connection:
            connection.execute(sa.text(statement))

    def _drop(self, name):
        return f'DROP DATABASE {name}'


class MySQL(_Database):
    """MariaDB or MySQL."""

    NAME = 'MariaDB (EER_TEST_MYSQL)'
    ADDRESS = os.environ.get('EER_TEST_MYSQL', 'mysql+pymysql://root@127.0.0.1:3306/')


class PostgreSQL(_Database):
    """PostgreSQL."""

    NAME = 'PostgreSQL (EER_TEST_POSTGRESQL)'
    ADDRESS = os.environ.get('EER_TEST_POSTGRESQL', 'postgresql+psycopg://postgres@127.0.0.1:5432/postgres')

    def _drop(self, name):
        return f'DROP DATABASE {name} WITH (FORCE)'


class Folder(fixtures.Fixture):
    """A folder for the time of the test.

    :ivar path: a ``pathlib.Path``
    """

    def _setUp(self):
        self.path = pathlib.Path(self.useFixture(fixtures.TempDir()).path)


def children(pid):
    """The processes that a process has started and that still run, oldest first."""
    found = []
    for task in pathlib.Path(f'/proc/{pid}/task').iterdir():
        found += [int(child) for child in (task / 'children').read_text().split()]
    return sorted(found)


def kill(pid):
    """End a process that a test started as the operating system would."""
    os.kill(pid, signal.SIGKILL)


def is_alive(pid):
    """Whether a process runs."""
    try:
        state = pathlib.Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0]
    except OSError:
        return False
    return state not in 'ZX'
