"""A cloud of Nova's own: its databases, made by its commands and objects, and computes that run its code.

Two cells, each with a MariaDB database and a RabbitMQ virtual host. Nova is as PyPI
has it, in a virtual environment of its own (see ``tests.integration.venvs``).
"""

from __future__ import annotations

import json
import os
import pathlib
import re
import subprocess

import fixtures
import sqlalchemy as sa

from tests.integration import deployment
from tests.integration import services
from tests.integration import venvs

NEWEST = '34.0.0'
OLDEST = '29.4.0'

_OF_2024_1 = (
    'SQLAlchemy~=1.4.51',
    'oslo.cache~=3.7',
    'oslo.concurrency~=6.0',
    'oslo.config~=9.4',
    'oslo.context~=5.5',
    'oslo.db~=15.0',
    'oslo.log~=5.5',
    'oslo.messaging~=14.7',
    'oslo.middleware~=6.1',
    'oslo.policy~=4.3',
    'oslo.privsep~=3.3',
    'oslo.serialization~=5.4',
    'oslo.service~=3.4',
    'oslo.utils~=7.1',
    'oslo.versionedobjects~=3.3',
    'setuptools<81',
)

#: Installed packages: the oldest release does not run with current libraries.
REQUIREMENTS = {
    NEWEST: (f'nova=={NEWEST}', 'PyMySQL>=1.1'),
    OLDEST: (f'nova=={OLDEST}', 'PyMySQL>=1.1', *_OF_2024_1),
}

#: Seconds for one of Nova's commands.
COMMAND_TIMEOUT = 300

HERE = pathlib.Path(__file__).parent

_CONFIGURATION = """
[DEFAULT]
host = {name}
transport_url = {transport}
compute_driver = fake.FakeDriver
state_path = {folder}
use_stderr = true
debug = false
[api_database]
connection = {api}
[database]
connection = {database}
[oslo_concurrency]
lock_path = {folder}
[placement]
auth_type = none
endpoint_override = http://127.0.0.1:9/
[vnc]
enabled = false
[workarounds]
never_download_image_if_on_rbd = false
"""


