"""A database for the tests, which they may kill, freeze, disconnect or fill up.

MariaDB or PostgreSQL from the installed binaries, with data in a temporary
folder; or an SQLite file on a separate small disk.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile

import fixtures
import sqlalchemy as sa

from tests.integration import deployment
from tests.integration import services

#: Seconds until a connection of the tests must be established.
CONNECT_TIMEOUT = 2

NAME = 'router'

_OTHERS = 'SELECT id FROM information_schema.processlist WHERE id <> connection_id() AND db IS NOT NULL'


class Server(fixtures.Fixture):
    """A running server.

    :ivar url: the URL for ``[database] connection``
    """

    SCHEME: str
    USER: str
    #: The database that always exists.
    MAIN_DATABASE: str
    #: The signals that end it in order, and immediately.
    STOP: signal.Signals

    def _setUp(self):
        # NOTE: not fixtures.TempDir, which only its owner may enter: the server
        # runs as another user if the tests run as root.
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix='faults-'))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.folder.chmod(0o755)
        self.port = deployment.free_port()
        self.prepare()
        self.process = self.useFixture(
            deployment.Process(self.SCHEME.partition('+')[0], self.command(), self.folder, user=self.user())
        )
        # NOTE: with the signal of its process, PostgreSQL would wait for its clients.
        self.addCleanup(self.stop)
        self.url = f'{self._address}/{NAME}{self.query()}'
        self.wait()
        with self.connection(None) as connection:
            connection.exec_driver_sql(f'CREATE DATABASE {NAME}')

    def user(self):
        """The user that runs the server; None: the user that runs the tests."""

    def query(self):
        """The parts of a URL after the name of the database."""
        return ''

    def wait(self):
        """Wait until it accepts connections."""
        deployment.wait_until(self._answers, f'an answer of {self.process.name} ({self.process.log})')

    def start(self):
        """Start it again, and wait until it accepts connections."""
        self.process.start()
        self.wait()

    def kill(self):
        """End it like a power failure (SIGKILL)."""
        self.process.stop(number=signal.SIGKILL)

    def stop(self):
        """End it in order, without waiting for its clients."""
        self.process.stop(number=self.STOP)

    @contextlib.contextmanager
    def frozen(self):
        """Freeze it: it does not answer, and its connections stay open."""
        pids = [self.process.pid, *services.children(self.process.pid)]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        # NOTE: the threads of a process stop one after the other.
        deployment.wait_until(lambda: all(map(_is_stopped, pids)), 'the stop of all its threads')
        try:
            yield
        finally:
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    @contextlib.contextmanager
    def connection(self, name=NAME):
        """A connection of the tests, in which each statement is a transaction."""
        engine = sa.create_engine(
            f'{self._address}/{self.MAIN_DATABASE if name is None else name}{self.query()}',
            poolclass=sa.pool.NullPool,
            isolation_level='AUTOCOMMIT',
            connect_args={'connect_timeout': CONNECT_TIMEOUT},
        )
        with engine.connect() as connection:
            yield connection

    @property
    def _address(self):
        return f'{self.SCHEME}://{self.USER}@127.0.0.1:{self.port}'

    def _answers(self):
        if self.process.process.poll() is not None:
            raise AssertionError(f'{self.process.name} ended:\n{self.process.text()[-4000:]}')
        try:
            with self.connection(None):
                return True
        except sa.exc.SQLAlchemyError:
            return False

    def prepare(self):
        """Prepare the data folder of a server."""
        raise NotImplementedError

    def command(self):
        """What starts it."""
        raise NotImplementedError


class MariaDB(Server):
    """``mariadbd``."""

    SCHEME, USER, MAIN_DATABASE = 'mysql+pymysql', 'root', ''
    STOP = signal.SIGTERM

    def __init__(self, *, buffer_pool=32):
        """:param buffer_pool: MiB of memory for tables; with larger tables, the server takes several
        times as much processor time
        """
        super().__init__()
        self.buffer_pool = buffer_pool

    def prepare(self):
        _run(
            _found('mariadb-install-db'),
            '--no-defaults',
            f'--datadir={self.folder}/data',
            '--auth-root-authentication-method=normal',
            '--skip-test-db',
            *self._as_root(),
        )

    def command(self):
        return [
            _found('mariadbd'),
            '--no-defaults',
            f'--datadir={self.folder}/data',
            f'--socket={self.folder}/socket',
            f'--port={self.port}',
            '--bind-address=127.0.0.1',
            f'--innodb-buffer-pool-size={self.buffer_pool}M',
            '--skip-name-resolve',
            *self._as_root(),
        ]

    def cut(self):
        """End every connection except the connection of the tests."""
        with self.connection() as connection:
            for pid in connection.scalars(sa.text(_OTHERS)).all():
                # NOTE: the connection may already have ended.
                with contextlib.suppress(sa.exc.OperationalError):
                    connection.exec_driver_sql(f'KILL {pid}')

    def _as_root(self):
        return ['--user=root'] if os.geteuid() == 0 else []


class PostgreSQL(Server):
    """``postgres``, which refuses to run as root."""

    SCHEME, USER, MAIN_DATABASE = 'postgresql+psycopg', 'postgres', 'postgres'
    STOP = signal.SIGINT

    def user(self):
        return 'postgres' if os.geteuid() == 0 else None

    def prepare(self):
        if self.user():
            shutil.chown(self.folder, self.user())
        _run(
            _postgres('initdb'), '-D', self.folder / 'data', '-U', 'postgres', '-A', 'trust', user=self.user()
        )

    def command(self):
        settings = {'listen_addresses': '127.0.0.1', 'unix_socket_directories': '', 'fsync': 'on'}
        return [
            _postgres('postgres'),
            '-D',
            self.folder / 'data',
            '-p',
            self.port,
            *(f'--{name}={value}' for name, value in settings.items()),
        ]

    def cut(self):
        """End every connection except the connection of the tests."""
        with self.connection() as connection:
            connection.exec_driver_sql(
                'SELECT pg_terminate_backend(pid) FROM pg_stat_activity'
                ' WHERE pid <> pg_backend_pid() AND datname = current_database()'
            )


class SQLite(fixtures.Fixture):
    """A file on a small disk.

    :ivar url: the URL for ``[database] connection``
    """

    #: Size of the disk in bytes.
    SIZE = 4 * 1024 * 1024

    def _setUp(self):
        self.folder = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
        if os.geteuid():
            services.missing('SQLite on a small disk', 'root is required to mount a disk')
        _run('mount', '-t', 'tmpfs', '-o', f'size={self.SIZE},mode=700', 'tmpfs', self.folder)
        self.addCleanup(_run, 'umount', '--lazy', self.folder)
        self.url = f'sqlite:///{self.folder}/{NAME}.sqlite'

    @contextlib.contextmanager
    def full(self):
        """Fill the disk completely."""
        filler = self.folder / 'filler'
        try:
            with open(filler, 'wb', buffering=0) as file, contextlib.suppress(OSError):
                while file.write(b'\0' * 4096):
                    pass
            yield
        finally:
            filler.unlink()


def _is_stopped(pid):
    """Whether no thread of a process runs."""
    try:
        states = [stat.read_text() for stat in pathlib.Path(f'/proc/{pid}/task').glob('*/stat')]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return all(state.rpartition(')')[2].split()[0] in 'TtZX' for state in states)


def _run(*command, user=None):
    done = subprocess.run(
        [str(word) for word in command],
        user=user,
        cwd='/',
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=services.ADMIN_TIMEOUT,
    )
    if done.returncode:
        raise AssertionError(f'{command[0]}: {done.stderr or done.stdout}')


def _found(name):
    path = shutil.which(name) or shutil.which(name, path='/usr/sbin:/usr/local/sbin')
    if path is None:
        services.missing('MariaDB', f'a separate server needs {name}, which is not installed')
    return path


def _postgres(name):
    # NOTE: Debian installs them outside of PATH, in a folder per release.
    beside = sorted(pathlib.Path('/usr/lib/postgresql').glob(f'*/bin/{name}'))
    path = shutil.which(name) or (beside[-1] if beside else None)
    if path is None:
        services.missing('PostgreSQL', f'a separate server needs {name}, which is not installed')
    return path
