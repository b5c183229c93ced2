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

#: In place of a key: what comes after tasks have ended.
_LOOSE_END = object()


class KeyedPool:
    """Runs tasks on a bounded number of threads, in order per key.

    Threads are started when there is work for them and end when there was none
    for a while, so an idle pool costs nothing. To wake one costs more than a short
    task, so one at a time is on its way, and calls the next before it begins a task
    while others are ready: a burst of short tasks is done by the first, and one
    that blocks delays none.
    """

    def __init__(
        self,
        threads: int,
        *,
        max_queued: int = 100_000,
        max_queued_per_key: int = 1_000,
        idle_seconds: float = 10.0,
        afterwards: Callable[[], None] | None = None,
        name: str = 'events',
    ) -> None:
        """Make a pool; it starts by itself with the first task.

        :param max_queued: tasks that may wait in all; messages are taken from
            the broker before they are handled, so nothing else bounds them
        :param max_queued_per_key: of which one key may have, so that a task
            that hangs cannot use up the room of the others
        :param idle_seconds: how long a thread waits for work before it ends
        :param afterwards: called soon after tasks have ended, once for all that
            have by then; no task delays it. It has to be quick
        :param name: of the threads
        """
        self._max_threads = threads
        self._max_queued = max_queued
        self._max_queued_per_key = max_queued_per_key
        self._idle_seconds = idle_seconds
        self._afterwards = afterwards
        self._name = name
        # Guards everything below. A key is in _queues while one of its tasks
        # waits or runs, and in _ready while it waits for a thread. A thread is
        # woken by its bell, a lock that it waits for: _idle has those of the
        # threads that sleep, the last one on top, and _coming that of the one
        # that was called and has not come yet. While a key is ready, a thread is
        # coming or about to take one, or all there may be are at work.
        self._lock = threading.Lock()
        self._drained = threading.Condition(self._lock)
        self._queues: dict[Hashable, collections.deque[Task]] = {}
        self._ready: collections.deque[Hashable] = collections.deque()
        self._queued = 0
        self._threads = 0
        self._idle: list[threading.Lock] = []
        self._coming: threading.Lock | None = None
        # Whether a task has ended since the last call of what comes afterwards.
        self._loose_end = False
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
            while self._idle:
                self._idle.pop().release()
            self._drained.wait_for(lambda: not self._queues, timeout)
            left = len(self._queues)
            self._ready.clear()
            for queue in self._queues.values():
                queue.clear()
            self._queued = 0
            return left

    # The following, but for _serve and _tie_up, are called with the lock held.

    def _summon(self) -> bool:
        """Call a thread, unless one is on its way already or there may be no more.

        :returns: whether one is on its way
        """
        if self._coming is None:
            if self._idle:
                self._coming = self._idle.pop()
                self._coming.release()
            elif self._threads < self._max_threads:
                self._start()
        return self._coming is not None

    def _start(self) -> None:
        bell = threading.Lock()
        bell.acquire()
        try:
            threading.Thread(target=self._serve, args=(bell,), name=self._name, daemon=True).start()
        except RuntimeError as exc:
            # What is ready is for the threads there are, and tried again with the next task.
            LOG.error('With %d threads at work another cannot be started: %s', self._threads, exc)
            return
        self._threads += 1
        self._coming = bell

    def _serve(self, bell: threading.Lock) -> None:
        with self._lock:
            self._come(bell)
            taken = self._take(bell, came=True)
        while taken is not None:
            key, task = taken
            try:
                task()
            except BaseException:
                # The thread's outermost loop: its key must not stay blocked.
                LOG.exception('A task of the pool failed')
            # Else the last task lives until the next.
            del task, taken
            with self._lock:
                self._end(key)
                taken = self._take(bell, came=False)

    def _take(self, bell: threading.Lock, *, came: bool) -> tuple[Hashable, Task] | None:
        """The next task, or what comes afterwards; None: the thread has to end.

        :param came: the thread has just been called
        """
        while True:
            # NOTE: who goes on with a task leaves it to who comes, because more
            # may end by then, but only if somebody does: the task may block.
            if self._loose_end and (came or not self._ready or not self._summon()):
                self._loose_end = False
                return _LOOSE_END, self._tie_up
            if self._ready:
                key = self._ready.popleft()
                self._queued -= 1
                if self._ready:
                    self._summon()
                return key, self._queues[key].popleft()
            if self._stopping or not self._sleep(bell):
                self._threads -= 1
                return None
            came = True

    def _tie_up(self) -> None:
        if self._afterwards is not None:
            self._afterwards()

    def _sleep(self, bell: threading.Lock) -> bool:
        """Let go of the lock until the bell rings.

        :returns: whether it rang before the thread has been idle for long enough
        """
        self._idle.append(bell)
        self._lock.release()
        try:
            rang = bell.acquire(timeout=self._idle_seconds)
        finally:
            self._lock.acquire()
        if not rang:
            if bell in self._idle:
                self._idle.remove(bell)
                return False
            # NOTE: it rang between the end of the time and now. Who rang it
            # calls no other, so the thread must not go.
            bell.acquire()
        self._come(bell)
        return True

    def _come(self, bell: threading.Lock) -> None:
        if self._coming is bell:
            self._coming = None

    def _end(self, key: Hashable) -> None:
        if key is _LOOSE_END:
            return
        self._loose_end = self._afterwards is not None
        if self._queues[key]:
            # At the end of the line, so that a busy key takes turns.
            self._ready.append(key)
            return
        del self._queues[key]
        if not self._queues:
            self._drained.notify_all()
