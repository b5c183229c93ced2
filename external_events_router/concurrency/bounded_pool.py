"""A pool of threads for calls that may hang because they have no timeout.

``concurrent.futures`` waits for its threads at the exit of the process, so a broker or database that
hangs would keep the process running. The threads of this pool start when they are needed, and do not
delay the exit.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent import futures
import queue
import threading
import time
from typing import Any
from typing import TypeVar

from external_events_router.process import essential
from external_events_router.process import parts

T = TypeVar('T')


class BoundedPool:
    """A limited number of threads for jobs that must have a timeout. Thread-safe."""

    def __init__(self, size: int, name: str) -> None:
        """:param size: maximum number of jobs that run or hang at the same time
        :param name: name of the threads
        """
        self._size = size
        self._name = name
        self._jobs: queue.SimpleQueue[tuple[futures.Future[Any], Callable[[], Any]] | None] = (
            queue.SimpleQueue()
        )
        self._idle = threading.Semaphore(0)
        # A slot becomes free when its job has ended, not when its caller has stopped waiting: so no
        # jobs accumulate behind a job that hangs.
        self._slots = threading.BoundedSemaphore(size)
        # Guards the two attributes below.
        self._lock = threading.Lock()
        self._started = 0
        self._closed = False

    def submit(self, job: Callable[[], T]) -> futures.Future[T]:
        """Queue a job for the next free thread. The future can be cancelled until the job starts.

        :raises RuntimeError: the first thread cannot be started; the job is not queued
        """
        future: futures.Future[T] = futures.Future()
        with self._lock:
            if self._closed:
                future.cancel()
                return future
            if not self._idle.acquire(blocking=False) and self._started < self._size:
                try:
                    essential.EssentialThread(
                        self._work, name=self._name, is_stopped=lambda: self._closed
                    ).start()
                    self._started += 1
                    if self._started == 1:
                        parts.ALL.add(parts.Kind.POOL, self, BoundedPool.status)
                except RuntimeError:
                    # The running threads have to do the job. Without any thread, it would never run.
                    if not self._started:
                        raise
            self._jobs.put((future, job))
        return future

    def run(self, job: Callable[[], T], *, timeout: float) -> T:
        """Run a job on a thread, and wait for it until the timeout.

        :param timeout: seconds
        :raises TimeoutError: the job did not start or end in time
        """
        deadline = time.monotonic() + timeout
        future = self.begin(job, timeout=timeout)
        try:
            return future.result(timeout=max(0.0, deadline - time.monotonic()))
        except futures.CancelledError as exc:
            raise TimeoutError from exc

    def begin(self, job: Callable[[], T], *, timeout: float) -> futures.Future[T]:
        """Start a job without queueing: if all threads are busy, wait until one is free.

        :param timeout: seconds
        :raises TimeoutError: no thread was free in time
        """
        if not self._slots.acquire(timeout=max(0.0, timeout)):
            raise TimeoutError
        try:
            future = self.submit(job)
        except BaseException:
            self._slots.release()
            raise
        future.add_done_callback(lambda _done: self._slots.release())
        return future

    def status(self) -> parts.Status:
        """Return the numbers of threads; see ``process.parts``."""
        with self._lock:
            started = self._started
        busy = max(0, started - self._idle._value)
        return parts.Status(self._name, details={'threads': started, 'busy': busy, 'limit': self._size})

    def close(self) -> None:
        """Accept no more jobs; end the threads after their current jobs."""
        with self._lock:
            self._closed = True
            for _ in range(self._started):
                self._jobs.put(None)

    def _work(self) -> None:
        while (item := self._jobs.get()) is not None:
            future, job = item
            if future.set_running_or_notify_cancel():
                try:
                    result = job()
                except BaseException as exc:
                    self._idle.release()
                    future.set_exception(exc)
                else:
                    # NOTE: before the result is set, so that a caller that submits the next job
                    # immediately finds this thread and does not start another one.
                    self._idle.release()
                    future.set_result(result)
                    del result
            else:
                self._idle.release()
            # Otherwise the last job would stay in memory until the next job.
            del item, future, job
