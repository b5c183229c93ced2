"""Authorization: the deployed service behind a real Keystone, and clients that use its catalog.

The deployment logs everything that it can, and when all tests are through none of
its logs may hold a secret.
"""

import datetime
import json
import os
import signal
import time

from keystoneauth1 import adapter
from keystoneauth1 import discover
from novaclient import api_versions
from novaclient import client as novaclient
from openstack import connection
import requests
import sqlalchemy as sa

from external_events_router.api import auth
from tests import base
from tests.integration import deployment
from tests.integration import keystone
from tests.integration import memcached
from tests.integration import services

SERVER = '2b4b6f0a-7d3e-4c89-8a51-6e1f0c9d7a01'
VOLUME = '3c5c7f1b-8e4f-4d9a-9b62-7f201dae8b12'

RULE = 'os_compute_api:os-server-external-events:create'

#: Forms of the endpoint's URL in the catalog, and the region that has it.
ENDPOINTS = {
    'versioned': '{}/v2.1',
    'with-project': '{}/v2.1/%(project_id)s',
    'with-slash': '{}/v2.1/',
    'unversioned': '{}',
    'unversioned-with-slash': '{}/',
}

#: Endpoints at which a client finds the API only if it asks for a version: openstacksdk
#: does, novaclient does not. Nova answers 300 there, and so does the router.
UNVERSIONED = ('unversioned', 'unversioned-with-slash')

#: Events that each microversion was the first to allow.
EVENTS = {
    '2.1': {'name': 'network-changed', 'server_uuid': SERVER},
    '2.51': {'name': 'volume-extended', 'server_uuid': SERVER, 'tag': VOLUME},
    '2.76': {'name': 'power-update', 'server_uuid': SERVER, 'tag': 'POWER_ON'},
    '2.82': {'name': 'accelerator-request-bound', 'server_uuid': SERVER, 'tag': VOLUME},
    '2.93': {'name': 'volume-reimaged', 'server_uuid': SERVER, 'tag': VOLUME},
    '2.latest': {'name': 'volume-reimaged', 'server_uuid': SERVER, 'tag': VOLUME},
}

#: Of the database and the broker, for the logs to be searched for.
DATABASE_PASSWORD = 'data-9c1e5b7a'
BROKER_PASSWORD = 'rabbit-2d8f6a3c'

#: Seconds. Maximum duration of a request if Keystone does not answer: two attempts with a
#: pause, and the same time again for a loaded machine.
KEYSTONE_BOUND = 2 * (2 * auth.CONNECT_TIMEOUT + 1)


