"""The functions for operators, on SQLite; tests/integration has the other databases."""

import fixtures

from tests import base
from tests.unit.resolver.hold import scenarios


class TestFile(scenarios.InspectionScenarios, base.TestCase):
    def setUp(self):
        self.url = f'sqlite:///{self.useFixture(fixtures.TempDir()).path}/router.db'
        super().setUp()
