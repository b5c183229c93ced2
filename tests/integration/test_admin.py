"""The admin API as a process, with tokens of a real Keystone."""

import fixtures
import requests

from tests import base
from tests.integration import deployment
from tests.integration import keystone

SERVER = '2b4b6f0a-7d3e-4c89-8a51-6e1f0c9d7a01'


class AdminKeystoneTest(base.TestCase):
    TIMEOUT_SCALING_FACTOR = 5

    def setUp(self):
        super().setUp()
        self.identity = self.useFixture(keystone.Keystone())
        self.identity.user('router', 'service')
        folder = self.useFixture(fixtures.TempDir()).path
        self.router = Prepared(
            transport_url='fake://',
            connection=f'sqlite:///{folder}/router.sqlite',
            hosts=[],
            hosts_of={SERVER: ['host-a']},
            admin__bind_port=deployment.free_port(),
            **self.identity.options('router', http_connect_timeout=30),
        )
        self.useFixture(self.router)
        self.url = f'http://127.0.0.1:{self.router.options["admin__bind_port"]}/admin/v1'

    def request(self, method, path, session=None, *, token=None):
        if session is not None:
            token = session.get_token()
        headers = {} if token is None else {'X-Auth-Token': token}
        return requests.request(method, self.url + path, headers=headers, timeout=deployment.PATIENCE)

    def test_tokens(self):
        reader = self.identity.user('reader', 'reader', project='service')
        customer = self.identity.user('customer', 'reader', 'member', project='customer')
        assign = ('PUT', f'/host-map/{SERVER}/hosts/host-b')
        for method, path in (('GET', '/summary'), ('GET', '/events'), assign):
            for token in (None, 'x' * 32):
                answer = self.request(method, path, token=token)
                self.assertEqual(
                    (401, 401), (answer.status_code, answer.json()['error']['code']), answer.text
                )
        self.assertEqual(200, self.request('GET', '/events', reader).status_code)
        self.assertEqual(['host-a'], self.request('GET', f'/host-map/{SERVER}', reader).json()['hosts'])
        refused = self.request(*assign, reader)
        self.assertEqual(403, refused.status_code)
        self.assertIn('external-events:host-map:assign', refused.json()['forbidden']['message'])
        for method, path in (('GET', '/events'), ('GET', f'/host-map/{SERVER}'), assign):
            self.assertEqual(403, self.request(method, path, customer).status_code)
        answer = self.request(*assign, self.identity.admin)
        self.assertEqual((200, ['host-a', 'host-b']), (answer.status_code, answer.json()['hosts']))
        (action,) = self.request('GET', '/actions', reader).json()['actions']
        self.assertEqual(
            ('host-map:assign', 'admin', self.identity.admin.get_user_id(), 1),
            (action['action'], action['user'], action['user_id'], action['count']),
        )
        self.assertEqual(200, self.request('GET', '/openapi.json').status_code)
        self.assertEqual(0, self.router.admin.stop())


class Prepared(deployment.Deployment):
    """A database and a configuration, and only ``external-events-admin``."""

    def start(self):
        """Start the admin API."""
        script = 'import sys; from external_events_router.cmd import admin; sys.exit(admin.main())'
        command = [deployment.sys.executable, '-c', script, '--config-file', self.config]
        self.admin = self._start(deployment.Process('admin', command, self.folder))
        self.admin.wait_for('Serving the admin API')