class KeystoneTest(base.TestCase):
    """One Keystone and one deployment for all: each test leaves them as they were."""

    TIMEOUT_SCALING_FACTOR = 5

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.secrets = {keystone.PASSWORD, DATABASE_PASSWORD, BROKER_PASSWORD}
        cls.identity = cls.use(keystone.Keystone())
        broker = cls.use(services.RabbitMQ(password=BROKER_PASSWORD))
        database = cls.use(services.PostgreSQL())
        cls.service = cls.identity.user('nova', 'service')
        cls.neutron = cls.identity.user('neutron', 'service')
        for name in ('member', 'reader', 'manager'):
            setattr(cls, name, cls.identity.user(name, name, project='a-project'))
        cls.policy = cls.use(services.Folder()).path / 'policy.yaml'
        cls.router = cls.use(
            deployment.Deployment(
                transport_url=broker.url,
                connection=sa.make_url(database.url)
                .set(password=DATABASE_PASSWORD)
                .render_as_string(hide_password=False),
                hosts=['host-a'],
                hosts_of={SERVER: ['host-a']},
                debug='true',
                default_log_levels='nothing.of.this.name=DEBUG',
                api__auth_strategy='keystone',
                oslo_policy__policy_file=cls.policy,
                # NOTE: the tests share the machine with Keystone; another test
                # with a separate API process checks the default time limit.
                **cls.identity.options('nova', http_connect_timeout=30),
            )
        )
        for region, form in ENDPOINTS.items():
            cls.identity.endpoint('compute', form.format(cls.router.url), region=region)

    @classmethod
    def use(cls, fixture):
        fixture.setUp()
        cls.addClassCleanup(fixture.cleanUp)
        return fixture

    def token_of(self, session):
        """A new token."""
        session.auth.invalidate()
        token = session.get_token()
        self.secrets.add(token)
        return token

    def post(self, token, *, url=None, path='/v2.1/os-server-external-events', **headers):
        """Post an event.

        :param url: of an API; None: the deployment's
        :param headers: with underscores for dashes
        """
        headers = {name.replace('_', '-'): value for name, value in headers.items()}
        if token is not None:
            headers['X-Auth-Token'] = token
        return requests.post(
            (url or self.router.url) + path,
            json={'events': [EVENTS['2.1']]},
            headers=headers,
            timeout=deployment.PATIENCE,
        )

    def assert_unauthorized(self, answer):
        self.assertEqual(401, answer.status_code, answer.text)
        self.assertEqual(
            {
                'error': {
                    'code': 401,
                    'title': 'Unauthorized',
                    'message': 'The request you have made requires authentication.',
                }
            },
            answer.json(),
        )
        self.assertEqual(f'Keystone uri="{self.identity.url}"', answer.headers['WWW-Authenticate'])

    def assert_forbidden(self, answer):
        self.assertEqual(403, answer.status_code, answer.text)
        self.assertEqual(
            {'forbidden': {'code': 403, 'message': f"Policy doesn't allow {RULE} to be performed."}},
            answer.json(),
        )

    def test_roles(self):
        for session in (self.service, self.neutron, self.identity.admin):
            self.assertEqual(200, self.post(self.token_of(session)).status_code)
        for session in (self.member, self.reader, self.manager):
            self.assert_forbidden(self.post(self.token_of(session)))
        log = self.router.api.text()
        for roles in ("['reader']", "'member'", "'manager'"):
            self.assertRegex(log, f"User '[0-9a-f]{{32}}' with roles .*{roles}.* is not permitted {RULE}")

    def test_a_token_that_is_not_for_a_project(self):
        identity = self.identity.client
        (admin,) = identity.users.list(name='admin')
        (role,) = identity.roles.list(name='admin')
        identity.roles.grant(role, user=admin, domain='default')
        for scope in ({'system_scope': 'all'}, {'domain_id': 'default'}, {'unscoped': True}):
            token = self.token_of(self.identity.session('admin', **scope))
            self.assert_forbidden(self.post(token))

    def test_missing_and_invented_tokens(self):
        real = self.token_of(self.service)
        for token in (None, '', 'made-up', 'gAAAAA' + 'x' * 180, real[:-4] + 'AAAA', 'x' * 5000):
            self.assert_unauthorized(self.post(token))
        self.assert_unauthorized(self.post(None, X_Roles='service', X_Identity_Status='Confirmed'))

    def test_documents_need_no_token(self):
        for path in ('/', '/v2.1', '/v2.1/', '/v2', '/healthcheck'):
            self.assertEqual(200, requests.get(self.router.url + path, timeout=60).status_code, path)

    def test_revoked(self):
        token = self.token_of(self.service)
        # So that it is in Keystone's own cache, which must not hide the revocation.
        self.identity.client.tokens.validate(token)
        self.identity.client.tokens.revoke_token(token)
        self.assert_unauthorized(self.post(token))

    def test_revoked_token_that_is_cached(self):
        url = self.start_router('forgetful', api__workers=1, keystone_authtoken__token_cache_time=1)
        token = self.token_of(self.service)
        self.assertEqual(200, self.post(token, url=url).status_code)
        self.identity.client.tokens.revoke_token(token)
        deployment.wait_until(lambda: self.post(token, url=url).status_code == 401, 'the end of the second')

    def test_token_that_expires_while_it_is_cached(self):
        port = deployment.free_port()
        self.identity.serve('short-lived', port, expiration=10)
        session = self.identity.session('nova', 'service', url=f'http://127.0.0.1:{port}/v3')
        tokens = []

        def accepted():
            # NOTE: a machine that is busy may take longer than a token lives.
            tokens.append(self.token_of(session))
            return self.post(tokens[-1]).status_code == 200

        deployment.wait_until(accepted, 'a token that is valid yet')
        token = tokens[-1]
        left = session.auth.get_access(session).expires - datetime.datetime.now(datetime.UTC)
        self.assertLess(left.total_seconds(), 11.0)
        deployment.wait_until(lambda: self.post(token).status_code != 200, 'the end of a token')
        self.assert_unauthorized(self.post(token))
        # As for a chain of requests that lasts longer than the token at its beginning.
        helped = self.post(token, X_Service_Token=self.token_of(self.neutron))
        self.assertEqual(200, helped.status_code, helped.text)

    def test_service_tokens(self):
        service, member = self.token_of(self.neutron), self.token_of(self.member)
        self.assertEqual(200, self.post(service, X_Service_Token=self.token_of(self.service)).status_code)
        # A service token identifies the service that forwards the request; the permissions are the user's.
        self.assert_forbidden(self.post(member, X_Service_Token=service))
        for bad in ('made-up', member):
            self.assert_unauthorized(self.post(service, X_Service_Token=bad))

    def test_project_of_the_path(self):
        token = self.token_of(self.service)
        own = self.service.get_project_id()
        path = '/v2.1/{}/os-server-external-events'
        self.assertEqual(200, self.post(token, path=path.format(own)).status_code)
        answer = self.post(token, path=path.format(self.member.get_project_id()))
        self.assertEqual(400, answer.status_code)
        self.assertIn('Malformed request URL', answer.json()['badRequest']['message'])

    def test_policy_of_the_operator(self):
        reader = self.token_of(self.reader)
        self.assert_forbidden(self.post(reader))
        self.policy.write_text(json.dumps({RULE: 'role:reader and project_id:%(project_id)s'}))
        # NOTE: each worker reads the file again when it has changed, by itself.
        deployment.wait_until(self.always(lambda: self.post(reader).status_code == 200), 'the policy')
        self.policy.unlink()
        deployment.wait_until(self.always(lambda: self.post(reader).status_code == 403), 'the default')

    def test_policy_that_cannot_be_read_changes_nothing(self):
        token, reader = self.token_of(self.service), self.token_of(self.reader)
        self.policy.write_text(f'"{RULE}": "role:reader\n: [')

        def was_seen():
            self.assertEqual(200, self.post(token).status_code)
            self.assert_forbidden(self.post(reader))
            return '[oslo_policy] policy_file' in self.router.api.text()

        try:
            # NOTE: each worker looks at the file now and then.
            deployment.wait_until(was_seen, 'a look at the file')
            self.assertTrue(self.always(was_seen)())
        finally:
            self.policy.unlink()
        deployment.wait_until(self.always(lambda: self.post(token).status_code == 200), 'the default')

    def test_cached_token_causes_no_request_to_keystone(self):
        token = self.token_of(self.service)
        # Each worker asks for itself; which of them answers is up to the kernel.
        deployment.wait_until(self.always(lambda: self.post(token).status_code == 200), 'all workers')
        before = len(self.identity.requests())
        took = []
        for _ in range(200):
            began = time.monotonic()
            self.assertEqual(200, self.post(token).status_code)
            took.append(time.monotonic() - began)
        self.assertEqual(before, len(self.identity.requests()))
        # The cache of the middleware has no limit, and would write this message if it was used.
        self.assertNotIn('in-process token cache', self.router.api.text())
        median = sorted(took)[len(took) // 2] * 1000
        print(f'{len(took)} posts with a cached token: median {median:.1f} ms, 0 requests to Keystone')

    def test_keystone_that_is_unavailable_for_a_while(self):
        known, new = self.token_of(self.service), self.token_of(self.neutron)
        deployment.wait_until(self.always(lambda: self.post(known).status_code == 200), 'all workers')
        self.identity.process.stop()
        self.check_unavailable('refuses', lambda: self.post(new))
        self.assertEqual(200, self.post(known).status_code)
        self.assert_unauthorized(self.post(None))
        self.identity.restart()
        self.assertEqual(200, self.post(new).status_code)

    def test_keystone_that_hangs(self):
        url = self.start_router(
            'bounded', api__workers=1, keystone_authtoken__http_connect_timeout=auth.CONNECT_TIMEOUT
        )
        known, new = self.token_of(self.service), self.token_of(self.neutron)
        deployment.wait_until(self.always(lambda: self.post(known).status_code == 200), 'all workers')
        os.kill(self.identity.process.pid, signal.SIGSTOP)
        try:
            self.check_unavailable('hangs', lambda: self.post(new, url=url))
            self.assertEqual(200, self.post(known).status_code)
            self.assert_unauthorized(self.post(None, url=url))
        finally:
            os.kill(self.identity.process.pid, signal.SIGCONT)
        self.assertEqual(200, self.post(new).status_code)

    def check_unavailable(self, how, post):
        began = time.monotonic()
        answer = post()
        took = time.monotonic() - began
        print(f'Keystone {how}: {answer.status_code} after {took:.2f} s')
        self.assertEqual(503, answer.status_code, answer.text)
        self.assertEqual(503, answer.json()['serviceUnavailable']['code'])
        self.assertIn('X-OpenStack-Request-ID', answer.headers)
        self.assertLess(took, KEYSTONE_BOUND)

    def always(self, condition):
        """Whether it holds so often in a row that every worker has been asked, but once in a million."""
        return lambda: all(condition() for _ in range(20))

    def test_novaclient_through_every_form_of_endpoint(self):
        for region in ENDPOINTS.keys() - UNVERSIONED:
            for version, event in EVENTS.items():
                nova = self.novaclient(version, region)
                answered = nova.server_external_events.create([event])
                self.assertEqual([200], [each['code'] for each in answered], (region, version))

    def novaclient(self, version, region):
        if version == '2.latest':
            # NOTE: as its command line does; the client itself wants a number.
            oldest = self.novaclient('2.1', region)
            found = api_versions.discover_version(oldest, api_versions.APIVersion(version))
            version = found.get_string()
        return novaclient.Client(version, session=self.neutron, region_name=region)

    def test_openstacksdk_through_every_form_of_endpoint(self):
        for region in ENDPOINTS:
            for version, event in EVENTS.items():
                named = {} if version.endswith('latest') else {'compute_default_microversion': version}
                cloud = connection.Connection(session=self.neutron, region_name=region, **named)
                # NOTE: without a default the call sends no microversion, which is 2.1.
                answered = list(
                    cloud.compute.create_server_external_events([event if named else EVENTS['2.1']])
                )
                self.assertEqual([200], [each.code for each in answered], (region, version))

    def test_as_ironic_and_cyborg_post(self):
        for region in ENDPOINTS:
            asked = {'min_version': '2.1', 'max_version': '2.latest'} if region in UNVERSIONED else {}
            compute = adapter.Adapter(
                session=self.neutron,
                service_type='compute',
                region_name=region,
                interface='internal',
                **asked,
            )
            for version in ('2.76', '2.82'):
                answer = compute.post(
                    '/os-server-external-events',
                    json={'events': [EVENTS[version]]},
                    microversion=version,
                    global_request_id='req-6b0f1f4e-9d53-4f5c-8a55-0d6f0d5f4a11',
                    raise_exc=False,
                )
                self.assertEqual((200, 200), (answer.status_code, answer.json()['events'][0]['code']), region)

    def test_discovery_through_every_form_of_endpoint(self):
        for region in ENDPOINTS:
            compute = adapter.Adapter(session=self.neutron, service_type='compute', region_name=region)
            found = compute.get_endpoint_data()
            self.assertEqual('2.104', discover.version_to_string(found.max_microversion), region)
            self.assertEqual('2.1', discover.version_to_string(found.min_microversion), region)

    def start_router(self, name, **options):
        """Start an API beside the deployment's, with other options.

        :returns: its URL
        """
        port = deployment.free_port()
        config = self.router.write_config(f'{name}.conf', api__bind_port=port, **options)
        command = [deployment.BIN / 'external-events-api', '--config-file', config]
        self.useFixture(deployment.Process(name, command, self.router.folder))
        deployment.wait_until(lambda: deployment.listens(port), 'the API')
        return f'http://127.0.0.1:{port}'

    def test_refused_login_of_the_service(self):
        self.secrets.add('wrong-8c4e2a6f')
        url = self.start_router('refused', api__workers=1, keystone_authtoken__password='wrong-8c4e2a6f')
        self.assertEqual(503, self.post(self.token_of(self.service), url=url).status_code)
        self.assertIn(
            'Identity server rejected authorization', (self.router.folder / 'refused.log').read_text()
        )

    def test_memcached_is_shared_by_the_workers(self):
        cache = self.useFixture(memcached.Memcached())
        url = self.start_router(
            'memcached-api',
            keystone_authtoken__memcached_servers=cache.address,
            keystone_authtoken__memcache_security_strategy='ENCRYPT',
            keystone_authtoken__memcache_secret_key='memory-5f1b9d3c',
        )
        self.secrets.add('memory-5f1b9d3c')
        token = self.token_of(self.service)
        before = self.validations()
        self.assertTrue(self.always(lambda: self.post(token, url=url).status_code == 200)())
        self.assertEqual(before + 1, self.validations())
        cache.stop()
        self.assertEqual(200, self.post(token, url=url).status_code)

    def validations(self):
        """How many tokens Keystone has been asked about."""
        return self.identity.requests().count(('GET', '/v3/auth/tokens', '200'))

    def test_zz_no_secret_in_any_log(self):
        # NOTE: last by its name, so that the logs of all tests are looked through.
        self.post(self.token_of(self.service))
        self.post('made-up-3f9d1c5e7b')
        self.secrets.add('made-up-3f9d1c5e7b')
        self.post(self.token_of(self.service), X_Service_Token=self.token_of(self.member))
        for log in self.router.folder.glob('*.log'):
            text = log.read_text(errors='replace')
            if log.stem in ('api', 'resolver'):
                self.assertIn(' DEBUG ', text)
            self.assertEqual([], [secret for secret in self.secrets if secret in text], log)


class SecretsAtStartTest(base.TestCase):
    """Commands that cannot start report the reason without secrets, at any log level."""

    TIMEOUT_SCALING_FACTOR = 3

    SECRET = 'secret-6a0d4c8e'

    def test_urls_that_cannot_be_used(self):
        folder = self.useFixture(services.Folder()).path
        broker = sa.make_url(self.useFixture(services.RabbitMQ(password='another-1b7f')).url)
        started = []
        for number, (command, option, url) in enumerate(
            (
                (
                    'api',
                    'transport_url',
                    broker.set(password=self.SECRET).render_as_string(hide_password=False),
                ),
                ('api', 'transport_url', f'rabbit://somebody:{self.SECRET}@127.0.0.1:port/'),
                ('api', 'transport_url', f'nonsense://somebody:{self.SECRET}@127.0.0.1/'),
                ('resolver', 'connection', f'mysql+pymysql://somebody:{self.SECRET}@127.0.0.1/nowhere'),
                ('resolver', 'connection', f'mysql+nonsense://somebody:{self.SECRET}@127.0.0.1/nowhere'),
                ('resolver', 'connection', f'postgresql://somebody:{self.SECRET}@127.0.0.1:port/nowhere'),
            )
        ):
            urls = {'transport_url': broker.render_as_string(hide_password=False), 'connection': 'sqlite://'}
            urls[option] = url
            config = folder / f'{number}.conf'
            config.write_text(
                '[DEFAULT]\ndebug = true\ndefault_log_levels = no.such=DEBUG\n'
                f'transport_url = {urls["transport_url"]}\n[database]\nconnection = {urls["connection"]}\n'
                f'[api]\nauth_strategy = noauth\nbind_port = {deployment.free_port()}\n'
            )
            program = deployment.BIN / f'external-events-{command}'
            process = deployment.Process(str(number), [program, '--config-file', config], folder)
            started.append((self.useFixture(process), option))
        for process, option in started:
            self.assertEqual(1, process.process.wait(deployment.PATIENCE), process.text())
            self.assertIn(f'] {option}: ', process.text().splitlines()[-1])
            self.assertNotIn(self.SECRET, process.text())
