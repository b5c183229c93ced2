"""A pool of threads that keeps the order of tasks with the same key.

Tasks with the same key run one after the other in the order of submission. Tasks with different keys
run in parallel. The pool does not depend on events: the dispatcher uses the server as the key.
"""

from __future__ import annotations

import collections
from collections.abc import Callable
from collections.abc import Hashable
import logging
import threading

from external_events_router.process import parts

LOG = logging.getLogger(__name__)

Task = Callable[[], None]


class KeyedPool:
    """Runs tasks on a limited number of threads, in order per key.

    Each key with tasks has a queue. A key is *ready* while it has a waiting task and no running task.
    A thread takes the first ready key, runs the first task of its queue, and puts the key back at the
    end of the ready keys if the queue has more tasks. So keys with many tasks take turns.

    A thread starts when there is work, and ends after some time without work, so an idle
    pool uses no threads. Waking a thread takes longer than a short task. So only one thread is being
    woken at a time, and before it starts a task it wakes the next thread if more keys are ready. The
    first thread completes a burst of short tasks alone, and a task that blocks does not delay others.
    """

    def __init__(
        self,
        threads: int,
        *,
        max_queued: int = 100_000,
        max_queued_per_key: int = 1_000,
        idle_seconds: float = 10.0,
        name: str = 'events',
    ) -> None:
        """Create a pool. It starts with the first task.

        :param max_queued: maximum number of waiting tasks; messages are received from the broker
            before they are handled, so nothing else limits this number
        :param max_queued_per_key: maximum number of waiting tasks of one key, so that a task that
            hangs does not prevent tasks of other keys
        :param idle_seconds: seconds that a thread waits for work before it ends
        :param name: name of the threads
        """
        self._max_threads = threads
        self._max_queued = max_queued
        self._max_queued_per_key = max_queued_per_key
        self._idle_seconds = idle_seconds
        self._name = name
        # Guards everything below. A key is in _queues while one of its tasks waits or runs. While a
        # key is ready, a thread is being woken or about to take a key, or all permitted threads are
        # working. _idle contains the sleeping threads, the most recent on top; each is represented by
        # a lock that is released to wake it. _waking is the thread that is being woken or started and
        # does not run yet.
        self._lock = threading.Lock()
        self._drained = threading.Condition(self._lock)
        self._queues: dict[Hashable, collections.deque[Task]] = {}
        self._ready: collections.deque[Hashable] = collections.deque()
        self._queued = 0
        self._threads = 0
        self._idle: list[threading.Lock] = []
        self._waking: threading.Lock | None = None
        self._stopping = False

    @property
    def threads(self) -> int:
        """Return the current number of threads."""
        with self._lock:
            return self._threads

    def status(self) -> parts.Status:
        """Return the numbers of threads and tasks; see ``process.parts``."""
        with self._lock:
            details = {
                'threads': self._threads,
                'busy': self._threads - len(self._idle),
                'tasks_waiting': self._queued,
            }
        return parts.Status(self._name, details=details)

    def submit(self, key: Hashable, task: Task) -> bool:
        """Run a task after all earlier tasks with its key.

        :returns: False if the task was refused: the pool is full, or stopping
        """
        with self._lock:
            queue = self._queues.get(key)
            if self._stopping or self._queued >= self._max_queued:
                return False
            if queue is not None and len(queue) >= self._max_queued_per_key:
                return False
            self._queued += 1
            if queue is not None:
                queue.append(task)
            else:
                self._queues[key] = collections.deque([task])
                self._ready.append(key)
                self._wake_thread()
            return True

    def stop(self, timeout: float) -> int:
        """Accept no more tasks, and wait for the accepted tasks.

        :returns: number of keys with a waiting or running task at the end of the timeout; waiting
            tasks are discarded
        """
        with self._lock:
            self._stopping = True
            while self._idle:
                self._idle.pop().release()
            self._drained.wait_for(lambda: not self._queues, timeout)
            left = len(self._queues)
            self._ready.clear()
            for queue in self._queues.values():
                queue.clear()
            self._queued = 0
            return left

    # The following methods, except _run, are called with the lock held.

    def _wake_thread(self) -> None:
        """Wake or start a thread, unless one is being woken or the maximum is reached."""
        if self._waking is not None:
            return
        if self._idle:
            self._waking = self._idle.pop()
            self._waking.release()
        elif self._threads < self._max_threads:
            self._start_thread()

    def _start_thread(self) -> None:
        wakes = threading.Lock()
        wakes.acquire()
        try:
            threading.Thread(target=self._run, args=(wakes,), name=self._name, daemon=True).start()
        except RuntimeError as exc:
            # The running threads take the ready keys. The next task tries again to start a thread.
            LOG.error('Could not start another thread with %d running: %s', self._threads, exc)
            return
        self._threads += 1
        if self._threads == 1:
            parts.ALL.add(parts.Kind.POOL, self, KeyedPool.status)
        self._waking = wakes

    def _run(self, wakes: threading.Lock) -> None:
        """Run tasks until no task arrives for some time; the function of each thread."""
        with self._lock:
            self._is_awake(wakes)
            taken = self._take(wakes)
        while taken is not None:
            key, task = taken
            try:
                task()
            except BaseException:
                # The outermost loop of the thread: its key must not stay blocked.
                LOG.exception('A task of the pool failed; continuing with the next task')
            # Otherwise the last task would stay in memory until the next task.
            del task, taken
            with self._lock:
                self._finish(key)
                taken = self._take(wakes)

    def _take(self, wakes: threading.Lock) -> tuple[Hashable, Task] | None:
        """Return the next task; None: the thread has to end."""
        while not self._ready:
            if self._stopping or not self._sleep(wakes):
                self._threads -= 1
                return None
        key = self._ready.popleft()
        self._queued -= 1
        if self._ready:
            self._wake_thread()
        return key, self._queues[key].popleft()

    def _sleep(self, wakes: threading.Lock) -> bool:
        """Release the lock until the thread is woken.

        :returns: whether the thread was woken before it was idle for too long
        """
        self._idle.append(wakes)
        self._lock.release()
        try:
            woken = wakes.acquire(timeout=self._idle_seconds)
        finally:
            self._lock.acquire()
        if not woken:
            if wakes in self._idle:
                self._idle.remove(wakes)
                return False
            # NOTE: the thread was woken just after its timeout. No other thread was woken instead,
            # so this thread must not end.
            wakes.acquire()
        self._is_awake(wakes)
        return True

    def _is_awake(self, wakes: threading.Lock) -> None:
        """Record that a thread runs; then the next thread can be woken."""
        if self._waking is wakes:
            self._waking = None

    def _finish(self, key: Hashable) -> None:
        if self._queues[key]:
            # Append the key at the end, so that other keys get their turn.
            self._ready.append(key)
            return
        del self._queues[key]
        if not self._queues:
            self._drained.notify_all()
