import collections
import threading

import hypothesis
from hypothesis import strategies

from external_events_router.agent import ordering
from tests import base
from tests.unit.agent import helpers


class TestOrderedPool(base.TestCase):
    def _pool(self, threads, **kwargs):
        pool = ordering.OrderedPool(threads, **kwargs)
        self.addCleanup(pool.stop, helpers.PATIENCE)
        return pool

    @hypothesis.settings(max_examples=60, deadline=None)
    @hypothesis.given(
        keys=strategies.lists(strategies.integers(0, 5), max_size=80), threads=strategies.integers(1, 4)
    )
    def test_order_per_key(self, keys, threads):
        pool = ordering.OrderedPool(threads)
        lock = threading.Lock()
        ran = collections.defaultdict(list)
        running = collections.Counter()
        overlaps = []

        def task(key, number):
            with lock:
                running[key] += 1
                if running[key] > 1 or running.total() > threads:
                    overlaps.append(key)
            with lock:
                ran[key].append(number)
                running[key] -= 1

        for number, key in enumerate(keys):
            pool.submit(key, lambda key=key, number=number: task(key, number))
        self.assertEqual(0, pool.stop(helpers.PATIENCE))
        expected = collections.defaultdict(list)
        for number, key in enumerate(keys):
            expected[key].append(number)
        self.assertEqual(expected, ran)
        self.assertEqual([], overlaps)

    def test_slow_key_delays_no_other(self):
        pool = self._pool(2)
        release, other = threading.Event(), threading.Event()
        self.addCleanup(release.set)
        for _ in range(3):
            pool.submit('slow', lambda: release.wait(helpers.PATIENCE))
        pool.submit('other', other.set)
        self.assertTrue(other.wait(helpers.PATIENCE))
        self.assertFalse(release.is_set())

    def test_busy_key_takes_turns(self):
        pool = self._pool(1)
        go, ran = threading.Event(), []
        pool.submit('busy', lambda: go.wait(helpers.PATIENCE))
        for number in range(3):
            pool.submit('busy', lambda number=number: ran.append(number))
        pool.submit('other', lambda: ran.append('other'))
        go.set()
        pool.stop(helpers.PATIENCE)
        self.assertEqual('other', ran[0])

    def test_threads_are_bounded_and_end(self):
        pool = self._pool(3, idle_seconds=0.01)
        release = threading.Event()
        self.addCleanup(release.set)
        for key in range(10):
            pool.submit(key, lambda: release.wait(helpers.PATIENCE))
        self.assertEqual(3, pool.threads)
        release.set()
        helpers.wait_until(lambda: pool.threads == 0)
        done = threading.Event()
        pool.submit('again', done.set)
        self.assertTrue(done.wait(helpers.PATIENCE))

    def test_failing_task_does_not_block_its_key(self):
        pool = self._pool(1)
        done = threading.Event()

        def fail():
            raise SystemExit

        pool.submit('key', fail)
        pool.submit('key', done.set)
        self.assertTrue(done.wait(helpers.PATIENCE))
        self.assertIn('A task of the pool failed', self.logs.output)

    def test_room(self):
        pool = self._pool(1, max_queued=3, max_queued_per_key=1)
        release, running = threading.Event(), threading.Event()
        self.addCleanup(release.set)

        def block():
            running.set()
            release.wait(helpers.PATIENCE)

        self.assertTrue(pool.submit('a', block))
        self.assertTrue(running.wait(helpers.PATIENCE))
        self.assertTrue(pool.submit('a', block))
        self.assertFalse(pool.submit('a', block))
        self.assertTrue(pool.submit('b', block))
        self.assertTrue(pool.submit('c', block))
        self.assertFalse(pool.submit('d', block))

    def test_stop_is_bounded_and_drops_what_waits(self):
        pool = ordering.OrderedPool(1)
        release, running, ran = threading.Event(), threading.Event(), []
        self.addCleanup(release.set)

        def block():
            running.set()
            release.wait(helpers.PATIENCE)

        pool.submit('a', block)
        pool.submit('a', lambda: ran.append('a'))
        pool.submit('b', lambda: ran.append('b'))
        self.assertTrue(running.wait(helpers.PATIENCE))
        self.assertEqual(2, pool.stop(0.05))
        self.assertFalse(pool.submit('c', lambda: ran.append('c')))
        release.set()
        helpers.wait_until(lambda: pool.threads == 0)
        self.assertEqual([], ran)
