"""The base of our test cases: no test hangs, and every log line can be read.

It knows nothing of the service; what starts parts of it are fixtures of the
suites that need them.
"""

from __future__ import annotations

import logging
import signal

import fixtures
from oslotest import base

from tests import generated

generated.load_profile()


def allow_interrupts() -> None:
    """Let a new process receive SIGINT; for ``preexec_fn`` of ``subprocess.Popen``.

    A shell lets its background jobs ignore SIGINT, and so do the processes that they start.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class TestCase(base.BaseTestCase):
    """A test that ends within :attr:`DEFAULT_TIMEOUT` seconds and keeps its logs.

    ``OS_TEST_TIMEOUT`` in the environment overrides the seconds; a class that
    requires more time sets ``TIMEOUT_SCALING_FACTOR``.

    :ivar logs: ``self.logs.output`` has the log messages so far; a failing test
        prints it
    """

    DEFAULT_TIMEOUT = 60

    logs: fixtures.FakeLogger

    def _fake_logs(self) -> None:
        # NOTE: in place of oslotest's own, which captures only where the
        # environment asks for it. A line that cannot be formatted is an error.
        self.logs = self.useFixture(
            fixtures.FakeLogger(
                format='%(asctime)s %(levelname)s %(threadName)s %(name)s: %(message)s',
                level=logging.DEBUG,
            )
        )
