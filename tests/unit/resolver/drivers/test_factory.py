"""The driver that the configuration selects."""

from external_events_router import exceptions
from external_events_router.resolver.drivers import factory
from external_events_router.resolver.drivers.nova import deliverer as nova_deliverer
from tests import base
from tests.unit.resolver import agents
from tests.unit.resolver.drivers.nova import cloud


class DriversTest(base.TestCase):
    def setUp(self):
        super().setUp()
        self.conf = self.useFixture(cloud.Cloud()).conf

    def test_nova_driver(self):
        self.conf.set_override('driver', 'nova', group='compute')
        driver = factory.from_conf(self.conf, None)
        deliverer = driver.deliverer('worker', agents.Observer())
        self.assertIsInstance(deliverer, nova_deliverer.NovaDeliverer)
        deliverer.start()
        deliverer.stop()

    def test_pinned_version_of_the_compute_rpc_must_be_complete(self):
        for version in ('auto', '5.0', '6.10'):
            self.conf.set_override('compute_rpc', version, group='nova')
        for version in ('', '6', '4.21', '6.5.1', 'x6.5', 'caracal'):
            self.assertRaises(ValueError, self.conf.set_override, 'compute_rpc', version, group='nova')

    def test_combinations_that_are_refused(self):
        for backend, driver in (('nova', 'agent'), ('sql', 'nova')):
            self.conf.set_override('backend', backend, group='host_map')
            self.conf.set_override('driver', driver, group='compute')
            refused = self.assertRaises(exceptions.ConfigurationError, factory.from_conf, self.conf, None)
            self.assertIn(f'{driver} does not match [host_map] backend = {backend}', str(refused))
