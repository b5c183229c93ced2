"""Workers that end with their parent, as real processes."""

from __future__ import annotations

import os
import pathlib
import signal
import subprocess
import sys
import time

from external_events_router.process import parent
from tests import base

#: Seconds. The longest wait of a test; the expected events are much earlier.
LONG = 40.0

#: A parent with one worker, which prints its process id when it is ready.
PROGRAM = """
import multiprocessing, os, signal, sys, time
from external_events_router.process import parent

def work(method, ignore):
    if ignore:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    parent.end_with_parent(grace=0.2)
    print(os.getpid(), flush=True)
    time.sleep(300)

if __name__ == '__main__':
    method, ignore = sys.argv[1], sys.argv[2] == 'ignore'
    context = multiprocessing.get_context(method)
    context.Process(target=work, args=(method, ignore)).start()
    time.sleep(300)
"""


class ParentTest(base.TestCase):
    def ends(self, method: str, *, ignore: bool) -> None:
        folder = pathlib.Path(parent.__file__).parents[2]
        program = self.create_tempfiles([('program', PROGRAM)], ext='.py')[0]
        process = subprocess.Popen(
            [sys.executable, program, method, 'ignore' if ignore else 'end'],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, 'PYTHONPATH': str(folder)},
        )
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.stderr.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        worker = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
        process.wait()
        # NOTE: the worker was the last process with the pipe open.
        self.assertEqual(b'', process.stdout.read())
        deadline = time.monotonic() + LONG
        while is_alive(worker):
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.01)

    def test_spawned_worker(self) -> None:
        self.ends('spawn', ignore=False)

    def test_forked_worker_that_ignores_sigterm(self) -> None:
        self.ends('fork', ignore=True)

    def test_process_without_a_parent(self) -> None:
        parent.end_with_parent(grace=0.0)


def is_alive(pid: int) -> bool:
    try:
        state = pathlib.Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0]
    except OSError:
        return False
    return state not in 'ZX'
