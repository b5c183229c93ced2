"""Requests that come while a transaction runs share the next, and each has its own end."""

import threading
import time
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
    """The database cannot be reached."""
    exc = exceptions.DatabaseUnavailable(reason='away')
    exc.__cause__ = db_exception.DBConnectionError()
    return exc


class Table:
    """Writes transactions into memory, one at a time if it must; stands still while it is closed.

    :ivar begun: the tags of each transaction that was begun; likewise ``written``
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
        self.patch(group_commit, 'PATIENCE', helpers.PATIENCE)
        self.ends = {}
        self.threads = []
        self.commits = self.group()

    def group(self, **kwargs):
        made = group_commit.GroupCommit(self.table.write, **kwargs)
        self.addCleanup(made.close)
        return made

    def write(self, tag, *, seconds=helpers.PATIENCE):
        """Write on a thread of its own; ``ends`` has what came of it."""

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
        """Write, one after the other, what has to wait for the transaction that runs."""
        for tag in tags:
            waiting = len(self.commits._waiting)
            self.write(tag, **kwargs)
            helpers.wait_until(lambda waiting=waiting: len(self.commits._waiting) > waiting)

    def hold_up(self):
        """Have a transaction begin that does not end before the table is opened."""
        self.table.open.clear()
        self.write('first')
        helpers.wait_until(lambda: self.table.begun)

    def finish(self):
        self.table.open.set()
        for thread in self.threads:
            thread.join(helpers.PATIENCE)
        return self.ends

    def test_one_alone_is_written_at_once(self):
        self.commits.write(request('1'), deadline=time.monotonic() + helpers.PATIENCE)
        self.commits.write(request('2'), deadline=time.monotonic() + helpers.PATIENCE)
        self.assertEqual([['1'], ['2']], self.table.written)

    def test_what_comes_during_a_transaction_shares_the_next_in_its_order(self):
        self.hold_up()
        self.write_behind('1', '2', '3')
        self.assertEqual({None}, set(self.finish().values()))
        self.assertEqual([['first'], ['1', '2', '3']], self.table.written)

    def test_no_transaction_is_larger_than_it_may_be(self):
        self.patch(group_commit, 'MOST', 2)
        self.hold_up()
        self.write_behind('1', '2', '3')
        self.finish()
        self.assertEqual([['first'], ['1', '2'], ['3']], self.table.written)

    def test_what_is_refused_does_not_take_the_others_along(self):
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

    def test_database_that_is_away_is_not_asked_for_each(self):
        self.table.problems = {'2': away()}
        self.hold_up()
        self.write_behind('1', '2', '3')
        ends = self.finish()
        self.assertEqual({None, self.table.problems['2']}, set(ends.values()))
        self.assertEqual([['first'], ['1', '2', '3']], self.table.begun)

    def test_who_is_not_waited_for_is_withdrawn(self):
        self.hold_up()
        self.write_behind('1')
        self.write_behind('2', seconds=0.1)
        self.threads[-1].join(helpers.PATIENCE)
        self.assertIsInstance(self.ends['2'], TimeoutError)
        self.finish()
        self.assertEqual([['first'], ['1']], self.table.begun)

    def test_transaction_of_one_that_gave_up_is_undone(self):
        self.table.open.clear()
        self.write('1', seconds=0.05).join(helpers.PATIENCE)
        self.assertIsInstance(self.ends['1'], TimeoutError)
        self.table.open.set()
        self.commits.write(request('2'), deadline=time.monotonic() + helpers.PATIENCE)
        self.assertEqual([['2']], self.table.written)

    def test_one_that_gave_up_does_not_undo_the_transaction_of_the_others(self):
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

    def test_commit_that_has_begun_is_waited_for_a_moment(self):
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

    def test_transaction_that_stands_still_does_not_hold_up_the_others(self):
        self.patch(group_commit, 'PATIENCE', 0.01)
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

    def test_no_more_transactions_at_a_time_than_allowed(self):
        self.patch(group_commit, 'PATIENCE', 0.01)
        self.commits = self.group(threads=2)
        self.hold_up()
        self.write('second')
        helpers.wait_until(lambda: len(self.table.begun) == 2)
        for tag in '34':
            self.write(tag, seconds=0.1).join(helpers.PATIENCE)
            self.assertIsInstance(self.ends[tag], TimeoutError)
        self.assertEqual([['first'], ['second']], self.table.begun)
        self.assertEqual([], self.commits._waiting)

    def test_closed(self):
        self.commits.close()
        self.assertRaises(
            TimeoutError, self.commits.write, request('1'), deadline=time.monotonic() + helpers.PATIENCE
        )
