"""``external-events-manage health``: the exit status for a container."""

from __future__ import annotations

import ssl

import fixtures

from external_events_router.process import health_server
from external_events_router.process import readiness
from tests import base
from tests import certificates
from tests import interpreter

COMMAND = 'import sys; from external_events_router.cmd import manage; sys.exit(manage.main())'


class HealthCommandTest(base.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.reason: str | None = None
        answers = readiness.Readiness(lambda: self.reason)
        self.server = health_server.HealthServer(health_server.make_server(('127.0.0.1', 0), answers))
        self.server.start()
        self.addCleanup(self.server.stop)

    def ask(self, service: str, options: str, *more: str) -> tuple[int, str, str]:
        (path,) = self.create_tempfiles([('router', options)])
        done = interpreter.run(COMMAND, '--config-file', path, 'health', '--service', service, *more)
        return done.returncode, done.stdout, done.stderr

    def test_agent(self) -> None:
        options = f'[health]\nbind_port = {self.server.port}\n'
        status, out, err = self.ask('agent', options)
        self.assertEqual(0, status, out + err)
        self.assertIn('process', out)
        self.reason = 'thread x ended'
        status, out, err = self.ask('agent', options)
        self.assertEqual(1, status, out + err)
        self.assertIn('thread x ended', out)

    def test_api(self) -> None:
        status, out, err = self.ask('api', f'[api]\nbind_port = {self.server.port}\n')
        self.assertEqual(0, status, out + err)

    def test_proxy_is_not_asked(self) -> None:
        self.useFixture(fixtures.EnvironmentVariable('http_proxy', 'http://127.0.0.1:1'))
        status, out, err = self.ask('agent', f'[health]\nbind_port = {self.server.port}\n')
        self.assertEqual(0, status, out + err)

    def test_no_answer(self) -> None:
        self.server.stop()
        status, out, err = self.ask('agent', f'[health]\nbind_port = {self.server.port}\n')
        self.assertEqual(1, status, out + err)
        self.assertIn('no answer', out)

    def test_without_a_port(self) -> None:
        status, _out, err = self.ask('resolver', '')
        self.assertEqual(1, status)
        self.assertIn('[health] bind_port', err)

    def test_api_that_requires_certificates_of_its_clients(self) -> None:
        authority = self.useFixture(certificates.Authority())
        cert, key = map(str, authority.issue('server'))
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(cert, key)
        tls.load_verify_locations(authority.certificate)
        tls.verify_mode = ssl.CERT_REQUIRED
        answers = readiness.Readiness()
        listening = health_server.make_server(('127.0.0.1', 0), answers)
        listening.socket = tls.wrap_socket(listening.socket, server_side=True)
        server = health_server.HealthServer(listening)
        server.start()
        self.addCleanup(server.stop)
        options = (
            f'[api]\nbind_port = {server.port}\ntls_cert_file = {cert}\ntls_key_file = {key}\n'
            f'tls_client_ca_file = {authority.certificate}\n'
        )
        status, out, err = self.ask('api', options)
        self.assertEqual(1, status, out + err)
        self.assertIn('--cert, --key: are missing, but [api] tls_client_ca_file requires', err)
        status, out, err = self.ask('api', options, '--cert', '/nowhere', '--key', key)
        self.assertEqual(1, status, out + err)
        self.assertIn('--cert, --key: cannot be used', err)
        status, out, err = self.ask('api', options, '--cert', cert, '--key', key)
        self.assertEqual(0, status, out + err)
