"""The store of the hold, on SQLite in a file and in memory; tests/integration has the other databases."""

import types

import fixtures
import sqlalchemy as sa

from external_events_router import exceptions
from external_events_router.db import models
from external_events_router.db import session
from tests import base
from tests.unit.resolver.hold import scenarios


class _File(base.TestCase):
    def setUp(self):
        self.url = f'sqlite:///{self.useFixture(fixtures.TempDir()).path}/router.db'
        super().setUp()


class _Memory(base.TestCase):
    url = 'sqlite://'


class TestFile(scenarios.StoreScenarios, scenarios.ClaimScenarios, scenarios.FreeHostScenarios, _File):
    def test_lost_database(self):
        with self.database.writing() as connection:
            for table in reversed(models.Base.metadata.sorted_tables):
                connection.execute(sa.schema.DropTable(table))
        for call in (
            lambda: self.hold(scenarios.item(scenarios.A)),
            self.claim,
            lambda: self.store.servers_among([scenarios.A]),
            lambda: self.store.make_due(hosts=['one']),
            lambda: self.store.purge(1.0),
            self.held,
        ):
            failed = self.assertRaises(exceptions.DatabaseUnavailable, call)
            self.assertIn('no such table', str(failed))


class TestFileRace(scenarios.RaceScenarios, _File):
    ROUNDS = 40


class TestMemory(scenarios.StoreScenarios, scenarios.ClaimScenarios, scenarios.FreeHostScenarios, _Memory):
    pass


class TestSkipLocked(base.TestCase):
    def test_skip_locked_depends_on_the_version_of_the_database(self):
        for is_mariadb, version, expected in (
            (True, (10, 5, 29), False),
            (True, (10, 6), True),
            (True, (11, 4, 2), True),
            (False, (5, 7, 44), False),
            (False, (8, 0, 0), False),
            (False, (8, 0, 1), True),
            (False, (8, 4, 0), True),
            (False, None, False),
        ):
            dialect = types.SimpleNamespace(is_mariadb=is_mariadb, server_version_info=version)
            database = session.Database(sa.create_engine('mysql+pymysql://'))
            found = database.skips_locked(types.SimpleNamespace(dialect=dialect))
            self.assertEqual(expected, found, (is_mariadb, version))
        for other in ('postgresql+psycopg://', 'sqlite://'):
            self.assertTrue(session.Database(sa.create_engine(other)).skips_locked(None))
