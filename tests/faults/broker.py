"""A RabbitMQ node for the tests, which they may kill, stop, and deprive of memory.

The node uses the installed binaries. Everything that nodes share by default (node
name, ports, cookie, Erlang's port mapper, data, plugins) is separate.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent import futures
import contextlib
import functools
import os
import pathlib
import shutil
import signal
import subprocess

import amqp
import fixtures

from tests.integration import deployment
from tests.integration import services

#: Folder in which Debian installs the scripts that do not change the user.
SCRIPTS = pathlib.Path('/usr/lib/rabbitmq/bin')

#: Share of the machine's memory that a node may use by default.
WATERMARK = '0.4'


class Broker(fixtures.Fixture):
    """A running node.

    :ivar port: the port on which it listens, on the loopback interface only
    """

    #: The node's name.
    NAME = 'faults@localhost'

    #: Options of the service that this broker needs.
    options: Mapping[str, str] = {}

    def _setUp(self):
        self.folder = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
        self.port = deployment.free_port()
        self.cookie_folder, self.mapper_port = self.port_mapper()
        self.environment = self._environment()
        (self.folder / 'rabbitmq.conf').write_text(self.configuration())
        (self.folder / 'plugins').write_text('[].\n')
        (self.folder / 'empty').touch()
        self.process = deployment.Process(
            'rabbitmq', self.command('rabbitmq-server'), self.folder, environment=self.environment
        )
        self.useFixture(self.process)
        self.wait()

    def port_mapper(self):
        """Start Erlang's port mapper.

        :returns: the folder with the cookie that nodes and their tools share, and the mapper's port
        """
        # NOTE: otherwise the node starts one in the background, which continues after the test.
        port = deployment.free_port()
        command = [*self.command('epmd'), '-address', '127.0.0.1', '-port', port]
        self.useFixture(deployment.Process('epmd', command, self.folder))
        return self.folder, port

    def configuration(self):
        """The content of its ``rabbitmq.conf``."""
        return f'listeners.tcp.1 = 127.0.0.1:{self.port}\n'

    def command(self, name):
        """The command line of one of RabbitMQ's scripts, or of ``epmd``, without arguments."""
        return [_found(name) if name == 'epmd' else script(name)]

    def url(self, port=None):
        """The URL for ``[DEFAULT] transport_url``.

        :param port: port of a proxy to the node
        """
        return f'rabbit://guest:guest@127.0.0.1:{port or self.port}/'

    def wait(self):
        """Wait until it accepts connections."""
        self.process.wait_for('Starting broker... completed')

    def start(self):
        """Start it again, and wait until it accepts connections."""
        self.process.start()
        self.wait()

    def kill(self):
        """End it like a power failure (SIGKILL)."""
        self.process.stop(number=signal.SIGKILL)

    def stop(self):
        """End it in order."""
        self.process.stop()

    @contextlib.contextmanager
    def channel(self):
        """A separate channel for operations that ``rabbitmqctl`` does not have."""
        with amqp.Connection(f'127.0.0.1:{self.port}', 'guest', 'guest') as connection:
            yield connection.channel()

    def control(self, *arguments):
        """Run ``rabbitmqctl`` on this node.

        :returns: its output
        """
        done = subprocess.run(
            [*self.command('rabbitmqctl'), '-q', *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=services.ADMIN_TIMEOUT,
        )
        if done.returncode:
            raise AssertionError(f'rabbitmqctl {arguments}: {done.stderr or done.stdout}')
        return done.stdout

    def _environment(self):
        names = ('RABBITMQ_', 'ERL_', 'NOTIFY_SOCKET')
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(names)}
        at = self.folder.joinpath
        return {
            **inherited,
            'HOME': str(self.cookie_folder),
            'ERL_EPMD_ADDRESS': '127.0.0.1',
            'ERL_EPMD_PORT': str(self.mapper_port),
            'RABBITMQ_NODENAME': self.NAME,
            'RABBITMQ_NODE_PORT': str(self.port),
            'RABBITMQ_DIST_PORT': str(deployment.free_port()),
            'RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS': '-kernel inet_dist_use_interface {127,0,0,1}',
            'RABBITMQ_MNESIA_BASE': str(at('mnesia')),
            'RABBITMQ_LOG_BASE': str(at('log')),
            'RABBITMQ_PID_FILE': str(at('pid')),
            'RABBITMQ_CONFIG_FILE': str(at('rabbitmq.conf')),
            'RABBITMQ_CONF_ENV_FILE': str(at('empty')),
            'RABBITMQ_ENABLED_PLUGINS_FILE': str(at('plugins')),
            # NOTE: the script becomes the node (exec), so that its pid is the pid of the node.
            'RUNNING_UNDER_SYSTEMD': 'true',
        }


class _ClusterNode(Broker):
    """A node of a cluster."""

    def __init__(self, number, first=None):
        """:param first: the node that this node joins; None: this is the first node"""
        self.NAME = f'faults-{number}@localhost'
        self._first = first

    def port_mapper(self):
        return (
            super().port_mapper()
            if self._first is None
            else (self._first.cookie_folder, self._first.mapper_port)
        )


class Cluster(fixtures.Fixture):
    """Three nodes, on which the service uses quorum queues.

    :ivar nodes: each a :class:`Broker`
    """

    options = {
        'oslo_messaging_rabbit__rabbit_quorum_queue': 'true',
        'oslo_messaging_rabbit__rabbit_transient_quorum_queue': 'true',
    }

    def _setUp(self):
        # NOTE: the first node writes the cookie, which the other nodes read.
        first = self.useFixture(_ClusterNode(0))
        others = [_ClusterNode(number, first) for number in (1, 2)]
        self.nodes = [first, *others]
        with futures.ThreadPoolExecutor() as pool:
            list(pool.map(self._join, others))

    def _join(self, node):
        self.useFixture(node)
        node.control('stop_app')
        node.control('join_cluster', self.nodes[0].NAME)
        node.control('start_app')

    def url(self):
        """The URL for ``[DEFAULT] transport_url``, with all nodes."""
        addresses = ','.join(f'guest:guest@127.0.0.1:{node.port}' for node in self.nodes)
        return f'rabbit://{addresses}/'

    def kill(self, number):
        """End the first nodes like a power failure (SIGKILL).

        :param number: number of nodes
        """
        for node in self.nodes[:number]:
            node.kill()

    def start(self, number):
        """Start the first nodes again, and wait until they accept connections."""
        with futures.ThreadPoolExecutor() as pool:
            list(pool.map(Broker.start, self.nodes[:number]))


@functools.cache
def script(name):
    """The path of one of RabbitMQ's scripts."""
    beside = SCRIPTS / name
    return str(beside) if beside.exists() else _found(name)


def _found(name):
    path = shutil.which(name)
    if path is None:
        services.missing('RabbitMQ', f'a separate node needs {name}, which is not installed')
    return path
