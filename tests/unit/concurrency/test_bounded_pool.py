import threading

from external_events_router.concurrency import bounded_pool
from tests import base

PATIENCE = 30


class BoundedPoolTest(base.TestCase):
    def pool(self, size):
        pool = bounded_pool.BoundedPool(size, 'test-pool')
        self.addCleanup(pool.close)
        return pool

    def hang(self, pool):
        """Occupy a thread until the test ends, or the returned event is set."""
        over, begun = threading.Event(), threading.Event()
        self.addCleanup(over.set)

        def wait():
            begun.set()
            over.wait(PATIENCE)

        future = pool.submit(wait)
        self.assertTrue(begun.wait(PATIENCE))
        return over, future

    def test_result_or_error_is_returned(self):
        pool = self.pool(1)
        self.assertEqual(3, pool.submit(lambda: 3).result(PATIENCE))
        self.assertRaises(ZeroDivisionError, pool.submit(lambda: 1 // 0).result, PATIENCE)
        self.assertEqual(4, pool.run(lambda: 4, timeout=PATIENCE))

    def test_threads_are_reused(self):
        pool = self.pool(4)
        names = {pool.run(threading.get_ident, timeout=PATIENCE) for _ in range(50)}
        self.assertEqual(1, len(names))

    def test_number_of_threads_is_bounded(self):
        pool = self.pool(2)
        for _ in range(2):
            self.hang(pool)
        waiting = pool.submit(lambda: None)
        self.assertFalse(waiting.done())
        self.assertTrue(waiting.cancel())

    def test_run_ends_in_time_if_its_job_blocks_or_never_begins(self):
        pool = self.pool(1)
        over = threading.Event()
        self.addCleanup(over.set)
        for _ in range(3):
            self.assertRaises(TimeoutError, pool.run, lambda: over.wait(PATIENCE), timeout=0.01)
        over.set()
        self.assertEqual(1, pool.run(lambda: 1, timeout=PATIENCE))

    def test_cancelled_job_does_not_run(self):
        pool, ran = self.pool(1), []
        over, _ = self.hang(pool)
        future = pool.submit(lambda: ran.append(1))
        future.cancel()
        over.set()
        pool.submit(lambda: None).result(PATIENCE)
        self.assertEqual([], ran)

    def test_closed_pool_accepts_no_job(self):
        pool = self.pool(1)
        pool.close()
        self.assertTrue(pool.submit(lambda: 1).cancelled())
        self.assertRaises(TimeoutError, pool.run, lambda: 1, timeout=0.1)

    def test_close_ends_the_threads(self):
        pool = self.pool(1)
        thread = pool.run(threading.current_thread, timeout=PATIENCE)
        pool.close()
        thread.join(PATIENCE)
        self.assertFalse(thread.is_alive())
