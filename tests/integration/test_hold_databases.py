"""The store of the hold, on PostgreSQL and on MariaDB or MySQL."""

import sqlalchemy as sa

from external_events_router.db import models
from tests.integration import services
from tests.integration import test_databases
from tests.unit.resolver.hold import scenarios


class _EmptyHold(test_databases.EmptyDatabase):
    """The tables are made once for all tests of the class, and emptied after each."""

    def tearDown(self):
        engine = sa.create_engine(self.url)
        with engine.begin() as connection:
            for table in reversed(models.Base.metadata.sorted_tables):
                connection.execute(sa.delete(table))
        engine.dispose()
        super(test_databases.EmptyDatabase, self).tearDown()


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
