"""The first log messages of a service: its files, and options that do not exist."""

from __future__ import annotations

from tests import base
from tests import interpreter

#: A service that only announces itself; see ``test_startup``.
COMMAND = """
import sys
from external_events_router.process import startup

def main():
    startup.announce(startup.load('a-command'), 'a-command')

sys.argv[0] = '/usr/bin/a-command'
sys.exit(startup.entry_point(main)())
"""

UNKNOWN = """[DEFAULT]
debug = false
log_fil = x
[api]
bind_prt = 8790
event_ttl = 3
[delivry]
ack_timeout = 3
[compute]
fast_road = true
zzz: 3
[oslo_messaging_rabbit]
rabbit_quorum_queue = true
heartbeat_rat = 3
[healthcheck]
path = /healthcheck
[keystone_authtoken]
any_option_of_a_plug_in = 1
"""


class AnnounceTest(base.TestCase):
    def announced(self, *argv: str, **env: str) -> list[str]:
        """What a service logs at its start."""
        done = interpreter.run(COMMAND, *argv, cwd='/', env={'HOME': '/nowhere', **env})
        self.assertEqual(0, done.returncode, done.stderr)
        return done.stdout.splitlines()

    def test_version_and_files_come_first(self) -> None:
        first, second = self.create_tempfiles([('one', ''), ('two', '')])
        lines = self.announced('--config-file', first, '--config-file', second)
        self.assertIn('a-command 0.', lines[0])
        self.assertIn(f'configuration files: {first}, {second}', lines[0])
        self.assertEqual(1, len(lines), lines)

    def test_without_a_file(self) -> None:
        lines = self.announced()
        self.assertIn('configuration files: none', lines[0])
        for path in (
            '/nowhere/.external-events-router/external-events-router.conf',
            '/etc/external-events-router/external-events-router.conf',
            '/etc/external-events-router/a-command.conf',
        ):
            self.assertIn(path, lines[1])

    def test_unknown_options(self) -> None:
        (path,) = self.create_tempfiles([('router', UNKNOWN)])
        lines = self.announced('--config-file', path)[1:]
        wanted = (
            (3, '[DEFAULT] log_fil is unknown and has no effect; the nearest name is log_file'),
            (5, '[api] bind_prt is unknown and has no effect; the nearest name is bind_port'),
            (6, '[api] event_ttl is unknown and has no effect; it is an option of [delivery]'),
            (
                8,
                '[delivry] ack_timeout is unknown and has no effect; there is no group [delivry]',
            ),
            (11, '[compute] zzz is unknown and has no effect'),
            (14, '[oslo_messaging_rabbit] heartbeat_rat is unknown and has no effect; the nearest name is '),
        )
        self.assertEqual(len(wanted), len(lines), lines)
        for (number, text), line in zip(wanted, lines, strict=True):
            self.assertIn(
                f' WARNING external_events_router.process.config_files [-] {path}, line {number}: ', line
            )
            self.assertIn(text, line)
