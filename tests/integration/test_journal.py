"""The journal on PostgreSQL and on MariaDB."""

from tests.integration import services
from tests.integration import test_databases
from tests.unit.journal import scenarios


class TestPostgreSQLReads(scenarios.ReadScenarios, test_databases.EmptyDatabase):
    SERVICE = services.PostgreSQL


class TestMySQLReads(scenarios.ReadScenarios, test_databases.EmptyDatabase):
    SERVICE = services.MySQL


class TestPostgreSQLWriter(scenarios.WriterScenarios, test_databases.EmptyDatabase):
    SERVICE = services.PostgreSQL


class TestMySQLWriter(scenarios.WriterScenarios, test_databases.EmptyDatabase):
    SERVICE = services.MySQL


class TestPostgreSQLRetention(scenarios.RetentionScenarios, test_databases.EmptyDatabase):
    SERVICE = services.PostgreSQL


class TestMySQLRetention(scenarios.RetentionScenarios, test_databases.EmptyDatabase):
    SERVICE = services.MySQL


class TestPostgreSQLPlans(scenarios.PostgreSQLPlans, scenarios.PlanScenarios, test_databases.EmptyDatabase):
    SERVICE = services.PostgreSQL


class TestMySQLPlans(scenarios.MySQLPlans, scenarios.PlanScenarios, test_databases.EmptyDatabase):
    SERVICE = services.MySQL
