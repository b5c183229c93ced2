"""Host names that an agent refuses at start, because its queue would receive messages of another queue."""

from external_events_router import exceptions
from external_events_router.agent import service
from tests import base


class HostNamesTest(base.TestCase):
    def test_invalid_names_are_refused(self):
        for bad in ('#', '*', '', 'a b', 'a\n', 'x' * 248, 'h\xf6st', '\ud800', None):
            error = self.assertRaises(exceptions.ConfigurationError, service.Agent, None, bad)
            self.assertIn('--host, [agent] hosts or [DEFAULT] host: ', str(error))
            self.assertIn('1 to 247 letters, digits', str(error))
        # A longer topic leaves fewer characters.
        error = self.assertRaises(
            exceptions.ConfigurationError, service.Agent, None, 'x' * 200, topic='t' * 60
        )
        self.assertIn('1 to 194 letters', str(error))
