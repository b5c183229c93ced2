"""The schema, on SQLite; tests/integration has the other databases."""

import fixtures

from tests import base
from tests.unit.db import scenarios


class TestSchema(scenarios.SchemaScenarios, base.TestCase):
    def setUp(self):
        self.url = f'sqlite:///{self.useFixture(fixtures.TempDir()).path}/router.db'
        super().setUp()
