from external_events_router import exceptions
from external_events_router import plugins
from external_events_router.agent import handlers
from tests import base


class LoadTest(base.TestCase):
    def test_known_name(self):
        found = plugins.load(handlers.NAMESPACE, 'log', option='[agent] handlers')
        self.assertIs(handlers.LogHandler, found)

    def test_unknown_name_names_the_option_and_the_choices(self):
        error = self.assertRaises(
            exceptions.ConfigurationError, plugins.load, handlers.NAMESPACE, 'nosuch', option='[a] b'
        )
        self.assertEqual("[a] b: unknown value 'nosuch'; use one of: exec, log", str(error))
