"""The thread that deletes old records."""

import fixtures

from external_events_router.journal import retention
from tests import base


class Retention:
    """Deletes numbers of rows; after the last one it waits for the stop."""

    def __init__(self, *numbers):
        self._numbers = list(numbers)
        self.stopped = None

    def run(self, is_stopped):
        if len(self._numbers) == 1:
            is_stopped.set()
        return self._numbers.pop(0)

    def close(self):
        """As the retention of the journal."""


class TestCleaner(base.TestCase):
    def test_it_continues_at_once_if_more_may_be_left(self):
        pauses = []
        self.useFixture(fixtures.MonkeyPatch('external_events_router.journal.retention.INTERVAL', 0.001))
        cleaner = retention.Cleaner(Retention(retention.MOST_EXCESS, retention.MOST_EXCESS + 5, 7, 0))
        wait = cleaner._stopped.wait
        self.useFixture(
            fixtures.MockPatchObject(
                cleaner._stopped, 'wait', lambda seconds: pauses.append(seconds) or wait(seconds)
            )
        )
        cleaner._run()
        self.assertEqual([0.001, 0.0, 0.0, 0.001, 0.001], pauses)
