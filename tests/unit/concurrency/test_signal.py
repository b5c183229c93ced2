"""A signal ends every wait, and stays set."""

import threading
import time

from external_events_router.concurrency import signal
from tests import base

#: Seconds. What is expected to happen takes far less.
LONG = 30.0


class SignalTest(base.TestCase):
    def test_a_wait_ends_at_the_deadline(self):
        waited = signal.Signal()
        self.assertFalse(waited.wait_until(time.monotonic() + 0.01))
        self.assertFalse(waited.wait_until(0.0))

    def test_it_ends_the_waits_of_several_threads(self):
        waited, results = signal.Signal(), []
        threads = [
            threading.Thread(target=lambda: results.append(waited.wait_until(time.monotonic() + LONG)))
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        waited.set()
        for thread in threads:
            thread.join(LONG)
        self.assertEqual([True] * 4, results)

    def test_it_stays_set_however_often_it_is_set(self):
        waited = signal.Signal()
        for _ in range(3):
            waited.set()
            self.assertTrue(waited.wait_until(0.0))
        self.assertTrue(waited.wait_until(float('inf')))
