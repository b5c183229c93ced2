"""Queries that are combined, and threads that block."""

import threading
from unittest import mock

from external_events_router import exceptions
from external_events_router.concurrency import batch_loader
from tests import base

#: Seconds. Waits that should end take much less; waits that should not end take much more.
LONG = 30.0


class Source:
    """Answers with the requested keys as soon as the test allows it."""

    def __init__(self):
        self.asked = []
        self.begun = threading.Semaphore(0)
        self.may_answer = threading.Semaphore(0)
        self.error = None

    def __call__(self, keys):
        self.asked.append(keys)
        self.begun.release()
        if not self.may_answer.acquire(timeout=LONG):
            raise AssertionError('the test did not allow an answer')
        if self.error is not None:
            raise self.error
        return keys


class BatchLoaderTest(base.TestCase):
    def setUp(self):
        super().setUp()
        self.source = Source()
        self.questions = batch_loader.BatchLoader(self.source, threads=2, name='questions')
        self.addCleanup(self.questions.close)
        self.addCleanup(self.source.may_answer.release, 100)

    def begin(self, *keys):
        return self.questions.begin(frozenset(keys))

    def answer(self, question, timeout=LONG):
        return self.questions.answer(question, timeout=timeout)

    def test_thread_that_cannot_be_started_fails_only_the_waiting_queries(self):
        with mock.patch.object(self.questions._pool, 'submit', autospec=True, side_effect=RuntimeError):
            question = self.begin('a')
        self.assertRaises(TimeoutError, self.answer, question)
        self.source.may_answer.release()
        self.assertEqual({'b'}, self.answer(self.begin('b')))

    def run_first(self):
        """Start a query and wait until it runs."""
        first = self.begin('first')
        self.assertTrue(self.source.begun.acquire(timeout=LONG))
        return first

    def test_single_query_is_sent_immediately(self):
        first = self.run_first()
        self.source.may_answer.release()
        self.assertEqual({'first'}, self.answer(first))

    def test_waiting_queries_are_combined(self):
        self.patch(batch_loader, 'PARALLEL_AFTER', LONG)
        first, others = self.run_first(), [self.begin('a', 'b'), self.begin('b', 'c')]
        self.source.may_answer.release(2)
        self.assertEqual({'first'}, self.answer(first))
        self.assertEqual([{'a', 'b', 'c'}] * 2, [self.answer(other) for other in others])
        self.assertEqual(2, len(self.source.asked))

    def test_number_of_keys_of_a_query_is_bounded(self):
        self.patch(batch_loader, 'MOST', 3)
        self.run_first()
        sizes = (2, 2, 5, 1)
        others = [self.begin(*(f'{number}-{n}' for n in range(size))) for number, size in enumerate(sizes)]
        self.source.may_answer.release(5)
        for other in others:
            self.answer(other)
        self.assertEqual([1, 2, 2, 5, 1], [len(keys) for keys in self.source.asked])

    def test_error_is_raised_in_all_waiting_callers(self):
        self.source.error = ValueError('broken')
        first, second = self.run_first(), self.begin('second')
        self.source.may_answer.release(2)
        for question in (first, second):
            self.assertRaises(ValueError, self.answer, question)

    def test_blocked_query_delays_no_other(self):
        self.run_first()
        second = self.begin('second')
        self.assertRaises(TimeoutError, self.answer, second, timeout=0.0)
        self.assertTrue(self.source.begun.acquire(timeout=LONG))
        self.assertEqual([{'first'}, {'second'}], self.source.asked)

    def test_waiting_queries_are_removed_while_all_threads_block(self):
        self.run_first()
        second = self.begin('second')
        self.assertRaises(TimeoutError, self.answer, second, timeout=0.0)
        self.assertTrue(self.source.begun.acquire(timeout=LONG))
        for number in range(10):
            question = self.begin(str(number))
            self.assertRaises(TimeoutError, self.answer, question, timeout=0.0)
            self.questions.give_up(question)
        self.assertEqual(2, len(self.source.asked))
        self.assertEqual([], self.questions._waiting)

    def test_closed_loader_does_not_wait(self):
        self.questions.close()
        self.assertRaises(TimeoutError, self.answer, self.begin('late'))
        self.assertEqual([], self.source.asked)

    def test_idle_thread_runs_the_next_query(self):
        for number in range(3):
            question = self.begin(str(number))
            self.source.may_answer.release()
            self.answer(question)
        self.assertEqual(3, len(self.source.asked))

    def test_key_that_the_database_refuses_fails_alone(self):
        asked = []

        def ask(keys):
            asked.append(keys)
            if 'bad' in keys:
                raise exceptions.DatabaseRefused(reason='illegal mix of collations')
            if not self.may_go.wait(LONG):
                raise AssertionError
            return keys

        self.patch(batch_loader, 'PARALLEL_AFTER', LONG)
        self.may_go = threading.Event()
        questions = batch_loader.BatchLoader(ask, threads=1, name='questions')
        self.addCleanup(questions.close)
        first = questions.begin(frozenset({'first'}))
        others = [questions.begin(frozenset({key})) for key in ('a', 'bad', 'b')]
        self.may_go.set()
        self.assertEqual({'first'}, questions.answer(first, timeout=LONG))
        self.assertEqual({'a'}, questions.answer(others[0], timeout=LONG))
        self.assertRaises(exceptions.DatabaseRefused, questions.answer, others[1], timeout=LONG)
        self.assertEqual({'b'}, questions.answer(others[2], timeout=LONG))
