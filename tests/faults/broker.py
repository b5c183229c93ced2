"""A RabbitMQ node of the tests' own, which may be killed, stopped and starved.

From the installed binaries, with everything that it shares by default (node
name, ports, cookie, Erlang's port mapper, data, plugins) replaced by its own.
"""

from __future__ import annotations

import functools
import os
import pathlib
import shutil
import signal
import subprocess

import fixtures

from tests.integration import deployment
from tests.integration import services

#: Where Debian has the scripts that do not change the user.
SCRIPTS = pathlib.Path('/usr/lib/rabbitmq/bin')

#: Share of the machine's memory that a node may use by default.
WATERMARK = '0.4'


class Broker(fixtures.Fixture):
    """A running node.

    :ivar port: where it listens, on the loopback only
    """

    #: The node's name.
    NAME = 'faults@localhost'

    def _setUp(self):
        self.folder = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
        self.port = deployment.free_port()
        self.environment = self._environment()
        (self.folder / 'rabbitmq.conf').write_text(self.configuration())
        (self.folder / 'plugins').write_text('[].\n')
        (self.folder / 'empty').touch()
        # NOTE: else the node starts one in the background, which would outlive it.
        mapper = [*self.command('epmd'), '-address', '127.0.0.1', '-port', self.environment['ERL_EPMD_PORT']]
        self.useFixture(deployment.Process('epmd', mapper, self.folder))
        self.process = deployment.Process(
            'rabbitmq', self.command('rabbitmq-server'), self.folder, environment=self.environment
        )
        self.useFixture(self.process)
        self.wait()

    def configuration(self):
        """What stands in its ``rabbitmq.conf``."""
        return f'listeners.tcp.1 = 127.0.0.1:{self.port}\n'

    def command(self, name):
        """The words that run one of RabbitMQ's scripts, or ``epmd``, without arguments."""
        return [_found(name) if name == 'epmd' else script(name)]

    def url(self, port=None):
        """For ``[DEFAULT] transport_url``.

        :param port: of a proxy on the way
        """
        return f'rabbit://guest:guest@127.0.0.1:{port or self.port}/'

    def wait(self):
        """Wait until it takes connections."""
        self.process.wait_for('Starting broker... completed')

    def start(self):
        """Start it again, and wait until it takes connections."""
        self.process.start()
        self.wait()

    def kill(self):
        """End it as a power cut would."""
        self.process.stop(number=signal.SIGKILL)

    def stop(self):
        """End it as an operator would."""
        self.process.stop()

    def control(self, *arguments):
        """Run ``rabbitmqctl`` on it.

        :returns: what it printed
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
            'HOME': str(self.folder),
            'ERL_EPMD_ADDRESS': '127.0.0.1',
            'ERL_EPMD_PORT': str(deployment.free_port()),
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
            # NOTE: has the script become the node, so that its pid is the node's.
            'RUNNING_UNDER_SYSTEMD': 'true',
        }


@functools.cache
def script(name):
    """The path of one of RabbitMQ's scripts."""
    beside = SCRIPTS / name
    return str(beside) if beside.exists() else _found(name)


def _found(name):
    path = shutil.which(name)
    if path is None:
        services.missing('RabbitMQ', f'a node of our own needs {name}, which is not here')
    return path
