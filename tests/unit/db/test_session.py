"""Transactions, on SQLite in a file and in memory; tests/integration has the other databases."""

import threading
import time

import fixtures
from oslo_db import exception as db_exception
from oslo_db.sqlalchemy import engines
import sqlalchemy as sa

from external_events_router import exceptions
from external_events_router.db import migration
from external_events_router.db import session
from tests import base
from tests.unit.db import databases
from tests.unit.db import scenarios


class TestFile(scenarios.TransactionScenarios, base.TestCase):
    # Each writer waits at the beginning of its transaction.
    ATTEMPTS = range(2, 3)

    def setUp(self):
        self.url = f'sqlite:///{self.useFixture(fixtures.TempDir()).path}/router.db'
        super().setUp()

    def test_readers_do_not_wait_for_a_writer(self):
        with self.database.writing() as writing:
            self.database.insert_missing(writing, scenarios.SERVERS, [{'uuid': 'a'}])
            self.assertEqual([], self.known())
        self.assertEqual(['a'], self.known())

    def test_file_that_is_not_a_database(self):
        path = self.create_tempfiles([('bad', 'hello, world; I am a text, and long enough to be read')])[0]
        database = databases.database(f'sqlite:///{path}')
        failed = self.assertRaises(exceptions.DatabaseUnavailable, migration.current, database)
        self.assertIn('not a database', str(failed))


class TestMemory(scenarios.TransactionScenarios, base.TestCase):
    url = 'sqlite://'
    ATTEMPTS = range(2, 3)

    def test_transactions_of_threads_do_not_mix(self):
        """The threads share one connection, so that one transaction waits for the other."""
        entered = threading.Event()

        def other():
            with self.database.reading():
                entered.set()

        thread = threading.Thread(target=other)
        with self.database.writing() as connection:
            thread.start()
            self.database.insert_missing(connection, scenarios.SERVERS, [{'uuid': 'a'}])
            self.assertFalse(entered.wait(timeout=0.1))
        thread.join()
        self.assertEqual(['a'], self.known())


class TestLost(base.TestCase):
    def attempts(self, *, seconds):
        """The number of attempts of a transaction whose connection is always lost after some time."""
        attempts = []

        @session.retried
        def lose():
            attempts.append(time.monotonic())
            time.sleep(seconds)
            raise db_exception.DBConnectionError

        self.assertRaises(exceptions.DatabaseUnavailable, lose)
        return len(attempts)

    def test_connection_that_is_lost_immediately_is_tried_once_more(self):
        self.assertEqual(2, self.attempts(seconds=0.0))

    def test_database_that_hangs_is_not_tried_again(self):
        self.useFixture(fixtures.MockPatchObject(session, '_LOST_AT_ONCE', 0.01))
        self.assertEqual(1, self.attempts(seconds=0.02))


class TestUnreachable(base.TestCase):
    def test_error_contains_no_secret(self):
        for scheme in ('postgresql', 'mysql'):
            database = databases.database(f'{scheme}://router:s3cret@127.0.0.1:1/router')
            failed = self.assertRaises(exceptions.DatabaseUnavailable, migration.current, database)
            self.assertIn('127.0.0.1', str(failed))
            refused = self.assertRaises(exceptions.ConfigurationError, migration.check, database)
            self.assertIn('[database] connection', str(refused))
            for text in (str(failed), str(refused), self.logs.output):
                self.assertNotIn('s3cret', text)

    def test_driver_that_is_not_installed(self):
        conf = databases.configured('mysql+mysqldb://router@127.0.0.1/router')
        refused = self.assertRaises(exceptions.ConfigurationError, session.Database.from_conf, conf)
        self.assertIn('mysql+mysqldb', str(refused))


class InternalsTest(base.TestCase):
    """The internals of oslo.db that ``session`` uses: this test fails if they change."""

    def test_engine_is_made_by_the_function_of_this_package(self):
        made = []

        def make(url, **arguments):
            made.append((url, arguments))
            engine = sa.create_engine(url)
            return engine, engine

        engine = engines.create_engine('sqlite://', max_retries=0, thread_checkin=False, _engine_target=make)
        self.addCleanup(engine.dispose)
        ((url, arguments),) = made
        self.assertEqual('sqlite', url.get_backend_name())
        self.assertIsInstance(arguments, dict)
