"""SIGUSR2 writes a report, in which nothing is secret; SIGUSR1 ends no process."""

from __future__ import annotations

import pathlib

import fixtures

from external_events_router.process import parts
from tests import base
from tests import interpreter

COMMAND = """
import logging, os, signal, sys, threading
from external_events_router.concurrency import bounded_pool
from external_events_router.process import report, startup

class Handler(logging.Handler):
    def emit(self, record):
        if 'received' in record.msg:
            done.release()

done = threading.Semaphore(0)
conf = startup.load('a-command')
report.install(conf, 'a-command', '1.2.3')
# NOTE: after the handler that writes the log.
logging.getLogger().addHandler(Handler())
pool = bounded_pool.BoundedPool(3, 'a-pool')
pool.run(lambda: None, timeout=10)
for number in (signal.SIGUSR1, signal.SIGUSR2):
    os.kill(os.getpid(), number)
    assert done.acquire(timeout=30)
print('alive')
"""

CONFIGURATION = """
[DEFAULT]
host = this-host
transport_url = rabbit://user:sesame1@broker:5672,other:sesame4@second:5672/
[database]
connection = postgresql://user:sesame2@database/events
[journal]
connection = postgresql://user:sesame3@database/journal
[oslo_reports]
log_dir = {folder}
"""


class ReportTest(base.TestCase):
    def run_command(self, folder: str) -> str:
        """The log of the command above, which goes to its standard output."""
        text = CONFIGURATION.format(folder=folder)
        path = self.create_tempfiles([('router', text)])[0]
        done = interpreter.run(COMMAND, '--config-file', path, cwd='/')
        self.assertEqual((0, 'alive'), (done.returncode, done.stdout.splitlines()[-1]), done.stderr)
        return done.stdout

    def test_signals(self) -> None:
        folder = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
        log = self.run_command(str(folder))
        self.assertIn('SIGUSR1 received: it has no effect', log)
        (path,) = folder.iterdir()
        self.assertTrue(path.name.startswith('a-command_gurumeditation_'), path.name)
        self.assertEqual(0o600, path.stat().st_mode & 0o777)
        self.assertIn(f'SIGUSR2 received: the report was written to {path}', log)
        text = path.read_text(encoding='utf-8')
        for kind in parts.Kind:
            self.assertIn(kind.value, text)
        self.assertIn('a-pool', text)
        self.assertIn('host = this-host', text)
        self.assertIn('1.2.3', text)
        self.assertIn('threading.py', text)
        self.assertNotIn('sesame', text)

    def test_a_folder_that_does_not_exist(self) -> None:
        self.assertIn('check [oslo_reports] log_dir', self.run_command('/nowhere/at/all'))
