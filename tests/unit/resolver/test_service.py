"""The configuration checks before any worker is started."""

from external_events_router import exceptions
from external_events_router.resolver import service
from tests import base
from tests.unit.db import databases
from tests.unit.resolver.drivers.nova import cloud


class CheckTest(base.TestCase):
    def test_hold_requires_a_database_with_the_nova_driver(self):
        made = self.useFixture(cloud.Cloud())
        made.add_cell('one')
        made.conf.set_override('driver', 'nova', group='compute')
        refused = self.assertRaises(exceptions.ConfigurationError, service.check, made.conf)
        self.assertIn('external-events-manage db upgrade', str(refused))
        databases.create_schema(databases.database(made.conf.database.connection))
        service.check(made.conf)
