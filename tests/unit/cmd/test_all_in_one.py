"""``external-events-all-in-one``: configurations that it refuses, and its signals."""

from __future__ import annotations

import pathlib
import signal
import socket
import subprocess
import sys
import threading
from typing import Any

import fixtures
from oslo_config import cfg

from external_events_router import exceptions
from external_events_router.api import auth
from external_events_router.cmd import all_in_one
from tests import base
from tests import interpreter
from tests.unit.agent import helpers
from tests.unit.api import client

COMMAND = 'import sys; from external_events_router.cmd import all_in_one; sys.exit(all_in_one.main())'


class ExposureTest(base.TestCase):
    """Without authentication, only clients on this machine are served, unless the operator allows others."""

    def conf(self, *, allowed: bool = False, **overrides: Any) -> cfg.ConfigOpts:
        conf = client.make_conf(**{'api__auth_strategy': 'noauth', **overrides})
        conf.register_opts([cfg.BoolOpt('allow_insecure_noauth', default=allowed)])
        return conf

    def test_loopback_addresses(self) -> None:
        for host in ('127.0.0.1', '127.8.8.8', '::1', 'localhost'):
            all_in_one.check_exposure(self.conf(api__bind_host=host))
        self.assertNotIn('loopback', self.logs.output)

    def test_other_addresses_are_refused(self) -> None:
        for host in ('0.0.0.0', '::', '192.0.2.1', 'no-such-host.invalid'):  # noqa: S104
            problem = self.assertRaises(
                exceptions.ConfigurationError, all_in_one.check_exposure, self.conf(api__bind_host=host)
            )
            self.assertIn(f'{host} is not a loopback address', str(problem))
            self.assertIn('--allow-insecure-noauth', str(problem))

    def test_other_addresses_are_allowed_with_the_option(self) -> None:
        all_in_one.check_exposure(self.conf(allowed=True, api__bind_host='0.0.0.0'))  # noqa: S104
        self.assertIn('WARNING', self.logs.output)
        self.assertIn('0.0.0.0, which is not a loopback address', self.logs.output)

    def test_keystone_may_serve_any_address(self) -> None:
        conf = self.conf(api__bind_host='0.0.0.0', api__auth_strategy='keystone')  # noqa: S104
        all_in_one.check_exposure(conf)
        self.assertFalse(auth.is_open(conf))

    def test_option_is_an_argument_of_the_command(self) -> None:
        self.assertIn('allow-insecure-noauth', [opt.name for opt in all_in_one.CLI_OPTS])


class ReloadTest(base.TestCase):
    TIMEOUT_SCALING_FACTOR = 3

    def test_a_file_that_is_not_valid_changes_nothing(self) -> None:
        folder = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
        config, log = folder / 'c.conf', folder / 'log'
        config.write_text('[api]\nbind_port = 0\n')
        self.useFixture(fixtures.EnvironmentVariable('XDG_STATE_HOME', str(folder)))
        arguments = ['--config-file', config, '--log-file', log]
        process = subprocess.Popen([sys.executable, '-c', COMMAND, *arguments])
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)

        def wait_for(text: str, times: int = 1) -> None:
            helpers.wait_until(lambda: log.exists() and log.read_text().count(text) >= times)

        wait_for('Serving http')
        for number, text in enumerate(('[api\n', 'debug = true\n[delivery]\nack_timeout = soon\n'), 1):
            config.write_text(text)
            process.send_signal(signal.SIGHUP)
            wait_for('ERROR external_events_router.cmd.all_in_one [-] Configuration not reloaded: ', number)
        config.write_text('[DEFAULT]\ndebug = true\n')
        process.send_signal(signal.SIGHUP)
        wait_for('Option DEFAULT.debug changed')
        self.assertEqual(1, log.read_text().count('Option DEFAULT.debug changed'))
        process.send_signal(signal.SIGTERM)
        killer = threading.Timer(helpers.PATIENCE, process.kill)
        killer.start()
        self.addCleanup(killer.cancel)
        self.assertEqual(0, process.wait())


class DemoTest(base.TestCase):
    TIMEOUT_SCALING_FACTOR = 3

    def test_it_states_its_duration_and_uses_the_port(self) -> None:
        with socket.create_server(('127.0.0.1', 0)) as unused:
            port = unused.getsockname()[1]
        (path,) = self.create_tempfiles([('router', '[admin]\nbind_port = 0\n')])
        arguments = ('--config-file', path, '--demo', '--exit', '--port', str(port))
        done = interpreter.run(COMMAND, *arguments, cwd='/', timeout=120)
        self.assertEqual(0, done.returncode, done.stdout + done.stderr)
        self.assertIn(f'Demo of the API at http://127.0.0.1:{port}: posts 7 events', done.stdout)
        self.assertIn('This takes about 7 s. Ctrl-C ends the demo at any time.', done.stdout)

    def test_a_port_in_use(self) -> None:
        with socket.create_server(('127.0.0.1', 0)) as used:
            port = used.getsockname()[1]
            done = interpreter.run(COMMAND, '--demo', '--exit', '--port', str(port), cwd='/', timeout=120)
        self.assertEqual(1, done.returncode, done.stdout + done.stderr)
        self.assertIn('select another port with --port', done.stderr)
