"""Reading the journal, on SQLite; tests/integration has the other databases."""

import fixtures

from tests import base
from tests.unit.journal import scenarios


class TestReads(scenarios.ReadScenarios, base.TestCase):
    def setUp(self):
        self.url = f'sqlite:///{self.useFixture(fixtures.TempDir()).path}/router.db'
        super().setUp()


class TestPlans(scenarios.SQLitePlans, scenarios.PlanScenarios, base.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        folder = fixtures.TempDir()
        folder.setUp()
        cls.addClassCleanup(folder.cleanUp)
        cls.url = f'sqlite:///{folder.path}/router.db'
