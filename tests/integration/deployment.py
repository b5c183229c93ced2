"""The service as an operator runs it: its commands as processes, over a real broker and database.

Every process logs into a separate file in the folder of the deployment. Every
wait has a time limit, and a process that ends early fails the
wait with the end of its log.
"""

from __future__ import annotations

from concurrent import futures
import contextlib
import json
import os
import pathlib
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import fixtures

from external_events_router.db import migration
from external_events_router.resolver.host_map import sql
from tests import interpreter
from tests.unit.db import databases

#: Seconds; long enough for the start of ten processes on a machine that is ten times overloaded.
PATIENCE = 120.0

ROOT = pathlib.Path(__file__).parents[2]

#: Where the console scripts are: beside the interpreter that runs the tests.
BIN = pathlib.Path(sys.executable).parent


#: What ``external-events-manage`` runs.
MANAGE = 'import sys; from external_events_router.cmd import manage; sys.exit(manage.main())'


class Process(fixtures.Fixture):
    """A running command; terminated, and killed if that does not help, at the end.

    It can be started again after its end, and logs on into the same file.
    """

    def __init__(self, name, command, folder, *, environment=None, user=None):
        """:param environment: the complete environment; None: the environment of the tests
        :param user: the user that runs it; None: the user that runs the tests
        """
        self.name = name
        self.command = [str(word) for word in command]
        self.log = folder / f'{name}.log'
        self.environment = environment
        self.user = user

    def _setUp(self):
        self.start()
        self.addCleanup(self.stop)

    def start(self):
        """Start it (again)."""
        with open(self.log, 'ab') as log:
            self.logged_before = log.tell()
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=ROOT,
                env=self.environment,
                user=self.user,
                start_new_session=True,
            )

    @property
    def pid(self):
        """Of the process that was started; workers are its children."""
        return self.process.pid

    def text(self):
        """The log messages since its last start."""
        with open(self.log, 'rb') as log:
            log.seek(self.logged_before)
            return log.read().decode(errors='replace')

    def wait_for(self, text, *, times=1):
        """Wait until it has logged a text, so many times."""
        wait_until(
            lambda: self.text().count(text) >= times or self.process.poll() is not None,
            f'{text!r} in the log of {self.name}',
        )
        if self.text().count(text) < times:
            raise AssertionError(f'{self.name} ended before {text!r}:\n{self.text()[-4000:]}')

    def stop(self, *, number=signal.SIGTERM):
        """Have it end.

        :returns: its exit status
        """
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.send_signal(number)
        try:
            return self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(PATIENCE)
            raise AssertionError(f'{self.name} did not end:\n{self.text()[-4000:]}') from None


