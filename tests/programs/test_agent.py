"""The agent daemon as a process, with a transport that needs no broker."""

import pathlib
import signal
import subprocess
import sys
import threading

import fixtures

from tests import base
from tests.unit.agent import helpers

COMMAND = 'import sys; from external_events_router.cmd import agent; sys.exit(agent.main())'


class TestAgentCommand(base.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
        self.config = self.folder / 'c.conf'
        self.log = self.folder / 'agent.log'
        self._configure()

    def _configure(self, more=''):
        self.config.write_text(f'[DEFAULT]\ntransport_url = fake://\nhost = machine\n{more}')

    def _start(self, *argv):
        process = subprocess.Popen(
            [sys.executable, '-c', COMMAND, '--config-file', self.config, '--log-file', self.log, *argv],
            stderr=subprocess.PIPE,
            text=True,
        )
        self.addCleanup(process.stderr.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def _wait_for_log(self, *lines):
        helpers.wait_until(lambda: self.log.exists() and all(line in self.log.read_text() for line in lines))

    def _end(self, process, number):
        process.send_signal(number)
        killer = threading.Timer(helpers.PATIENCE, process.kill)
        killer.start()
        self.addCleanup(killer.cancel)
        self.assertEqual(0, process.wait(), process.stderr.read())

    def test_hosts_of_the_command_line(self):
        process = self._start('--host', 'a', '--host', 'b')
        self._wait_for_log(
            'Agent of host a started', 'Agent of host b started', 'Serving 2 hosts through the broker fake://'
        )
        self._end(process, signal.SIGTERM)
        self._wait_for_log(
            'SIGTERM received: finishing the current events',
            'Agent of host a stopped',
            'Agent of host b stopped',
        )

    def test_host_of_the_configuration(self):
        self._configure('[agent]\nhosts = c,d\n')
        process = self._start()
        self._wait_for_log('Agent of host c started', 'Agent of host d started', 'Serving 2 hosts')
        self._end(process, signal.SIGINT)

    def test_host_defaults_to_the_name_of_the_machine(self):
        process = self._start()
        self._wait_for_log('Agent of host machine started', 'Serving 1 hosts')
        self._end(process, signal.SIGTERM)

    def test_reload(self):
        process = self._start()
        self._wait_for_log('Serving 1 hosts')
        self._configure('[agent]\nhandlers = exec, log\n')
        process.send_signal(signal.SIGHUP)
        self._wait_for_log(
            'Configuration not reloaded: [exec] command: is not set, but the exec handler needs a command'
        )
        self._configure('[exec]\ncommand = cat\ntimeout = long\n[agent]\nhandlers = exec\n')
        process.send_signal(signal.SIGHUP)
        self._wait_for_log('Configuration not reloaded: [exec] timeout: ')
        self._configure('debug = true\n[agent]\nhandlers = exec, log\n[exec]\ncommand = cat\n')
        process.send_signal(signal.SIGHUP)
        self._wait_for_log('Handlers: exec, log', 'Option DEFAULT.debug changed')
        # Nothing changes if any value is not valid.
        self._configure('debug = false\n[agent]\nhandlers = exec\n')
        process.send_signal(signal.SIGHUP)
        helpers.wait_until(lambda: self.log.read_text().count('the exec handler needs a command') == 2)
        self.assertEqual(1, self.log.read_text().count('Option DEFAULT.debug changed'))
        self._configure('[agent\n')
        process.send_signal(signal.SIGHUP)
        self._wait_for_log('Configuration not reloaded: configuration: Failed to parse')
        self._end(process, signal.SIGTERM)

    def test_invalid_configuration_prevents_the_start(self):
        self._configure('[agent]\nhandlers = exec\n')
        process = self._start()
        self.assertEqual(1, process.wait(helpers.PATIENCE))
        stderr = process.stderr.read()
        self.assertIn('[exec] command: is not set, but the exec handler needs a command', stderr)
        self.assertNotIn('Traceback', stderr)