class Cloud(fixtures.Fixture):
    """Nova's databases with two cells, ``cell1`` and ``cell2``.

    :ivar api: URL of the API database; likewise ``databases`` and ``transports`` by cell
    """

    def __init__(self, version, *, hosts, instances):
        """:param version: of Nova
        :param hosts: host to its cell
        :param instances: dicts of ``uuid``, ``cell`` (None: none yet), ``host``, and perhaps
            ``port``, ``deleted`` and ``migration`` (``source``, ``dest``, ``across_cells``)
        """
        self.version = version
        self.hosts = hosts
        self.instances = instances

    def _setUp(self):
        self.bin = environment(self.version) / 'bin'
        self.folder = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
        self.cells = ('cell1', 'cell2')
        self.api = self.useFixture(services.MySQL()).url
        self.databases = {name: self.useFixture(services.MySQL()).url for name in ('cell0', *self.cells)}
        self.transports = {name: self.useFixture(services.RabbitMQ()).url for name in self.cells}
        self.configs = {name: self._configure(name) for name in self.cells}
        self.manage('api_db', 'sync')
        self.manage('cell_v2', 'map_cell0', '--database_connection', self.databases['cell0'])
        for name in self.cells:
            self.manage(
                'cell_v2', 'create_cell', '--name', name, '--database_connection', self.databases[name],
                '--transport-url', self.transports[name],
            )  # fmt: skip
            self.manage('db', 'sync', '--local_cell', cell=name)
        self.manage('db', 'sync', '--local_cell', cell='cell0')
        self.seed(hosts=self.hosts, instances=self.instances)
        with self.database(self.api) as connection:
            self.uuids = dict(connection.execute(sa.text('select name, uuid from cell_mappings')).all())

    def seed(self, **wanted):
        """Have ``seed`` do something."""
        specification = {'hosts': {}, 'instances': [], 'read': [], **wanted}
        command = [self.bin / 'python', '-P', HERE / 'seed.py', self.configs['cell1']]
        return json.loads(self._run(command, stdin=json.dumps(specification)))

    def primitives(self, uuids):
        """Instances as Nova itself would send them to a compute now, by uuid."""
        cells = {instance['uuid']: instance['cell'] for instance in self.instances}
        return self.seed(read=[(uuid, cells[uuid]) for uuid in uuids])

    def manage(self, *arguments, cell='cell1'):
        """Run ``nova-manage``."""
        if cell not in self.configs:
            self.configs[cell] = self._configure(cell)
        return self._run([self.bin / 'nova-manage', '--config-file', self.configs[cell], *arguments])

    def compute(self, host, *, topics=(), waits=()):
        """Nova's compute manager for a host, a fixture to be used.

        :param topics: topics that it serves; none: the topic by which events must come
        :param waits: uuid, event name and tag of the expected event
        """
        options = [word for wait in waits for word in ('--wait', *wait)]
        config = self.configs[self.hosts[host]]
        topics = topics or (('compute-alt',) if self.version == NEWEST else ('compute',))
        command = [self.bin / 'python', '-P', HERE / 'compute.py', config, host, *topics, *options]
        return Compute(host, command, self.folder, environment=self.environment, waits=len(waits))

    def api_server(self, port):
        """Nova's own compute API, a fixture to be used."""
        folder = self.folder / 'api'
        folder.mkdir(exist_ok=True)
        provided = (self.bin.parent / 'etc/nova/api-paste.ini').read_text()
        (folder / 'api-paste.ini').write_text(
            re.sub(r'(?m)^(keystone = .*)\bauthtoken\b', r'\1caller', provided)
            + '\n[filter:caller]\npaste.filter_factory = nova_api_caller:filter_factory\n'
        )
        (folder / 'nova.conf').write_text(self.configs['cell1'].read_text())
        return deployment.Process(
            'nova-api',
            [self.bin / 'python', '-P', HERE / 'api.py', port],
            self.folder,
            environment={**self.environment, 'OS_NOVA_CONFIG_DIR': str(folder)},
        )

    def database(self, url):
        """A connection to one of the databases."""
        return sa.create_engine(url, poolclass=sa.pool.NullPool, isolation_level='AUTOCOMMIT').connect()

    @property
    def environment(self):
        """Of the processes: the newest releases run on native threads."""
        native = {'OS_NOVA_DISABLE_EVENTLET_PATCHING': '1'} if self.version == NEWEST else {}
        return {**os.environ, **native}

    def _configure(self, name):
        path = self.folder / f'{name}.conf'
        path.write_text(
            _CONFIGURATION.format(
                name=name,
                folder=self.folder,
                transport=self.transports.get(name, 'fake:/'),
                api=self.api,
                database=self.databases[name],
            )
        )
        return path

    def _run(self, command, *, stdin=''):
        done = subprocess.run(
            [str(word) for word in command],
            input=stdin,
            capture_output=True,
            text=True,
            env=self.environment,
            timeout=COMMAND_TIMEOUT,
        )
        if done.returncode:
            raise AssertionError(f'{command}: {done.stdout[-2000:]}{done.stderr[-4000:]}')
        return done.stdout


class Compute(deployment.Process):
    """A process with Nova's compute manager, ready when it is set up."""

    def __init__(self, *arguments, waits, **options):
        super().__init__(*arguments, **options)
        self.waits = waits

    def _setUp(self):
        super()._setUp()
        self.wait_for('{"what": "ready"}')
        self.wait_for('{"what": "waiting"', times=self.waits)

    def messages(self, what):
        """Its records of a kind, as dicts."""
        lines = [line for line in self.text().splitlines() if line.startswith('{"what": ')]
        return [line for line in map(json.loads, lines) if line['what'] == what]

    def wait_for_messages(self, what, times=1):
        """Wait for it.

        :returns: its records of the kind
        """
        deployment.wait_until(
            lambda: len(self.messages(what)) >= times or self.process.poll() is not None,
            f'{what!r} from {self.name}: {self.log}',
        )
        if len(self.messages(what)) < times:
            raise AssertionError(f'{self.name} ended:\n{self.text()[-4000:]}')
        return self.messages(what)


def environment(version):
    """The virtual environment with a release of Nova."""
    major = version.partition('.')[0]
    return venvs.make(f'nova-{major}', REQUIREMENTS[version], variable=f'EER_TEST_NOVA_{major}_VENV')
