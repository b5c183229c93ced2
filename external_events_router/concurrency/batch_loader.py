"""Combines the queries of several callers: callers that wait during a query share the next query.

No timer delays a query: if no query is running, a new query starts immediately. If the running query takes
longer than :data:`PARALLEL_AFTER`, the next query starts in parallel, so a query that hangs does not block
other callers. If the database refuses a query because of its data, the query is repeated for each
caller separately, so that only the caller with the invalid data fails.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
import logging
import threading
import time
from typing import Generic
from typing import TypeVar

from external_events_router import exceptions
from external_events_router.concurrency import bounded_pool
from external_events_router.concurrency import signal

LOG = logging.getLogger(__name__)

A = TypeVar('A')

#: Seconds before a waiting query starts in parallel with the running query. Much longer than a
#: normal look-up, and much shorter than the timeout of a look-up.
PARALLEL_AFTER = 0.05

#: Maximum number of keys in one query, unless a single caller has more: as many servers as in the
#: largest batches.
MOST = 1000


#: Receives the answer, or None if the request failed; the request has the error.
Then = Callable[[A | None], None]


class LoadRequest(Generic[A]):
    """The query of one caller.

    :ivar keys: the keys that it asks for
    :ivar began: instant of ``time.monotonic()``
    """

    def __init__(self, keys: frozenset[str], then: Then[A] | None = None) -> None:
        """:param then: see :meth:`BatchLoader.begin`"""
        self.keys = keys
        self.began = time.monotonic()
        self._then = then
        self._ended = signal.Signal()
        self._answer: A | None = None
        self._error: BaseException | None = None
        #: The caller has stopped waiting.
        self.is_given_up = False

    def wait_until(self, deadline: float) -> bool:
        """Wait for the answer or the error.

        :param deadline: instant of ``time.monotonic()``
        """
        return self._ended.wait_until(deadline)

    def result(self) -> A:
        """Return the answer, after the wait.

        :raises TimeoutError: the query has not ended
        """
        if self._error is not None:
            raise self._error
        if self._answer is None:
            raise TimeoutError
        return self._answer

    def answer(self, answer: A) -> None:
        """Take the answer; for the loader."""
        self._answer = answer
        self._ended.set()
        self._call(answer)

    def fail(self, error: BaseException) -> None:
        """Take the error; for the loader."""
        self._error = error
        self._ended.set()
        self._call(None)

    def _call(self, answer: A | None) -> None:
        if self._then is None or self.is_given_up:
            return
        try:
            self._then(answer)
        except Exception:  # one caller must not prevent the others
            LOG.exception('A caller could not use the result of its query')


class BatchLoader(Generic[A]):
    """Queries values for keys, for many callers at the same time. Thread-safe."""

    def __init__(self, ask: Callable[[frozenset[str]], A], *, threads: int, name: str) -> None:
        """:param ask: returns the answer for some keys, possibly of several callers
        :param threads: maximum number of queries that run or hang at the same time
        :param name: name of the threads
        """
        self._ask = ask
        self._threads = threads
        self._pool = bounded_pool.BoundedPool(threads, name)
        # Guards the attributes below.
        self._lock = threading.Lock()
        self._waiting: list[LoadRequest[A]] = []
        self._running = 0

    def begin(self, keys: frozenset[str], then: Then[A] | None = None) -> LoadRequest[A]:
        """Start a query immediately, or together with others after the running query has ended.

        The caller must call :meth:`answer` afterwards, or wait for ``then``.

        :param then: called once on the thread of the query, with the answer or None, unless the query was
            given up; must not block
        """
        question: LoadRequest[A] = LoadRequest(keys, then)
        with self._lock:
            self._waiting.append(question)
            alone = not self._running
            self._running += alone
        if alone:
            self._start()
        return question

    def answer(self, question: LoadRequest[A], *, timeout: float) -> A:
        """Wait for the answer. It may contain more keys than requested.

        :param timeout: seconds; after it, call this method again or call :meth:`give_up`
        :raises TimeoutError: the query did not end in time
        """
        self.wait_until(question, time.monotonic() + timeout)
        return question.result()

    def wait_until(self, question: LoadRequest[A], deadline: float) -> bool:
        """Wait for the answer or the error; :meth:`answer` has to follow.

        :param deadline: instant of ``time.monotonic()``
        :returns: whether the query has ended
        """
        if question.wait_until(min(deadline, question.began + PARALLEL_AFTER)):
            return True
        self._ask_beside(question)
        return question.wait_until(deadline)

    def give_up(self, question: LoadRequest[A]) -> None:
        """Stop waiting for an answer."""
        question.is_given_up = True
        with self._lock:
            if question in self._waiting:
                self._waiting.remove(question)

    def close(self) -> None:
        """Accept no more queries; end the threads after their current queries."""
        self._pool.close()

    def _ask_beside(self, question: LoadRequest[A]) -> None:
        with self._lock:
            more = question in self._waiting and self._running < self._threads
            self._running += more
        if more:
            self._start()

    def _start(self) -> None:
        try:
            started = not self._pool.submit(self._work).cancelled()
        except RuntimeError as exc:
            LOG.error('A thread for queries cannot be started: %s', exc)
            started = False
        if not started:
            with self._lock:
                self._running -= 1
                questions, self._waiting = self._waiting, []
            for question in questions:
                question.fail(TimeoutError())

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
                        question.fail(exc)
            else:
                for question in questions:
                    question.answer(answer)

    def _ask_each(self, questions: Sequence[LoadRequest[A]]) -> None:
        for question in questions:
            try:
                answer = self._ask(question.keys)
            except BaseException as exc:
                question.fail(exc)
            else:
                question.answer(answer)

    def _take(self) -> list[LoadRequest[A]]:
        """Return the requests of the next query; an empty list ends this thread."""
        taken: list[LoadRequest[A]] = []
        with self._lock:
            keys = 0
            while self._waiting and (not taken or keys + len(self._waiting[0].keys) <= MOST):
                question = self._waiting.pop(0)
                taken.append(question)
                keys += len(question.keys)
            if not taken:
                self._running -= 1
        return taken
