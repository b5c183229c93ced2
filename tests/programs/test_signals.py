"""A signal is never missed, whichever thread takes it."""

import signal
import subprocess
import sys

from external_events_router.process import signals
from tests import base

#: Once its main thread waits for signals, another thread takes one; see
#: ``Signals.get``. It ends with the number, or not at all.
TAKEN_BY_ANOTHER = """
import pathlib, signal, threading, time
from external_events_router.process import signals

def take(number):
    main = pathlib.Path(f'/proc/self/task/{threading.main_thread().native_id}/stat')
    asleep = 0
    while asleep < 5:
        time.sleep(0.01)
        asleep = asleep + 1 if main.read_text().rpartition(')')[2].split()[0] == 'S' else 0
    signal.pthread_kill(threading.get_ident(), number)

came = signals.catch()
for number in (signal.SIGHUP, signal.SIGTERM):
    threading.Thread(target=take, args=(number,)).start()
    print(came.get(), flush=True)
"""

TWO_AT_ONCE = """
import os, signal
from external_events_router.process import signals

came = signals.catch()
for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGINT):
    os.kill(os.getpid(), number)
    if number == signal.SIGHUP:
        signal.signal(signal.SIGUSR1, lambda number, frame: None)
print(came.get(), came.get(), flush=True)
"""


class TestEnding(base.TestCase):
    def test_exit_status_and_signals_with_and_without_a_name(self):
        self.assertEqual('ended with status 3', signals.ending(3))
        self.assertEqual('was ended by SIGKILL', signals.ending(-signal.SIGKILL))
        self.assertEqual('was ended by signal 35', signals.ending(-35))


class TestSignals(base.TestCase):
    def run_script(self, script):
        done = subprocess.run(
            [sys.executable, '-c', script], capture_output=True, text=True, timeout=30, check=True
        )
        return [int(word) for word in done.stdout.split()]

    def test_taken_by_another_thread(self):
        self.assertEqual([signal.SIGHUP, signal.SIGTERM], self.run_script(TAKEN_BY_ANOTHER))

    def test_those_before_the_wait_in_their_order_and_no_others(self):
        self.assertEqual([signal.SIGHUP, signal.SIGINT], self.run_script(TWO_AT_ONCE))
