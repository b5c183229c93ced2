"""The URL of the broker of a cell, with its options."""

from oslo_config import cfg

from external_events_router import conf as router_conf
from external_events_router import exceptions
from external_events_router.resolver.drivers.nova import cells
from external_events_router.resolver.drivers.nova import rpcapi
from tests import base


class ComputeAPITest(base.TestCase):
    def test_options_are_added_and_options_of_the_mapping_have_precedence(self):
        url = 'rabbit://a:p%40ss@one:5671,b:c@two/vhost'
        self.assertEqual(url, rpcapi._with_options(url, {}))
        self.assertEqual(f'{url}?ssl=true', rpcapi._with_options(url, {'ssl': 'true'}))
        self.assertEqual(
            f'{url}?ssl=false&heartbeat_rate=3',
            rpcapi._with_options(f'{url}?ssl=false', {'ssl': 'true', 'heartbeat_rate': '3'}),
        )

    def test_unusable_url(self):
        conf = cfg.ConfigOpts()
        router_conf.register_all(conf)
        conf([])
        for url in (
            'nonsense://u:secret@h/',
            'rabbit://u:secret@h:secret/',
            'rabbit://u:secret@[::1/',
            'rabbit://u:secret@h/?heartbeat_rate=secret',
            'secret',
            '',
        ):
            cell = cells.Cell('a uuid', 'cell1', 'db', url)
            refused = self.assertRaises(exceptions.ConfigurationError, rpcapi.ComputeAPI, conf, cell)
            self.assertIn('transport_url of cell cell1', str(refused))
            self.assertNotIn('secret', str(refused))
