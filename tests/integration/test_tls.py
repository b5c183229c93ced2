"""Every connection of the service over TLS: clients, broker, database and Keystone.

Broker, databases and Keystone take nothing but TLS; broker and PostgreSQL want a
certificate of the test's authority, too, and so does the API.
"""

import json
import os
import pathlib
import signal
import ssl
import subprocess

import requests

from tests import base
from tests import certificates
from tests.faults import broker
from tests.faults import database
from tests.integration import deployment
from tests.integration import keystone
from tests.integration import services

SERVER = '2b4b6f0a-7d3e-4c89-8a51-6e1f0c9d7a01'
EVENT = {'name': 'network-changed', 'server_uuid': SERVER}


class TLSBroker(broker.Broker):
    """A node that listens with TLS alone, and asks for a certificate."""

    def __init__(self, authority):
        self._authority = authority

    def configuration(self):
        certificate, key = self._authority.issue('broker')
        return (
            'listeners.tcp = none\n'
            f'listeners.ssl.1 = 127.0.0.1:{self.port}\n'
            f'ssl_options.cacertfile = {self._authority.certificate}\n'
            f'ssl_options.certfile = {certificate}\n'
            f'ssl_options.keyfile = {key}\n'
            'ssl_options.verify = verify_peer\n'
            'ssl_options.fail_if_no_peer_cert = true\n'
        )


class TLSPostgreSQL(database.PostgreSQL):
    """A cluster that takes TLS alone, and asks for a certificate."""

    def __init__(self, authority, query):
        self._authority = authority
        self._query = query

    def prepare(self):
        super().prepare()
        (self.folder / 'data' / 'pg_hba.conf').write_text(
            'hostssl all all 127.0.0.1/32 trust clientcert=verify-ca\n'
        )

    def command(self):
        certificate, key = self._authority.issue('database', owner=self.user())
        files = {
            'ssl_ca_file': self._authority.certificate,
            'ssl_cert_file': certificate,
            'ssl_key_file': key,
        }
        return [*super().command(), '--ssl=on', *(f'--{name}={file}' for name, file in files.items())]

    def query(self):
        return '?' + '&'.join(f'{name}={value}' for name, value in self._query.items())


class TLSMariaDB(database.MariaDB):
    """A server that accepts TLS only."""

    def __init__(self, authority):
        super().__init__()
        self._authority = authority

    def command(self):
        certificate, key = self._authority.issue('database')
        files = {'ssl-ca': self._authority.certificate, 'ssl-cert': certificate, 'ssl-key': key}
        options = [f'--{name}={file}' for name, file in files.items()]
        return [*super().command(), '--require-secure-transport=1', *options]

    def query(self):
        return f'?ssl_ca={self._authority.certificate}'


class TLSDeployment(deployment.Deployment):
    """A deployment whose API serves HTTPS."""

    def __init__(self, *, authority, **options):
        super().__init__(**options)
        self.http = requests.Session()
        # NOTE: else a variable of the environment would be trusted in place of this.
        self.http.trust_env = False
        self.http.verify = str(authority.certificate)
        self.http.cert = tuple(map(str, authority.issue('client')))

    def _answers(self):
        self.url = f'https://127.0.0.1:{self.port}'
        try:
            return self.http.get(f'{self.url}/healthcheck', timeout=5).status_code == 200
        except requests.ConnectionError:
            return False


