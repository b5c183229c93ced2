"""A pool of threads that keeps the order of what belongs together.

Tasks of one key run one after the other in the order given, tasks of different
keys in parallel. It knows nothing of events: the key of an event's server is
chosen by the dispatcher.
"""

from __future__ import annotations

import collections
from collections.abc import Callable
from collections.abc import Hashable
import logging
import threading

LOG = logging.getLogger(__name__)

Task = Callable[[], None]


class OrderedPool:
    """Runs tasks on a bounded number of threads, in order per key.

    Threads are started when there is work for them and end when there was none
    for a while, so an idle pool costs nothing.
    """

    def __init__(
        self,
        threads: int,
        *,
        max_queued: int = 100_000,
        max_queued_per_key: int = 1_000,
        idle_seconds: float = 10.0,
    ) -> None:
        """Make a pool; it starts by itself with the first task.

        :param max_queued: tasks that may wait in all; messages are taken from
            the broker before they are handled, so nothing else bounds them
        :param max_queued_per_key: of which one key may have, so that a task
            that hangs cannot use up the room of the others
        :param idle_seconds: how long a thread waits for work before it ends
        """
        self._max_threads = threads
        self._max_queued = max_queued
        self._max_queued_per_key = max_queued_per_key
        self._idle_seconds = idle_seconds
        # Guards everything below. A key is in _queues while one of its tasks
        # waits or runs, and in _ready while it waits for a thread.
        self._lock = threading.Lock()
        self._work = threading.Condition(self._lock)
        self._drained = threading.Condition(self._lock)
        self._queues: dict[Hashable, collections.deque[Task]] = {}
        self._ready: collections.deque[Hashable] = collections.deque()
        self._queued = 0
        self._threads = 0
        self._idle = 0
        self._stopping = False

    @property
    def threads(self) -> int:
        """Threads there are at the moment."""
        with self._lock:
            return self._threads

    def submit(self, key: Hashable, task: Task) -> bool:
        """Run a task after all earlier ones of its key.

        :returns: False where it was not taken: the pool is full, or stops
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
                self._summon()
            return True

    def stop(self, timeout: float) -> int:
        """Take no more tasks, and wait for those there are.

        :returns: how many keys still had a task that waited or ran at the end
            of the time; the waiting ones do not run any more
        """
        with self._lock:
            self._stopping = True
            self._work.notify_all()
            self._drained.wait_for(lambda: not self._queues, timeout)
            left = len(self._queues)
            self._ready.clear()
            for queue in self._queues.values():
                queue.clear()
            self._queued = 0
            return left

    def _summon(self) -> None:
        # A thread that was woken counts as idle until it runs, hence the
        # comparison with all that is ready and not with none.
        if self._idle < len(self._ready) and self._threads < self._max_threads:
            self._threads += 1
            threading.Thread(target=self._serve, name='events', daemon=True).start()
        else:
            self._work.notify()

    def _serve(self) -> None:
        while (taken := self._take()) is not None:
            key, task = taken
            try:
                task()
            except BaseException:
                # The thread's outermost loop: its key must not stay blocked.
                LOG.exception('A task of the pool failed')
            self._done(key)

    def _take(self) -> tuple[Hashable, Task] | None:
        with self._lock:
            while not self._ready:
                self._idle += 1
                worked = not self._stopping and self._work.wait(self._idle_seconds)
                self._idle -= 1
                if not worked and not self._ready:
                    self._threads -= 1
                    return None
            key = self._ready.popleft()
            self._queued -= 1
            return key, self._queues[key].popleft()

    def _done(self, key: Hashable) -> None:
        with self._lock:
            if self._queues[key]:
                # At the end of the line, so that a busy key takes turns.
                self._ready.append(key)
                return
            del self._queues[key]
            if not self._queues:
                self._drained.notify_all()
