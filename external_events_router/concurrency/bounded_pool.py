"""A pool of threads that may hang, for calls that have no bound of their own.

A leaf: the standard library only. ``concurrent.futures`` waits at exit for its
threads, and so would keep a process alive whose broker or database hangs; these
are started when they are needed and keep no process from its end.
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

T = TypeVar('T')


class BoundedPool:
    """A few threads for jobs that nobody may wait for without a bound. Thread-safe."""

    def __init__(self, size: int, name: str) -> None:
        """:param size: jobs that may run, or hang, at the same time
        :param name: of the threads
        """
        self._size = size
        self._name = name
        self._jobs: queue.SimpleQueue[tuple[futures.Future[Any], Callable[[], Any]] | None] = (
            queue.SimpleQueue()
        )
        self._idle = threading.Semaphore(0)
        # A slot is free again when its job has ended, not when who waited for
        # it has gone: nothing piles up behind what hangs.
        self._slots = threading.BoundedSemaphore(size)
        # Guards the two below.
        self._lock = threading.Lock()
        self._started = 0
        self._closed = False

    def submit(self, job: Callable[[], T]) -> futures.Future[T]:
        """Have a job done by the next free thread, unless it is cancelled before.

        :raises RuntimeError: there is no thread, and none can be started; the job is not taken
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
                except RuntimeError:
                    # The threads there are have to do it; without any nobody would.
                    if not self._started:
                        raise
            self._jobs.put((future, job))
        return future

    def run(self, job: Callable[[], T], *, timeout: float) -> T:
        """Do a job in one of the threads, and wait for it no longer than the timeout.

        :param timeout: seconds
        :raises TimeoutError: it did not end, or not begin, in time
        """
        deadline = time.monotonic() + timeout
        future = self.begin(job, timeout=timeout)
        try:
            return future.result(timeout=max(0.0, deadline - time.monotonic()))
        except futures.CancelledError as exc:
            raise TimeoutError from exc

    def begin(self, job: Callable[[], T], *, timeout: float) -> futures.Future[T]:
        """Have a job begun, without a queue: where all threads are taken, wait for one.

        :param timeout: seconds
        :raises TimeoutError: none was free in time
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

    def close(self) -> None:
        """Take no more jobs; end the threads, each after what it has in hand."""
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
                    # NOTE: before its result is known, so that who submits the
                    # next job at once finds this thread and starts no other.
                    self._idle.release()
                    future.set_result(result)
                    del result
            else:
                self._idle.release()
            # Else the last job lives until the next.
            del item, future, job