class Deployment(fixtures.Fixture):
    """API, resolver (both with two workers) and recording agents, as processes.

    :ivar url: URL of the API
    :ivar folder: configuration, logs and ledger
    :ivar processes: all started processes, running or ended
    """

    def __init__(self, *, transport_url, connection, hosts, hosts_of, **options):
        """:param hosts: names of the hosts that have an agent
        :param hosts_of: server uuid to its hosts, imported before anything starts
        :param options: option to value, its group before two underscores
        """
        self.transport_url = transport_url
        self.connection = connection
        self.hosts = list(hosts)
        self.hosts_of = hosts_of
        self.options = {'delivery__ack_timeout': 5.0, **options}

    def _setUp(self):
        self.prepare()
        self.start()
        self.addCleanup(self.stop)

    def prepare(self):
        """Create everything that must exist before the first process starts."""
        self.processes = []
        self.folder = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
        self.port = free_port()
        self.url = f'http://127.0.0.1:{self.port}'
        self.config = self.write_config('external-events-router.conf')
        self.ledger = self.folder / 'ledger.jsonl'
        self.ledger.touch()
        with self.database() as database:
            migration.upgrade(database)
        self.import_hosts(self.hosts_of)

    def start(self):
        """Start the processes, at the same time."""
        with futures.ThreadPoolExecutor() as pool:
            resolver = pool.submit(self.start_resolver)
            agents = pool.submit(self.start_agents, 'agents', *self.hosts) if self.hosts else None
            api = pool.submit(self.start_api)
        self.resolver, self.api = resolver.result(), api.result()
        self.agents = agents and agents.result()

    def stop(self):
        """End all processes, at the same time."""
        with futures.ThreadPoolExecutor() as pool:
            list(pool.map(Process.stop, self.processes))

    @contextlib.contextmanager
    def database(self):
        """The service's database, in this process: a command takes a second to start."""
        database = databases.database(self.connection)
        try:
            yield database
        finally:
            database.close()

    def import_hosts(self, hosts_of):
        """Have the host map say where some servers are."""
        written = [
            json.dumps({'server': server, 'hosts': list(hosts)}).encode() + b'\n'
            for server, hosts in hosts_of.items()
        ]
        with self.database() as database:
            sql.SqlHostMap(database).import_lines(written)

    def write_config(self, name, **options):
        """Write a configuration file: the deployment's options, and others over them.

        :returns: its path
        """
        path = self.folder / name
        path.write_text(self._configuration({**self.options, **options}))
        return path

    def _configuration(self, changed):
        values = {
            'DEFAULT': {'transport_url': self.transport_url, 'debug': 'false'},
            'database': {'connection': self.connection.replace('%', '%%')},
            'api': {'bind_port': self.port, 'workers': 2, 'auth_strategy': 'noauth'},
            'resolver': {'workers': 2},
        }
        for name, value in changed.items():
            group, _, option = name.rpartition('__')
            values.setdefault(group or 'DEFAULT', {})[option] = value
        return '\n'.join(
            f'[{group}]\n' + ''.join(f'{option} = {value}\n' for option, value in options.items())
            for group, options in values.items()
        )

    def start_resolver(self, name='resolver', *, config=None, environment=None):
        """Start ``external-events-resolver`` and wait until its workers are ready."""
        command = [BIN / 'external-events-resolver', '--config-file', config or self.config]
        process = self._start(Process(name, command, self.folder, environment=environment))
        process.wait_for('is ready', times=self.options.get('resolver__workers', 2))
        return process

    def start_agents(self, name, *hosts, config=None, environment=None):
        """Start a process of recording agents and wait until all of them listen."""
        command = [
            sys.executable,
            '-m',
            'tests.integration.recording_agent',
            config or self.config,
            self.ledger,
            *hosts,
        ]
        process = self._start(Process(name, command, self.folder, environment=environment))
        process.wait_for('ready\n')
        return process

    def start_api(self, name='api', *, config=None):
        """Start ``external-events-api`` and wait until it answers."""
        command = [BIN / 'external-events-api', '--config-file', config or self.config]
        process = self._start(Process(name, command, self.folder))
        self.wait_for_api()
        return process

    def wait_for_api(self):
        """Wait until the API answers."""
        wait_until(self._answers, f'an answer of {self.url}; logs are in {self.folder}')

    def _start(self, process):
        self.processes.append(process)
        return self.useFixture(process)

    def _answers(self):
        try:
            with urllib.request.urlopen(f'{self.url}/healthcheck', timeout=5) as response:
                return response.status == 200
        except OSError:
            return False

    def manage(self, *arguments):
        """Run ``external-events-manage``.

        :returns: its output
        """
        # NOTE: in a fork, because half of the processor time of a small deployment would be imports.
        done = interpreter.run(MANAGE, '--config-file', self.config, *arguments, cwd=ROOT, timeout=PATIENCE)
        if done.returncode:
            raise AssertionError(f'external-events-manage {arguments}: {done.stderr}')
        return done.stdout

    def post(self, *batch, headers=()):
        """Post a batch over HTTP.

        :returns: the status, and the code of each event
        """
        request = urllib.request.Request(
            f'{self.url}/v2.1/os-server-external-events',
            data=json.dumps({'events': list(batch)}).encode(),
            headers={
                'Content-Type': 'application/json',
                'OpenStack-API-Version': 'compute 2.93',
                **dict(headers),
            },
        )
        with urllib.request.urlopen(request, timeout=PATIENCE) as response:
            return response.status, [event['code'] for event in json.load(response)['events']]

    def handled(self):
        """The records of the agents, as dicts."""
        return [json.loads(line) for line in self.ledger.read_text().splitlines()]


def free_port():
    """A TCP port without a listener.

    It is outside of the range for outgoing connections, which might
    otherwise take it before it is used.
    """
    while True:
        port = random.randrange(15000, 32000)
        try:
            socket.create_server(('127.0.0.1', port)).close()
        except OSError:
            continue
        return port


def listens(port):
    """Whether a process listens on a port of this machine."""
    try:
        socket.create_connection(('127.0.0.1', port), timeout=5).close()
    except OSError:
        return False
    return True


def wait_until(condition, what):
    """Wait until a condition holds.

    :raises AssertionError: it does not after :data:`PATIENCE`
    """
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f'waited {PATIENCE} s for {what}')
        time.sleep(0.05)
