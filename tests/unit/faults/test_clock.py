"""In a process with a shifted clock, only the wall clock is shifted."""

import subprocess
import sys
import time

from tests import base
from tests.faults import clock

SCRIPT = 'import time; print(time.time(), time.time_ns() / 1e9, time.monotonic()); time.sleep(0)'


class TestShifted(base.TestCase):
    def test_wall_clock_is_shifted(self):
        for seconds in (-3000, 3000):
            done = subprocess.run(
                [sys.executable, '-c', SCRIPT],
                env=clock.shifted(seconds),
                capture_output=True,
                text=True,
                check=True,
            )
            wall, wall_ns, monotonic = map(float, done.stdout.split())
            self.assertAlmostEqual(time.time() + seconds, wall, delta=60)
            self.assertAlmostEqual(time.time() + seconds, wall_ns, delta=60)
            self.assertAlmostEqual(time.monotonic(), monotonic, delta=60)
