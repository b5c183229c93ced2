"""Requests during a transaction share the next transaction, and each request has its own end."""

import threading
import time
from unittest import mock
import uuid

from oslo_db import exception as db_exception

from external_events_router import exceptions
from external_events_router.resolver.hold import base as hold_base
from external_events_router.resolver.hold import group_commit
from tests import base
from tests.unit.agent import helpers
from tests.unit.resolver.hold import scenarios

A = str(uuid.UUID(int=1))


def request(tag):
    return hold_base.Request([scenarios.item(A, tag)], {})


def away():
    """Raise the error of an unavailable database."""
    exc = exceptions.DatabaseUnavailable(reason='away')
    exc.__cause__ = db_exception.DBConnectionError()
    return exc


class Table:
    """Writes transactions into memory, one at a time if required; waits while it is closed.

    :ivar begun: the tags of each transaction that has begun; likewise ``written``
    """

    def __init__(self):
        self.begun = []
        self.written = []
        self.open = threading.Event()
        self.open.set()
        self.at_write = lambda: None
        self.at_commit = lambda: None
        self.problems = {}

    def write(self, requests, *, before_commit):
        tags = [item.event.tag for request in requests for item in request.items]
        self.begun.append(tags)
        self.open.wait(helpers.PATIENCE)
        self.at_write()
        for tag in tags:
            if tag in self.problems:
                raise self.problems[tag]
        before_commit()
        self.at_commit()
        self.written.append(tags)


