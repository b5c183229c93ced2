"""Writing and deleting records, on SQLite; tests/integration has the other databases."""

import fixtures

from tests import base
from tests.unit.journal import scenarios


class OnSQLite(base.TestCase):
    def setUp(self):
        self.url = f'sqlite:///{self.useFixture(fixtures.TempDir()).path}/router.db'
        super().setUp()


class TestWriter(scenarios.WriterScenarios, OnSQLite):
    pass


class TestRetention(scenarios.RetentionScenarios, OnSQLite):
    pass
