import collections
import functools
import random
import threading
import time
from unittest import mock

import hypothesis
from hypothesis import strategies

from external_events_router.concurrency import keyed_pool
from tests import base
from tests import generated
from tests.unit.agent import helpers


class _Meanwhile:
    """A lock that runs a function before its first ``acquire``."""

    def __init__(self, lock, happens):
        self._lock = lock
        self._happens = happens

    def acquire(self):
        happens, self._happens = self._happens, lambda: None
        happens()
        return self._lock.acquire()

    def release(self):
        self._lock.release()

    def __enter__(self):
        self._lock.acquire()

    def __exit__(self, *raised):
        self._lock.release()


class TestKeyedPool(base.TestCase):
    def _pool(self, threads, **kwargs):
        pool = keyed_pool.KeyedPool(threads, **kwargs)
        self.addCleanup(pool.stop, helpers.PATIENCE)
        return pool

    @generated.examples(40)
    @hypothesis.given(
        keys=strategies.lists(strategies.integers(0, 5), max_size=80), threads=strategies.integers(1, 4)
    )
    def test_tasks_of_a_key_run_in_order(self, keys, threads):
        pool = keyed_pool.KeyedPool(threads)
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

    def test_slow_key_delays_no_other_key(self):
        pool = self._pool(2)
        release, other = threading.Event(), threading.Event()
        self.addCleanup(release.set)
        for _ in range(3):
            pool.submit('slow', lambda: release.wait(helpers.PATIENCE))
        pool.submit('other', other.set)
        self.assertTrue(other.wait(helpers.PATIENCE))
        self.assertFalse(release.is_set())

    def test_blocking_tasks_delay_no_other_key(self):
        """The tasks are submitted while one thread starts: each thread starts the next before it blocks."""
        pool = self._pool(8)
        together = threading.Barrier(8)
        met = threading.Semaphore(0)

        def meet():
            together.wait(helpers.PATIENCE)
            met.release()

        for key in range(8):
            pool.submit(key, meet)
        for _ in range(8):
            self.assertTrue(met.acquire(timeout=helpers.PATIENCE))

    def test_blocking_tasks_delay_no_other_key_of_idle_threads(self):
        pool = self._pool(8)
        for _ in range(3):
            together = threading.Barrier(9)
            for key in range(8):
                pool.submit(key, functools.partial(together.wait, helpers.PATIENCE))
            together.wait(helpers.PATIENCE)
            helpers.wait_until(lambda: len(pool._idle) == 8)

    def test_one_thread_starts_at_a_time(self):
        """The number of submitted tasks does not matter; each thread starts the next."""
        arrive = threading.Event()
        self.addCleanup(arrive.set)

        class Late(keyed_pool.KeyedPool):
            def _run(self, wakes):
                arrive.wait(helpers.PATIENCE)
                super()._run(wakes)

        pool = Late(4)
        self.addCleanup(pool.stop, helpers.PATIENCE)
        together = threading.Barrier(4)
        for key in range(200):
            pool.submit(key, lambda key=key: key < 4 and together.wait(helpers.PATIENCE))
        self.assertEqual(1, pool.threads)
        arrive.set()
        self.assertEqual(0, pool.stop(helpers.PATIENCE))

    def test_thread_that_is_about_to_end_runs_a_new_task(self):
        """The task is submitted when the last thread has been idle long enough, but has not ended yet."""
        pool = self._pool(1, idle_seconds=0)
        done = threading.Event()
        pool._lock = _Meanwhile(pool._lock, lambda: pool.submit('second', done.set))
        pool.submit('first', lambda: None)
        self.assertTrue(done.wait(helpers.PATIENCE))
        helpers.wait_until(lambda: pool.threads == 0)

    def test_no_task_is_lost(self):
        """Threads start and end all the time, and the test waits for each task."""
        pool = self._pool(3, idle_seconds=0.0002)
        missed = []

        def give(key):
            pauses = random.Random(key)
            until = time.monotonic() + 1
            while time.monotonic() < until:
                done = threading.Event()
                pool.submit(key, done.set)
                if not done.wait(helpers.PATIENCE / 4):
                    missed.append(key)
                    return
                time.sleep(pauses.choice((0, 0.0002, 0.0003)))

        givers = [threading.Thread(target=give, args=(key,)) for key in range(5)]
        for giver in givers:
            giver.start()
        for giver in givers:
            giver.join(helpers.PATIENCE)
        self.assertEqual([], missed)
        helpers.wait_until(lambda: pool.threads == 0)
        self.assertIsNone(pool._waking)

    def test_thread_that_cannot_be_started(self):
        pool = self._pool(2)
        with mock.patch.object(threading.Thread, 'start', autospec=True, side_effect=RuntimeError('full')):
            self.assertTrue(pool.submit('a', lambda: None))
        self.assertEqual(0, pool.threads)
        self.assertIn('Could not start another thread with 0 running: full', self.logs.output)
        done = threading.Event()
        pool.submit('b', done.set)
        self.assertTrue(done.wait(helpers.PATIENCE))
        self.assertEqual(0, pool.stop(helpers.PATIENCE))

    def test_keys_with_many_tasks_take_turns(self):
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
        helpers.wait_until(lambda: pool.threads == 3)
        release.set()
        helpers.wait_until(lambda: pool.threads == 0)
        done = threading.Event()
        pool.submit('again', done.set)
        self.assertTrue(done.wait(helpers.PATIENCE))

    def test_idle_threads_end_at_the_stop(self):
        pool = self._pool(1, idle_seconds=100 * helpers.PATIENCE)
        pool.submit('key', lambda: None)
        helpers.wait_until(lambda: pool._idle)
        pool.stop(helpers.PATIENCE)
        helpers.wait_until(lambda: pool.threads == 0)

    def test_failing_task_does_not_block_its_key(self):
        pool = self._pool(1)
        done = threading.Event()

        def fail():
            raise SystemExit

        pool.submit('key', fail)
        pool.submit('key', done.set)
        self.assertTrue(done.wait(helpers.PATIENCE))
        self.assertIn('A task of the pool failed', self.logs.output)

    def test_number_of_waiting_tasks_is_bounded(self):
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

    def test_stop_is_bounded_and_drops_waiting_tasks(self):
        pool = keyed_pool.KeyedPool(1)
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
