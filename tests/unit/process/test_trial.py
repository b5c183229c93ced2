"""A check in a fork: its result, and that it changes nothing here."""

from __future__ import annotations

import os
import time

from external_events_router import exceptions
from external_events_router.process import trial
from tests import base


class TrialTest(base.TestCase):
    def test_nothing_remains_of_a_check(self) -> None:
        changed: list[int] = []
        self.assertIsNone(trial.run(lambda: changed.append(1), timeout=30))
        self.assertEqual([], changed)

    def test_reason_of_a_failure(self) -> None:
        def fail() -> None:
            raise exceptions.ConfigurationError(option='[a] b', reason='too large')

        self.assertEqual('[a] b: too large', trial.run(fail, timeout=30))

    def test_a_check_that_ends_its_process(self) -> None:
        self.assertIn('unexpected error', trial.run(lambda: os._exit(0), timeout=30) or '')

    def test_a_check_that_does_not_end(self) -> None:
        began = time.monotonic()
        self.assertIn('did not end within', trial.run(lambda: time.sleep(30), timeout=0.1) or '')
        self.assertLess(time.monotonic() - began, 20)