class GroupCommitTest(base.TestCase):
    def setUp(self):
        super().setUp()
        self.table = Table()
        self.addCleanup(self.table.open.set)
        self.patch(group_commit, 'PARALLEL_AFTER', helpers.PATIENCE)
        self.ends = {}
        self.threads = []
        self.commits = self.group()

    def group(self, **kwargs):
        made = group_commit.GroupCommit(self.table.write, **kwargs)
        self.addCleanup(made.close)
        return made

    def test_thread_that_cannot_be_started_fails_only_the_waiting_requests(self):
        deadline = time.monotonic() + helpers.PATIENCE
        with mock.patch.object(self.commits._pool, 'submit', autospec=True, side_effect=RuntimeError):
            self.assertRaises(TimeoutError, self.commits.write, request('1'), deadline=deadline)
        self.commits.write(request('2'), deadline=deadline)
        self.assertEqual([['2']], self.table.written)

    def write(self, tag, *, seconds=helpers.PATIENCE):
        """Write on a separate thread; ``ends`` gets the result."""

        def run():
            try:
                self.commits.write(request(tag), deadline=time.monotonic() + seconds)
                self.ends[tag] = None
            except Exception as exc:
                self.ends[tag] = exc

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        self.threads.append(thread)
        return thread

    def write_behind(self, *tags, **kwargs):
        """Make requests, in order, that have to wait for the running transaction."""
        for tag in tags:
            waiting = len(self.commits._waiting)
            self.write(tag, **kwargs)
            helpers.wait_until(lambda waiting=waiting: len(self.commits._waiting) > waiting)

    def hold_up(self):
        """Begin a transaction that does not end before the table is opened."""
        self.table.open.clear()
        self.write('first')
        helpers.wait_until(lambda: self.table.begun)

    def finish(self):
        self.table.open.set()
        for thread in self.threads:
            thread.join(helpers.PATIENCE)
        return self.ends

    def test_single_request_is_written_immediately(self):
        self.commits.write(request('1'), deadline=time.monotonic() + helpers.PATIENCE)
        self.commits.write(request('2'), deadline=time.monotonic() + helpers.PATIENCE)
        self.assertEqual([['1'], ['2']], self.table.written)

    def test_requests_during_a_transaction_share_the_next_in_order(self):
        self.hold_up()
        self.write_behind('1', '2', '3')
        self.assertEqual({None}, set(self.finish().values()))
        self.assertEqual([['first'], ['1', '2', '3']], self.table.written)

    def test_size_of_a_transaction_is_bounded(self):
        self.patch(group_commit, 'MOST', 2)
        self.hold_up()
        self.write_behind('1', '2', '3')
        self.finish()
        self.assertEqual([['first'], ['1', '2'], ['3']], self.table.written)

    def test_refused_request_does_not_affect_the_other_requests(self):
        refused = exceptions.DatabaseUnavailable(reason='Data too long')
        refused.__cause__ = db_exception.DBDataError()
        for problem in (refused, ZeroDivisionError()):
            self.table.begun, self.table.written, self.threads = [], [], []
            self.table.problems = {'2': problem}
            self.hold_up()
            self.write_behind('1', '2', '3')
            ends = self.finish()
            self.assertEqual({'first': None, '1': None, '2': problem, '3': None}, ends)
            self.assertEqual([['first'], ['1'], ['3']], self.table.written)

    def test_unavailable_database_is_not_tried_for_each_request(self):
        self.table.problems = {'2': away()}
        self.hold_up()
        self.write_behind('1', '2', '3')
        ends = self.finish()
        self.assertEqual({None, self.table.problems['2']}, set(ends.values()))
        self.assertEqual([['first'], ['1', '2', '3']], self.table.begun)

    def test_request_whose_wait_has_ended_is_withdrawn(self):
        self.hold_up()
        self.write_behind('1')
        self.write_behind('2', seconds=0.1)
        self.threads[-1].join(helpers.PATIENCE)
        self.assertIsInstance(self.ends['2'], TimeoutError)
        self.finish()
        self.assertEqual([['first'], ['1']], self.table.begun)

    def test_transaction_of_a_withdrawn_request_is_rolled_back(self):
        self.table.open.clear()
        self.write('1', seconds=0.05).join(helpers.PATIENCE)
        self.assertIsInstance(self.ends['1'], TimeoutError)
        self.table.open.set()
        self.commits.write(request('2'), deadline=time.monotonic() + helpers.PATIENCE)
        self.assertEqual([['2']], self.table.written)

    def test_withdrawn_request_does_not_roll_back_the_other_requests(self):
        self.hold_up()
        self.write_behind('1')
        late = self.write('2', seconds=1.0)
        helpers.wait_until(lambda: len(self.commits._waiting) == 2)
        committing = threading.Event()

        def until_one_has_given_up():
            # The first transaction has one request, the second has both.
            if len(self.table.begun) == 2 and not committing.is_set():
                committing.set()
                late.join(helpers.PATIENCE)

        self.table.at_write = until_one_has_given_up
        ends = self.finish()
        self.assertIsInstance(ends['2'], TimeoutError)
        self.assertIsNone(ends['1'])
        self.assertEqual([['first'], ['1', '2']], self.table.begun)

    def test_commit_that_has_begun_is_waited_for_a_short_time(self):
        self.patch(group_commit, 'COMMIT_TIME', helpers.PATIENCE)
        committing, go_on = threading.Event(), threading.Event()
        self.addCleanup(go_on.set)

        def commit():
            committing.set()
            go_on.wait(helpers.PATIENCE)

        self.table.at_commit = commit
        thread = self.write('1', seconds=0.05)
        self.assertTrue(committing.wait(helpers.PATIENCE))
        thread.join(0.2)
        self.assertTrue(thread.is_alive())
        go_on.set()
        thread.join(helpers.PATIENCE)
        self.assertIsNone(self.ends['1'])

    def test_blocked_transaction_does_not_delay_the_other_transactions(self):
        self.patch(group_commit, 'PARALLEL_AFTER', 0.01)
        stands, go_on = threading.Event(), threading.Event()
        self.addCleanup(go_on.set)

        def stand_still():
            if not stands.is_set():
                stands.set()
                go_on.wait(helpers.PATIENCE)

        self.table.at_commit = stand_still
        self.write('first')
        self.assertTrue(stands.wait(helpers.PATIENCE))
        self.commits.write(request('1'), deadline=time.monotonic() + helpers.PATIENCE)
        self.assertEqual([['1']], self.table.written)

    def test_number_of_parallel_transactions_is_bounded(self):
        self.patch(group_commit, 'PARALLEL_AFTER', 0.01)
        self.commits = self.group(threads=2)
        self.hold_up()
        self.write('second')
        helpers.wait_until(lambda: len(self.table.begun) == 2)
        for tag in '34':
            self.write(tag, seconds=0.1).join(helpers.PATIENCE)
            self.assertIsInstance(self.ends[tag], TimeoutError)
        self.assertEqual([['first'], ['second']], self.table.begun)
        self.assertEqual([], self.commits._waiting)

    def test_closed_writer_refuses_requests(self):
        self.commits.close()
        self.assertRaises(
            TimeoutError, self.commits.write, request('1'), deadline=time.monotonic() + helpers.PATIENCE
        )
