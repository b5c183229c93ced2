"""The audit filter of keystonemiddleware before the admin API."""

import pathlib

import fixtures as fixtures_library

from external_events_router import exceptions
from external_events_router.admin import authentication
from tests import base
from tests.functional import admin
from tests.functional import fixtures

SERVER = '0000000a-0000-4000-8000-000000000000'

MAP = """
[DEFAULT]
target_endpoint_type = None
[custom_actions]
[path_keywords]
events = event
[service_endpoints]
external-events = service/external-events
"""


class AuditTest(base.TestCase):
    TIMEOUT_SCALING_FACTOR = 3

    def setUp(self):
        super().setUp()
        self.path = pathlib.Path(self.useFixture(fixtures_library.TempDir()).path) / 'audit_map.conf'

    def test_each_request_is_notified(self):
        self.path.write_text(MAP)
        sent = []
        self.useFixture(
            fixtures_library.MonkeyPatch(
                'keystonemiddleware.audit._notifier._MessagingNotifier.notify',
                lambda notifier, ctxt, event_type, payload: sent.append((event_type, payload)),
            )
        )
        router = self.useFixture(
            fixtures.Router(
                {SERVER: ['host-a']}, admin__audit_map_file=str(self.path), journal__record='none'
            )
        )
        client = self.useFixture(admin.Admin(router))
        client.get(f'/host-map/{SERVER}')
        self.assertEqual(
            ['audit.http.request', 'audit.http.response'], [event_type for event_type, _ in sent]
        )
        self.assertEqual('alice', sent[0][1]['initiator']['name'])

    def test_a_file_that_cannot_be_read_is_an_error_at_start(self):
        conf = self.useFixture(fixtures.Configuration(admin__audit_map_file=str(self.path))).conf
        problem = self.assertRaises(
            exceptions.ConfigurationError, authentication.audit(conf), lambda environ, start_response: []
        )
        self.assertIn('[admin] audit_map_file', str(problem))
