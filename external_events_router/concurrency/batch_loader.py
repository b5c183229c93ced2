"""One question at a time for all who ask meanwhile: what waits behind one goes together in the next.

A leaf, beside ``pools``. Where a database refuses a question because of its data, each
asker's is asked separately, so that one asker's data fail that asker alone. There is no
timer: where nothing runs, a question is asked at once. One
that hangs holds nobody up: after :data:`PATIENCE` the next runs beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
from concurrent import futures
import threading
import time
from typing import Generic
from typing import TypeVar

from external_events_router import exceptions
from external_events_router.concurrency import bounded_pool

A = TypeVar('A')

#: Seconds after which who waits has its question asked beside the one that runs. Far
#: more than a look-up takes, far less than one may take.
PATIENCE = 0.05

#: Keys of one question, unless a single asker has more: as many servers as the
#: largest batches have.
MOST = 1000


class LoadRequest(futures.Future[A]):
    """What one asker wants to know.

    :ivar keys: what it is about
    """

    def __init__(self, keys: frozenset[str]) -> None:
        super().__init__()
        self.keys = keys


class BatchLoader(Generic[A]):
    """Asks about keys, for many askers at a time. Thread-safe."""

    def __init__(self, ask: Callable[[frozenset[str]], A], *, threads: int, name: str) -> None:
        """:param ask: the answer for some keys; it may be about more than one asker's
        :param threads: questions that may hang at the same time
        :param name: of the threads
        """
        self._ask = ask
        self._threads = threads
        self._pool = bounded_pool.BoundedPool(threads, name)
        # Guards what follows.
        self._lock = threading.Lock()
        self._waiting: list[LoadRequest[A]] = []
        self._running = 0

    def begin(self, keys: frozenset[str]) -> LoadRequest[A]:
        """Have a question asked: now, or together with others when what runs has ended.

        Whoever begins one also waits for it, with :meth:`answer`.
        """
        question: LoadRequest[A] = LoadRequest(keys)
        with self._lock:
            self._waiting.append(question)
            alone = not self._running
            self._running += alone
        if alone:
            self._start()
        return question

    def answer(self, question: LoadRequest[A], *, timeout: float) -> A:
        """Wait for the answer; it may be about more keys than were asked for.

        :param timeout: seconds; after it wait again, or :meth:`give_up`
        :raises TimeoutError: there is none yet
        """
        deadline = time.monotonic() + timeout
        try:
            try:
                return question.result(max(0.0, min(timeout, PATIENCE)))
            except TimeoutError:
                if question.done():
                    raise
            self._ask_beside(question)
            return question.result(max(0.0, deadline - time.monotonic()))
        except futures.CancelledError as exc:
            raise TimeoutError from exc

    def give_up(self, question: LoadRequest[A]) -> None:
        """Wait for an answer no more."""
        question.cancel()
        with self._lock:
            if question in self._waiting:
                self._waiting.remove(question)

    def close(self) -> None:
        """Take no more questions; end the threads, each after what it has in hand."""
        self._pool.close()

    def _ask_beside(self, question: LoadRequest[A]) -> None:
        with self._lock:
            more = question in self._waiting and self._running < self._threads
            self._running += more
        if more:
            self._start()

    def _start(self) -> None:
        if self._pool.submit(self._work).cancelled():
            with self._lock:
                self._running -= 1
                questions, self._waiting = self._waiting, []
            for question in questions:
                question.cancel()

    def _work(self) -> None:
        while questions := self._take():
            keys = frozenset().union(*(question.keys for question in questions))
            try:
                answer = self._ask(keys)
            except BaseException as exc:
                if len(questions) > 1 and isinstance(exc, (exceptions.DatabaseRefused, ValueError)):
                    self._ask_each(questions)
                else:
                    for question in questions:
                        question.set_exception(exc)
            else:
                for question in questions:
                    question.set_result(answer)

    def _ask_each(self, questions: Sequence[LoadRequest[A]]) -> None:
        for question in questions:
            try:
                answer = self._ask(question.keys)
            except BaseException as exc:
                question.set_exception(exc)
            else:
                question.set_result(answer)

    def _take(self) -> list[LoadRequest[A]]:
        """What is asked next, together; nothing: this thread has ended."""
        taken: list[LoadRequest[A]] = []
        with self._lock:
            keys = 0
            while self._waiting and (not taken or keys + len(self._waiting[0].keys) <= MOST):
                question = self._waiting.pop(0)
                if question.set_running_or_notify_cancel():
                    taken.append(question)
                    keys += len(question.keys)
            if not taken:
                self._running -= 1
        return taken