class TLSTest(base.TestCase):
    """One deployment for all; each test leaves it working."""

    TIMEOUT_SCALING_FACTOR = 5

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.authority = cls.use(certificates.Authority())
        cls.client_files = cls.authority.issue('service')
        certificate, key = cls.client_files
        rabbit = cls.use(TLSBroker(cls.authority))
        postgres = cls.use(
            TLSPostgreSQL(
                cls.authority,
                {
                    'sslmode': 'verify-full',
                    'sslrootcert': cls.authority.certificate,
                    'sslcert': certificate,
                    'sslkey': key,
                },
            )
        )
        identity = cls.use(
            keystone.Keystone(certificate=cls.authority.issue('keystone'), ca=cls.authority.certificate)
        )
        cls.sender = identity.user('nova', 'service')
        cls.api_files = cls.authority.issue('api')
        cls.router = cls.use(
            TLSDeployment(
                authority=cls.authority,
                transport_url=rabbit.url(),
                connection=postgres.url,
                hosts=['host-a'],
                hosts_of={SERVER: ['host-a']},
                oslo_messaging_rabbit__ssl='true',
                oslo_messaging_rabbit__ssl_ca_file=cls.authority.certificate,
                oslo_messaging_rabbit__ssl_cert_file=certificate,
                oslo_messaging_rabbit__ssl_key_file=key,
                api__auth_strategy='keystone',
                api__workers=1,
                resolver__workers=1,
                api__tls_cert_file=cls.api_files[0],
                api__tls_key_file=cls.api_files[1],
                api__tls_client_ca_file=cls.authority.certificate,
                **identity.options('nova', cafile=cls.authority.certificate),
            )
        )

    @classmethod
    def use(cls, fixture):
        fixture.setUp()
        cls.addClassCleanup(fixture.cleanUp)
        return fixture

    def post(self, **arguments):
        return self.router.http.post(
            f'{self.router.url}/v2.1/os-server-external-events',
            json={'events': [EVENT]},
            headers={'X-Auth-Token': self.sender.get_token()},
            timeout=deployment.PATIENCE,
            **arguments,
        )

    def test_an_event_arrives(self):
        answer = self.post()
        self.assertEqual(
            (200, [200]), (answer.status_code, [each['code'] for each in answer.json()['events']])
        )
        document = self.router.http.get(self.router.url, timeout=60).json()
        self.assertTrue(document['versions'][0]['links'][0]['href'].startswith('https://'), document)

    def test_accepted_client_certificates(self):
        self.assertRaises(requests.exceptions.SSLError, self.post, verify=True)
        self.assertRaises(
            requests.exceptions.ConnectionError,
            requests.get,
            self.router.url,
            timeout=60,
            verify=self.router.http.verify,
        )
        plain = self.router.url.replace('https', 'http')
        self.assertRaises(requests.exceptions.ConnectionError, requests.get, plain, timeout=60)

    def test_a_certificate_is_replaced_without_a_restart(self):
        before = self.serial_number()
        api = self.router.api.process
        replaced = self.api_workers()
        self.authority.issue('api')
        api.send_signal(signal.SIGHUP)
        deployment.wait_until(lambda: self.serial_number() != before, 'the new certificate')
        # The server closes a connection whose TLS handshake is not complete when its worker ends.
        deployment.wait_until(lambda: not replaced & self.api_workers(), 'the end of the worker')
        self.assertEqual(200, self.post().status_code)

    def api_workers(self):
        # Not the process of multiprocessing that cleans up, which stays until the end.
        started = services.children(self.router.api.process.pid)
        titles = {pid: pathlib.Path(f'/proc/{pid}/cmdline') for pid in started}
        return {pid for pid, title in titles.items() if title.exists() and 'worker-' in title.read_text()}

    def serial_number(self):
        return ssl.get_server_certificate(('127.0.0.1', self.router.port), timeout=60)

    def test_untrusted_broker_is_reported_at_start(self):
        other_authority = self.useFixture(certificates.Authority()).certificate
        status, text = self.run_api(oslo_messaging_rabbit__ssl_ca_file=other_authority)
        self.assertEqual(1, status)
        self.assertIn('[DEFAULT] transport_url: RabbitMQ accepts no connection', text)
        self.assertIn('certificate verify failed', text)

    def test_unusable_files_are_reported_at_start(self):
        # NOTE: one start, for that takes a while; the other ways are in tests/unit/process/test_tls.py.
        encrypted = self.authority.issue('encrypted', password='key-7b3e9d1f')[1]
        status, text = self.run_api(api__tls_key_file=encrypted)
        self.assertEqual(1, status, text)
        self.assertIn('[api] tls_key_file: is encrypted, or does not belong', text)
        self.assertNotIn('Traceback', text)

    def test_keystone_that_is_not_trusted_is_503(self):
        other_authority = self.useFixture(certificates.Authority()).certificate
        port = deployment.free_port()
        config = self.router.write_config(
            'stranger.conf', keystone_authtoken__cafile=other_authority, api__bind_port=port, api__workers=1
        )
        self.useFixture(
            deployment.Process(
                'stranger',
                [deployment.BIN / 'external-events-api', '--config-file', config],
                self.router.folder,
            )
        )
        url = f'https://127.0.0.1:{port}'

        def answers():
            try:
                return self.router.http.get(f'{url}/healthcheck', timeout=5).ok
            except requests.ConnectionError:
                return False

        deployment.wait_until(answers, 'the API')
        answer = self.router.http.post(
            f'{url}/v2.1/os-server-external-events',
            data=json.dumps({'events': [EVENT]}),
            headers={'X-Auth-Token': self.sender.get_token(), 'Content-Type': 'application/json'},
            timeout=60,
        )
        self.assertEqual(503, answer.status_code, answer.text)

    def run_api(self, **options):
        port = deployment.free_port()
        config = self.router.write_config('changed.conf', api__bind_port=port, **options)
        process = self.useFixture(
            deployment.Process(
                'changed',
                [deployment.BIN / 'external-events-api', '--config-file', config],
                self.router.folder,
            )
        )
        return process.process.wait(deployment.PATIENCE), process.text()


