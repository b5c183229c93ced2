"""The database and the host map in it, on PostgreSQL and on MariaDB or MySQL."""

import time

import sqlalchemy as sa

from external_events_router import exceptions
from external_events_router.db import migration
from external_events_router.db import models
from external_events_router.db import session
from tests import base
from tests.integration import services
from tests.unit.db import databases
from tests.unit.db import scenarios as db_scenarios
from tests.unit.resolver.host_map import scenarios as map_scenarios


class EmptyDatabase(base.TestCase):
    """The test has a database of its own, dropped when it has ended."""

    SERVICE: type[services.MySQL] | type[services.PostgreSQL]

    def setUp(self):
        # NOTE: what super().setUp() of the scenarios does needs it already, and
        # fixtures can only be used after that; so the class is asked first.
        self.url = self._made.url
        super().setUp()

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls._made = cls.SERVICE()
        cls._made.setUp()
        cls.addClassCleanup(cls._made.cleanUp)

    def tearDown(self):
        engine = sa.create_engine(self.url)
        models.Base.metadata.drop_all(engine)
        with engine.begin() as connection:
            connection.execute(sa.text('DROP TABLE IF EXISTS alembic_version'))
        engine.dispose()
        super().tearDown()


class BoundScenarios:
    """A statement ends when its time is over, on the connection's side or the server's."""

    SLEEP: str

    def test_a_statement_that_takes_too_long(self):
        database = databases.database(self.url, read_timeout=1.0)
        self.addCleanup(database.close)

        def sleep():
            with session.translated(), database.reading() as connection:
                connection.execute(sa.text(self.SLEEP))

        began = time.monotonic()
        self.assertRaises(exceptions.DatabaseUnavailable, sleep)
        self.assertLess(time.monotonic() - began, 10)
        # And the next one finds a connection that works.
        self.assertIsNone(migration.current(database))

    def test_query_of_every_batch_has_a_time_limit(self):
        database = databases.database(self.url, read_timeout=2.0)
        self.addCleanup(database.close)
        began = time.monotonic()
        # NOTE: by a table of its own, so that the answer has a column to choose by.
        select = f"{self.SLEEP} FROM (SELECT 'a' AS one) AS rows_of_one"
        with self.assertRaises(exceptions.DatabaseUnavailable), session.translated():
            database.rows_among(select, 'one', ['a'])
        # Once, and not again on the ordinary way.
        self.assertLess(time.monotonic() - began, 3.9)
        self.assertEqual([('a',)], self.ask(database))

    def test_query_of_every_batch_survives_lost_connections(self):
        database = databases.database(self.url)
        self.addCleanup(database.close)
        self.assertEqual([('a',)], self.ask(database))
        self.assertLess(0, self.cut_off(database))
        self.assertEqual([('a',)], self.ask(database))

    def test_query_of_every_batch_may_be_refused(self):
        database = databases.database(self.url)
        self.addCleanup(database.close)
        refused = self.assertRaises(exceptions.DatabaseUnavailable, self.ask, database, 'nothing_there')
        self.assertIn('nothing_there', str(refused))
        self.assertEqual([('a',)], self.ask(database))

    def ask(self, database, table="(SELECT 'a' AS one) AS rows_of_one"):
        with session.translated():
            select = f'SELECT one FROM {table}'  # noqa: S608 - a fixed name
            return list(map(tuple, database.rows_among(select, 'one', ['a', 'b'])))

    def cut_off(self, database):
        """End all other connections to the database; return their number."""
        engine = sa.create_engine(database._engine.url)
        self.addCleanup(engine.dispose)
        with engine.connect() as connection:
            if database.dialect == 'postgresql':
                query = 'SELECT pg_terminate_backend(pid) FROM pg_stat_activity '
                query += 'WHERE datname = current_database() AND pid <> pg_backend_pid()'
                return len(connection.exec_driver_sql(query).all())
            query = 'SELECT id FROM information_schema.processlist '
            query += 'WHERE db = database() AND id <> connection_id()'
            others = connection.exec_driver_sql(query).all()
            for (other,) in others:
                connection.exec_driver_sql(f'KILL {other}')
            return len(others)

    def test_database_that_does_not_exist(self):
        url = sa.make_url(self.url).set(database='eer_test_not_there').render_as_string(hide_password=False)
        refused = self.assertRaises(exceptions.ConfigurationError, migration.check, databases.database(url))
        self.assertIn('[database] connection', str(refused))
        self.assertIn('eer_test_not_there', str(refused))


class TestPostgreSQLSchema(db_scenarios.SchemaScenarios, EmptyDatabase):
    SERVICE = services.PostgreSQL


class TestPostgreSQLTransactions(db_scenarios.TransactionScenarios, EmptyDatabase):
    SERVICE = services.PostgreSQL


class TestPostgreSQLBounds(BoundScenarios, EmptyDatabase):
    SERVICE = services.PostgreSQL
    SLEEP = 'SELECT pg_sleep(30)'


class TestPostgreSQLHostMap(map_scenarios.HostMapScenarios, EmptyDatabase):
    SERVICE = services.PostgreSQL

    def test_an_import_has_the_database_count(self):
        """Without it, look-ups would read the tables instead of their keys."""
        self.map.import_lines([map_scenarios.line(map_scenarios.A, 'one', 'two')])
        query = "SELECT relname, reltuples FROM pg_class WHERE relname IN ('servers', 'server_hosts')"
        with self.database.reading() as connection:
            counted = dict(connection.execute(sa.text(query)).all())
        self.assertEqual({'servers': 1, 'server_hosts': 2}, counted)


class TestMySQLSchema(db_scenarios.SchemaScenarios, EmptyDatabase):
    SERVICE = services.MySQL


class TestMySQLTransactions(db_scenarios.TransactionScenarios, EmptyDatabase):
    SERVICE = services.MySQL


class TestMySQLBounds(BoundScenarios, EmptyDatabase):
    SERVICE = services.MySQL
    SLEEP = 'SELECT sleep(30)'


class TestMySQLHostMap(map_scenarios.HostMapScenarios, EmptyDatabase):
    SERVICE = services.MySQL
