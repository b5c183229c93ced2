"""Threads that must not end before they are stopped."""

from __future__ import annotations

from collections.abc import Callable
import sys
import threading

from external_events_router.concurrency import bounded_pool
from external_events_router.messaging.amqp import broker as brokers
from external_events_router.messaging.amqp import publisher
from external_events_router.process import essential
from external_events_router.process import failures
from tests import base

#: Seconds. The longest wait of a test; the expected events are much earlier.
LONG = 40.0


class EssentialThreadTest(base.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.addCleanup(setattr, threading, 'excepthook', threading.excepthook)
        self.guard = failures.Guard()
        self.guard.install()

    def run_thread(self, target: Callable[[], object], *, stopped: bool) -> str | None:
        thread = essential.EssentialThread(target, name='a-thread', is_stopped=lambda: stopped)
        self.assertTrue(thread.daemon)
        thread.start()
        thread.join(LONG)
        return self.guard.reason

    def test_thread_that_returns(self) -> None:
        self.assertEqual('thread a-thread ended with UnexpectedEnd', self.run_thread(list, stopped=False))
        self.assertIn('this process is unhealthy', self.logs.output)

    def test_thread_that_exits(self) -> None:
        reason = self.run_thread(lambda: sys.exit(0), stopped=False)
        self.assertEqual('thread a-thread ended with UnexpectedEnd', reason)

    def test_thread_that_raises(self) -> None:
        reason = self.run_thread(lambda: {}['x'], stopped=True)
        self.assertEqual('thread a-thread ended with KeyError', reason)

    def test_thread_that_was_stopped(self) -> None:
        self.assertIsNone(self.run_thread(list, stopped=True))

    def test_thread_is_alive_until_it_ends(self) -> None:
        """Callers join a thread only while it is alive."""
        end = threading.Event()
        self.addCleanup(end.set)
        thread = essential.EssentialThread(end.wait, name='a-thread', is_stopped=end.is_set)
        self.assertFalse(thread.is_alive())
        thread.start()
        self.assertTrue(thread.is_alive())
        end.set()
        thread.join(LONG)
        self.assertFalse(thread.is_alive())

    def test_stopped_pool_and_connection(self) -> None:
        pool = bounded_pool.BoundedPool(2, 'pool')
        self.assertEqual(1, pool.submit(lambda: 1).result(LONG))
        publishing = publisher.Publisher(brokers.Broker([], '/', 'events'), name='connection')
        publishing.start()
        threads = [thread for thread in threading.enumerate() if thread.name in ('pool', 'connection')]
        self.assertEqual(2, len(threads))
        pool.close()
        publishing.stop(LONG)
        for thread in threads:
            thread.join(LONG)
        self.assertIsNone(self.guard.reason)
