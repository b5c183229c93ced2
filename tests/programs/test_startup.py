"""Starting with an invalid configuration: one line that names the option, status 1."""

from __future__ import annotations

import subprocess

from external_events_router.process import startup
from tests import base
from tests import interpreter

#: A minimal command. It runs in a separate process, because a
#: command fills the global ``cfg.CONF``.
COMMAND = """
import sys
from external_events_router.process import startup

def main():
    conf = startup.load('a-command')
    print(conf.api.bind_port, conf.host)

sys.argv[0] = '/usr/bin/a-command'
sys.exit(startup.entry_point(main)())
"""


class StartupTest(base.TestCase):
    def run_with(self, text: str | None, *argv: str) -> subprocess.CompletedProcess[str]:
        """Run the command with a configuration file of this text."""
        if text is not None:
            argv = ('--config-file', self.create_tempfiles([('router', text)])[0], *argv)
        return interpreter.run(COMMAND, *argv, cwd='/')

    def refused(self, text: str | None, *argv: str) -> str:
        """Check that the command ends with status 1, and return its one line of output."""
        done = self.run_with(text, *argv)
        self.assertEqual(1, done.returncode, done.stderr)
        self.assertEqual('', done.stdout)
        self.assertEqual(1, len(done.stderr.splitlines()), done.stderr)
        self.assertNotIn('Traceback', done.stderr)
        self.assertTrue(done.stderr.startswith('a-command: '), done.stderr)
        return done.stderr

    def test_valid_file(self) -> None:
        done = self.run_with('[DEFAULT]\nhost = here\n[api]\nbind_port = 18790\n')
        self.assertEqual((0, '18790 here\n'), (done.returncode, done.stdout), done.stderr)

    def test_invalid_values(self) -> None:
        for group, name, value in (
            ('api', 'bind_port', 'http'),
            ('api', 'workers', '0'),
            ('api', 'auth_strategy', 'trust'),
            ('api', 'none_found_status', '500'),
            ('delivery', 'ack_timeout', 'soon'),
            ('resolver', 'threads', '5000'),
        ):
            line = self.refused(f'[{group}]\n{name} = {value}\n')
            self.assertIn(f'[{group}] {name}: ', line)

    def test_file_line_and_accepted_values(self) -> None:
        line = self.refused('[api]\n# a comment\nworkers = 0\n')
        self.assertIn('.conf, line 3: ', line)
        self.assertIn('(accepted: 1 to 256)', line)
        self.assertNotIn('LocationInfo', line)

    def test_invalid_value_in_the_default_group(self) -> None:
        self.assertIn('[DEFAULT] host: ', self.refused('[DEFAULT]\nhost = a host\n'))

    def test_missing_file(self) -> None:
        self.assertIn('/nowhere/router.conf', self.refused(None, '--config-file', '/nowhere/router.conf'))

    def test_file_that_is_not_a_configuration(self) -> None:
        self.assertIn('.conf:1, ', self.refused('this is\nno configuration\n'))

    def test_the_version(self) -> None:
        done = self.run_with(None, '--version')
        self.assertEqual((0, startup.version()), (done.returncode, (done.stdout + done.stderr).strip()))

    def test_unknown_argument(self) -> None:
        done = self.run_with(None, '--no-such-option')
        self.assertEqual(2, done.returncode)
        self.assertNotIn('Traceback', done.stderr)


class EntryPointTest(base.TestCase):
    def test_the_status_of_main(self) -> None:
        self.assertEqual(0, startup.entry_point(lambda: None)())
        self.assertEqual(3, startup.entry_point(lambda: 3)())

    def test_an_interrupt(self) -> None:
        def interrupted() -> None:
            raise KeyboardInterrupt

        self.assertEqual(130, startup.entry_point(interrupted)())
