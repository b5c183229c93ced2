"""The hold, on PostgreSQL and on MariaDB or MySQL: its store, and the order of events per server and host."""

import fixtures
import sqlalchemy as sa

from external_events_router.db import migration
from external_events_router.db import models
from tests.integration import services
from tests.integration import test_databases
from tests.unit.db import databases
from tests.unit.resolver.hold import scenarios
from tests.unit.resolver.hold import world


class _EmptyHold(test_databases.EmptyDatabase):
    """The tables are made once for all tests of the class, and emptied after each."""

    def tearDown(self):
        engine = sa.create_engine(self.url)
        with engine.begin() as connection:
            for table in reversed(models.Base.metadata.sorted_tables):
                connection.execute(sa.delete(table))
        engine.dispose()
        super(test_databases.EmptyDatabase, self).tearDown()


class _OrderScenarios:
    """A few runs of what ``tests.unit.resolver.hold.test_order`` does on SQLite."""

    TIMEOUT_SCALING_FACTOR = 4
    SEEDS = range(3)

    def setUp(self):
        super().setUp()
        self.useFixture(fixtures.MonkeyPatch('hypothesis.note', lambda _text: None))
        self.database = databases.database(self.url)
        self.addCleanup(self.database.close)
        migration.upgrade(self.database)

    def test_random_sequences_of_faults(self):
        for seed in self.SEEDS:
            world.Simulation(self.database, seed).run()
            world.OneServer(self.database, seed).run()


class TestPostgreSQLOrder(_OrderScenarios, _EmptyHold):
    SERVICE = services.PostgreSQL


class TestMySQLOrder(_OrderScenarios, _EmptyHold):
    SERVICE = services.MySQL


class TestPostgreSQLStore(
    scenarios.StoreScenarios,
    scenarios.ClaimScenarios,
    scenarios.FreeHostScenarios,
    scenarios.RaceScenarios,
    _EmptyHold,
):
    SERVICE = services.PostgreSQL


class TestPostgreSQLInspection(scenarios.InspectionScenarios, _EmptyHold):
    SERVICE = services.PostgreSQL


class TestMySQLStore(
    scenarios.StoreScenarios,
    scenarios.ClaimScenarios,
    scenarios.FreeHostScenarios,
    scenarios.RaceScenarios,
    _EmptyHold,
):
    SERVICE = services.MySQL


class TestMySQLInspection(scenarios.InspectionScenarios, _EmptyHold):
    SERVICE = services.MySQL
