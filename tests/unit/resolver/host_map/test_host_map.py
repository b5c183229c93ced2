"""The host map that the configuration selects."""

import fixtures
from oslo_config import fixture as config_fixture

from external_events_router import exceptions
from external_events_router.resolver import host_map
from external_events_router.resolver.host_map import sql
from tests import base
from tests.unit.db import databases


class TestLoad(base.TestCase):
    def setUp(self):
        super().setUp()
        self.conf = databases.configured(f'sqlite:///{self.useFixture(fixtures.TempDir()).path}/router.db')
        self.config = self.useFixture(config_fixture.Config(self.conf)).config

    def test_default_is_sql(self):
        self.assertIsInstance(host_map.load(self.conf), sql.SqlHostMap)

    def test_unknown_backend(self):
        self.config(backend='nonsense', group='host_map')
        refused = self.assertRaises(exceptions.ConfigurationError, host_map.load, self.conf)
        self.assertIn('[host_map] backend', str(refused))
        self.assertIn('sql', str(refused))

    def test_check(self):
        refused = self.assertRaises(exceptions.ConfigurationError, host_map.check, self.conf)
        self.assertIn('external-events-manage db upgrade', str(refused))
        databases.create_schema(databases.database(self.conf.database.connection))
        host_map.check(self.conf)

    def test_guard_uses_the_configured_values(self):
        self.config(timeout=0.25, group='host_map')
        guarded = host_map.load_guarded(self.conf)
        self.addCleanup(guarded.close)
        self.assertEqual(0.25, guarded._timeout)
        lookup = guarded.lookup(['5b0d8c1e-6d0b-5f0e-9a0a-3c5a3f2f6f41'])
        self.assertIn('no such table', lookup.reason)
