"""Threads that end with an exception."""

from __future__ import annotations

import sys
import threading

from external_events_router.process import failures
from tests import base

#: Seconds. The longest wait of a test; the expected events are much earlier.
LONG = 40.0


class GuardTest(base.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.addCleanup(setattr, threading, 'excepthook', threading.excepthook)
        self.ended = threading.Event()

    def run_thread(self, exc: BaseException | None) -> None:
        def work() -> None:
            if exc is not None:
                raise exc

        thread = threading.Thread(target=work, name='a-thread')
        thread.start()
        thread.join()

    def test_failure_is_logged_once_without_its_text(self) -> None:
        guard = failures.Guard()
        guard.install()
        self.run_thread(ValueError('s3cret'))
        self.assertEqual('thread a-thread ended with ValueError', guard.reason)
        errors = [line for line in self.logs.output.splitlines() if ' ERROR ' in line]
        self.assertEqual(1, len(errors))
        self.assertIn('The thread a-thread ended with ValueError at process/test_failures.py:', errors[0])
        self.assertNotIn('s3cret', errors[0])

    def test_first_reason_is_kept_and_the_process_ends_once(self) -> None:
        times = []

        def end() -> None:
            times.append(1)
            self.ended.set()

        guard = failures.Guard(end, pause=0.0)
        guard.install()
        for exc in (KeyError(), ValueError()):
            self.run_thread(exc)
        self.assertTrue(self.ended.wait(LONG))
        self.assertEqual('thread a-thread ended with KeyError', guard.reason)
        self.assertEqual([1], times)

    def test_process_does_not_end_immediately(self) -> None:
        failures.Guard(self.ended.set, pause=LONG).install()
        self.run_thread(ValueError())
        self.assertFalse(self.ended.is_set())
        self.assertIn('ends in 40 s', self.logs.output)

    def test_ends_that_are_not_failures(self) -> None:
        guard = failures.Guard(self.ended.set, pause=0.0)
        guard.install()
        for exc in (None, SystemExit()):
            self.run_thread(exc)
        self.assertIsNone(guard.reason)

    def test_failure_without_a_thread(self) -> None:
        guard = failures.Guard()
        guard.failed(threading.ExceptHookArgs((ValueError, None, None, None)))
        self.assertEqual('thread unknown ended with ValueError', guard.reason)
        self.assertNotIn('Traceback', self.logs.output + str(sys.exc_info()))
