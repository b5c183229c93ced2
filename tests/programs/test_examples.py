"""The examples in the documentation are programs."""

import pathlib
import signal
import subprocess
import sys
import threading

import fixtures

from tests import base
from tests.unit.agent import helpers
from tests.unit.agent import test_examples


class TestPrograms(base.TestCase):
    """Each example is a program that starts, and that ends at an interrupt."""

    def _run(self, name, line):
        folder = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
        (folder / 'c.conf').write_text('[DEFAULT]\ntransport_url = fake://\n')
        process = subprocess.Popen(
            [
                sys.executable,
                str(test_examples.FOLDER / f'{name}.py'),
                '--config-file',
                str(folder / 'c.conf'),
            ],
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=base.allow_interrupts,
        )
        self.addCleanup(process.kill)
        reaper = threading.Timer(helpers.PATIENCE, process.kill)
        reaper.start()
        self.addCleanup(reaper.cancel)
        printed = []
        for read in process.stderr:
            printed.append(read)
            if line in read:
                process.send_signal(signal.SIGINT)
                break
        printed.append(process.stderr.read())
        process.stderr.close()
        self.assertEqual(0, process.wait(), ''.join(printed))

    def test_handler_program(self):
        self._run('handler', 'Agent of host host-a started')

    def test_waiter_program(self):
        self._run('waiter', 'Plug port-2')

    def test_source_program(self):
        self._run('source', 'Agent of host host-a started')
