"""Busy processes end with the fixture, after their time, and with their parent."""

import os
import signal
import subprocess
import sys
import time

from tests import base
from tests.faults import busy
from tests.integration import services

#: Seconds. The expected events are much earlier, also on a loaded machine.
LONG = 50.0

#: Starts a busy process, prints its pid, and waits.
PARENT = """
import time
from tests.faults import busy
with busy.Busy(1, seconds=300) as made:
    print(made.processes[0].pid, flush=True)
    time.sleep(300)
"""


class TestBusy(base.TestCase):
    def ended(self, pid):
        until = time.monotonic() + LONG
        while services.is_alive(pid):
            if time.monotonic() > until:
                return False
            time.sleep(0.02)
        return True

    def test_each_has_a_session_of_its_own_and_ends_with_the_fixture(self):
        with busy.Busy(2, seconds=300) as made:
            pids = [process.pid for process in made.processes]
            self.assertEqual(pids, [os.getsid(pid) for pid in pids])
        self.assertEqual([True, True], [self.ended(pid) for pid in pids])

    def test_ends_in_time(self):
        with busy.Busy(1, seconds=0.1) as made:
            self.assertEqual(0, made.processes[0].process.wait(LONG))

    def test_ends_with_a_killed_parent(self):
        with subprocess.Popen([sys.executable, '-c', PARENT], stdout=subprocess.PIPE) as parent:
            pid = int(parent.stdout.readline())
            self.assertTrue(services.is_alive(pid))
            parent.send_signal(signal.SIGKILL)
        self.assertTrue(self.ended(pid))
