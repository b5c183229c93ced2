"""Behaviour of the database package on every database; mixed into a test case.

The test case sets ``self.url`` to the URL of an empty database.
"""

import contextlib
import threading

from alembic import autogenerate
from alembic.runtime import migration as alembic_migration
import sqlalchemy as sa

from external_events_router import exceptions
from external_events_router.db import migration
from external_events_router.db import models
from external_events_router.db import session
from tests.unit.db import databases

SERVERS = models.Server.__table__


class SchemaScenarios:
    def setUp(self):
        super().setUp()
        self.database = databases.database(self.url)
        self.addCleanup(self.database.close)

    def test_upgrade_of_an_empty_database_is_repeatable(self):
        self.assertIsNone(migration.current(self.database))
        migration.upgrade(self.database)
        migration.upgrade(self.database)
        self.assertEqual(migration.head(), migration.current(self.database))
        migration.check(self.database)

    def test_migrations_create_the_tables_of_the_models(self):
        migration.upgrade(self.database)
        with self.database.reading() as connection:
            context = alembic_migration.MigrationContext.configure(connection)
            self.assertEqual([], autogenerate.compare_metadata(context, models.Base.metadata))

    def test_two_upgrades_at_the_same_time(self):
        errors = []

        def upgrade():
            with contextlib.closing(databases.database(self.url)) as database:
                try:
                    migration.upgrade(database)
                except exceptions.RouterError as exc:
                    errors.append(exc)

        threads = [threading.Thread(target=upgrade) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual([], errors)
        migration.check(self.database)

    def test_missing_schema_is_refused(self):
        refused = self.assertRaises(exceptions.ConfigurationError, migration.check, self.database)
        self.assertIn('[database] connection', str(refused))
        self.assertIn('external-events-manage db upgrade', str(refused))

    def test_old_schema_is_refused_and_a_newer_schema_is_accepted(self):
        migration.upgrade(self.database)
        self._set_revision('999')
        migration.check(self.database)
        self.assertIn('newer than this release supports', self.logs.output)
        error = self.assertRaises(exceptions.NewerSchema, migration.upgrade, self.database)
        self.assertIn('version 999, newer than', str(error))
        self.assertEqual('999', migration.current(self.database))

    def _set_revision(self, revision):
        with self.database.writing() as connection:
            connection.execute(
                sa.text('UPDATE alembic_version SET version_num = :revision'), {'revision': revision}
            )


class TransactionScenarios:
    def setUp(self):
        super().setUp()
        self.database = databases.database(self.url)
        self.addCleanup(self.database.close)
        databases.create_schema(self.database)

    def known(self):
        with self.database.reading() as connection:
            return sorted(connection.scalars(sa.select(SERVERS.c.uuid)))

    def test_error_rolls_back_the_transaction(self):
        with contextlib.suppress(ZeroDivisionError), self.database.writing() as connection:
            self.database.insert_missing(connection, SERVERS, [{'uuid': 'a'}])
            raise ZeroDivisionError
        self.assertEqual([], self.known())

    def test_insert_missing_keeps_existing_rows(self):
        for uuids in (['a', 'b'], ['b', 'c'], []):
            with self.database.writing() as connection:
                self.database.insert_missing(connection, SERVERS, [{'uuid': uuid} for uuid in uuids])
        self.assertEqual(['a', 'b', 'c'], self.known())

    def test_among_accepts_any_number_of_values(self):
        with self.database.writing() as connection:
            self.database.insert_missing(connection, SERVERS, [{'uuid': 'a'}, {'uuid': 'b'}])
        for values, expected in (
            ([], []),
            (['a'], ['a']),
            (["b'%\\", 'b', *map(str, range(70_000))], ['b']),
        ):
            with self.database.reading() as connection:
                among = self.database.among(SERVERS.c.uuid, values)
                found = connection.scalars(sa.select(SERVERS.c.uuid).where(among))
                self.assertEqual(expected, sorted(found))

    def test_error_contains_only_the_message_of_the_database(self):
        def broken():
            with session.translated(), self.database.reading() as connection:
                connection.execute(sa.text("SELECT 'statement' FROM no_such_table"))

        failed = self.assertRaises(exceptions.DatabaseUnavailable, broken)
        self.assertIn('no_such_table', str(failed))
        self.assertNotIn('statement', str(failed))
        self.assertEqual(1, len(str(failed).splitlines()))

    def test_two_transactions_that_read_first_may_both_write(self):
        both_have_read = threading.Barrier(2)

        def write(uuid):
            with session.translated(), self.database.writing() as connection:
                connection.scalars(sa.select(SERVERS.c.uuid)).all()
                # Times out on a database with one writer at a time.
                with contextlib.suppress(threading.BrokenBarrierError):
                    both_have_read.wait(timeout=1)
                self.database.insert_missing(connection, SERVERS, [{'uuid': uuid}])

        self.assertEqual([], self._at_once(lambda: write('a'), lambda: write('b')))
        self.assertEqual(['a', 'b'], self.known())

    def test_transaction_that_loses_a_conflict_is_repeated(self):
        """Two transactions, each with a row that the other needs next."""
        with self.database.writing() as connection:
            self.database.insert_missing(connection, SERVERS, [{'uuid': 'a'}, {'uuid': 'b'}])
        both_hold_one = threading.Barrier(2)
        attempts = []

        @session.retried
        def lock(first, second):
            attempts.append(first)
            with self.database.writing() as connection:
                self._lock(connection, first)
                if len(attempts) <= 2:
                    # Times out on a database with one writer at a time.
                    with contextlib.suppress(threading.BrokenBarrierError):
                        both_hold_one.wait(timeout=1)
                self._lock(connection, second)

        errors = self._at_once(lambda: lock('a', 'b'), lambda: lock('b', 'a'))
        self.assertEqual([], errors)
        self.assertIn(len(attempts), self.ATTEMPTS)

    #: Attempts of the two transactions in the test above; more than two if one was a victim of a deadlock.
    ATTEMPTS = range(3, 7)

    def _lock(self, connection, uuid):
        connection.execute(sa.update(SERVERS).where(SERVERS.c.uuid == uuid).values(uuid=f'{uuid}'))

    def _at_once(self, *calls):
        errors = []

        def run(call):
            try:
                call()
            except Exception as exc:
                errors.append(exc)

        threads = [threading.Thread(target=run, args=(call,)) for call in calls]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return errors