class BrokerTest(base.TestCase):
    """How an agent verifies the broker, which is one for all tests."""

    TIMEOUT_SCALING_FACTOR = 3

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.authority = cls.use(certificates.Authority())
        cls.rabbit = cls.use(TLSBroker(cls.authority))

    @classmethod
    def use(cls, fixture):
        fixture.setUp()
        cls.addClassCleanup(fixture.cleanUp)
        return fixture

    def setUp(self):
        super().setUp()
        self.files = self.authority.issue('service')

    def start_agent(self, name, *, environment=(), lines='', ca=''):
        """An agent of a host of its own, with the trust store of OpenSSL's variable."""
        config = self.rabbit.folder / f'{name}.conf'
        certificate, key = self.files
        config.write_text(
            f'[DEFAULT]\ntransport_url = {self.rabbit.url()}\n[oslo_messaging_rabbit]\nssl = true\n'
            f'ssl_ca_file = {ca}\nssl_cert_file = {certificate}\nssl_key_file = {key}\n{lines}\n'
        )
        command = [deployment.BIN / 'external-events-agent', '--config-file', config, '--host', name]
        process = deployment.Process(
            name, command, self.rabbit.folder, environment={**os.environ, **dict(environment)}
        )
        return self.useFixture(process)

    def assert_stops(self, agent):
        agent.wait_for('started')
        agent.stop()
        self.assertNotIn('Traceback', agent.text())

    def test_without_a_ca_file_the_trust_store_of_the_system_decides(self):
        trusts = {'SSL_CERT_FILE': str(self.authority.certificate)}
        trusting = self.start_agent('trusting', environment=trusts)
        suspicious = self.start_agent('suspicious')
        self.assertEqual(1, suspicious.process.wait(deployment.PATIENCE), suspicious.text())
        self.assertIn('certificate verify failed', suspicious.text())
        self.assert_stops(trusting)

    def test_without_verification(self):
        self.files[1].chmod(0o644)
        agent = self.start_agent('careless', lines='[broker]\nverify_tls = false')
        self.assert_stops(agent)
        self.assertIn('verify_tls is false: the certificate of the broker is not verified', agent.text())
        self.assertIn('expires in 0 days', agent.text())
        self.assertIn('can be read by every user', agent.text())

    def test_with_a_ca_file(self):
        self.assert_stops(self.start_agent('ordinary', ca=self.authority.certificate))


class MariaDBTest(base.TestCase):
    """The other database: by the service's own connections, without the rest of it."""

    TIMEOUT_SCALING_FACTOR = 5

    def setUp(self):
        super().setUp()
        authority = self.useFixture(certificates.Authority())
        self.server = self.useFixture(TLSMariaDB(authority))

    def manage(self, connection):
        config = self.server.folder / 'router.conf'
        config.write_text(f'[database]\nconnection = {connection}\n')
        return subprocess.run(
            [deployment.BIN / 'external-events-manage', '--config-file', config, 'db', 'upgrade'],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=deployment.PATIENCE,
        )

    def test_trusted_certificates(self):
        other_authority = self.useFixture(certificates.Authority()).certificate
        plain = self.server.url.partition('?')[0]
        for query, expected in (
            ('?ssl_disabled=true', 'OperationalError'),
            (f'?ssl_ca={other_authority}', 'certificate verify failed'),
            ('?ssl_ca=/nonexistent/ca.pem', 'No such file'),
        ):
            done = self.manage(plain + query)
            self.assertEqual(1, done.returncode, done.stderr)
            self.assertIn('the database is unavailable', done.stderr)
            self.assertIn(expected, done.stderr)
            self.assertNotIn('Traceback', done.stderr)
        self.assertEqual(0, self.manage(self.server.url).returncode)
        with self.server.connection() as connection:
            version = connection.exec_driver_sql("SHOW STATUS LIKE 'Ssl_version'").one()[1]
        self.assertTrue(version.startswith('TLS'), version)
