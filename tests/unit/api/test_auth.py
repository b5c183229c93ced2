"""The identification of the client of a request."""

from __future__ import annotations

import datetime
import http.server
import inspect
import socket
import threading
from typing import Any

import fixtures
from keystoneauth1 import exceptions as ksa_exceptions
from keystonemiddleware.auth_token import _exceptions as keystonemiddleware_exceptions
from oslo_config import cfg

from external_events_router import exceptions
from external_events_router.api import auth
from external_events_router.api import token_cache
from tests import base
from tests.unit.api import client

EVENT = {'name': 'network-changed', 'server_uuid': client.PLACED}


def token_data() -> dict[str, Any]:
    """The data that Keystone returns for a token with the role service."""
    hour = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=1)
    return {
        'methods': ['password'],
        'expires_at': hour.strftime('%Y-%m-%dT%H:%M:%S.000000Z'),
        'issued_at': '2026-01-01T00:00:00.000000Z',
        'audit_ids': ['an-id'],
        'user': {'id': 'a-user', 'name': 'neutron', 'domain': {'id': 'default', 'name': 'Default'}},
        'project': {'id': client.PROJECT, 'name': 'service', 'domain': {'id': 'default', 'name': 'Default'}},
        'roles': [{'id': 'a-role', 'name': 'service'}],
    }


class NoAuthTest(base.TestCase):
    def test_every_client_has_the_role_service(self) -> None:
        app = client.Client(authenticate=auth.noauth)
        for path in (client.PATH, f'/v2.1/{client.PROJECT}/os-server-external-events'):
            self.assertEqual(200, app.post([EVENT], path=path).status)
            self.assertEqual(['service'], app.resolver.contexts[-1].roles)
        self.assertEqual(client.PROJECT, app.resolver.contexts[-1].project_id)

    def test_headers_of_a_client_cannot_claim_an_identity(self) -> None:
        seen: dict[str, Any] = {}

        def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
            seen.update(environ)
            return []

        claims = {
            f'HTTP_{name}': 'claimed'
            for name in (
                'X_ROLES',
                'X_ROLE',
                'X_USER',
                'X_USER_ID',
                'X_PROJECT_DOMAIN_ID',
                'X_TENANT_ID',
                'X_SERVICE_ROLES',
                'X_AUTH_TOKEN',
                'X_IS_ADMIN_PROJECT',
                'OPENSTACK_SYSTEM_SCOPE',
            )
        }
        auth.noauth(app)({'PATH_INFO': '/v2.1/x', 'HTTP_ACCEPT': 'kept', **claims}, None)  # type: ignore[arg-type]
        self.assertNotIn('claimed', seen.values())
        self.assertEqual('kept', seen['HTTP_ACCEPT'])

    def test_missing_authentication_is_logged_as_a_warning(self) -> None:
        auth.from_conf(client.make_conf(api__auth_strategy='noauth'))
        self.assertIn('WARNING', self.logs.output)
        self.assertIn('every client has the role service', self.logs.output)


class Refusing(http.server.BaseHTTPRequestHandler):
    """Answers as Keystone to a wrong password."""

    def do_POST(self) -> None:
        body = b'{"error": {"code": 401, "message": "not authorized", "title": "Unauthorized"}}'
        self.send_response(401)
        self.send_header('Content-Type', 'application/json')
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST

    def log_message(self, format: str, *args: object) -> None:
        pass


class KeystoneTest(base.TestCase):
    """These requests are answered before Keystone would be queried."""

    def test_request_without_a_token(self) -> None:
        app = self.app()
        for method, headers in (('POST', {}), ('GET', {}), ('POST', {'X-Roles': 'service'})):
            reply = app.call(method, client.PATH, b'{', headers)
            self.assertEqual(401, reply.status)
            self.assertEqual(401, reply.json['error']['code'])
            self.assertEqual('Keystone uri="http://keystone.test"', reply.headers['www-authenticate'])
            self.assertIn('x-openstack-request-id', reply.headers)
            self.assertNotIn('openstack-api-version', reply.headers)

    def test_body_that_is_too_large_is_refused_first(self) -> None:
        reply = self.app().call('POST', client.PATH, headers={'Content-Length': str(2**30)})
        self.assertEqual(413, reply.status)

    def test_section_with_missing_options(self) -> None:
        for overrides in ({}, {'keystone_authtoken__auth_type': 'no-such-plugin'}):
            problem = self.assertRaises(
                exceptions.ConfigurationError, client.app.make_app, client.make_conf(**overrides), None
            )
            self.assertIn('[keystone_authtoken] auth_type', str(problem))

    def test_unavailable_keystone_is_503(self) -> None:
        for error in (
            ksa_exceptions.ConnectTimeout(),
            ksa_exceptions.SSLError(),
            ksa_exceptions.UnknownConnectionError('cut', None),
            ksa_exceptions.EndpointNotFound(),
            ksa_exceptions.ConnectFailure(),
            keystonemiddleware_exceptions.ServiceError(),
        ):
            asking = fixtures.MockPatch(
                'keystonemiddleware.auth_token._identity.IdentityServer.verify_token',
                autospec=True,
                side_effect=error,
            )
            with asking:
                reply = self.app().post([EVENT], {'X-Auth-Token': 'some-token-of-somebody'})
            self.assertEqual((503, ('serviceUnavailable', 503)), (reply.status, reply.fault), repr(error))
            self.assertEqual('application/json; charset=UTF-8', reply.headers['content-type'])
        self.assertNotIn('some-token-of-somebody', self.logs.output)

    def test_login_of_the_service_user(self) -> None:
        """A server that answers as Keystone does to a wrong password, and then none."""
        refusing = http.server.HTTPServer(('127.0.0.1', 0), Refusing)
        threading.Thread(target=refusing.serve_forever, daemon=True).start()
        self.addCleanup(refusing.server_close)
        self.addCleanup(refusing.shutdown)
        url = f'http://127.0.0.1:{refusing.server_port}/v3'
        values = {
            'auth_type': 'v3password',
            'auth_url': url,
            'username': 'router',
            'password': 'pass-2b9d',
            'user_domain_id': 'default',
        }
        app = self.app(**values)
        conf = self.conf(**values)
        auth.keystone(conf)
        auth.check_service_user(conf)
        self.assertIn('Keystone refuses the service user: correct username, password', self.logs.output)
        self.assertNotIn('cannot be reached', self.logs.output)
        # The same while the service runs.
        reply = app.post([EVENT], {'X-Auth-Token': 'a-token'})
        self.assertEqual(503, reply.status)
        self.assertEqual(2, self.logs.output.count('Keystone refuses the service user'))
        with socket.create_server(('127.0.0.1', 0)) as unused:
            port = unused.getsockname()[1]
        conf = self.conf(**{**values, 'auth_url': f'http://127.0.0.1:{port}/v3'})
        auth.keystone(conf)
        auth.check_service_user(conf)
        self.assertIn('Keystone cannot be reached (ConnectFailure): check auth_url', self.logs.output)
        self.assertNotIn('pass-2b9d', self.logs.output)

    def test_malformed_token_is_not_sent_to_keystone(self) -> None:
        asked = self.useFixture(
            fixtures.MockPatch(
                'keystonemiddleware.auth_token._identity.IdentityServer.verify_token',
                autospec=True,
                side_effect=lambda *_args, **_kwargs: {'token': token_data()},
            )
        ).mock
        app = self.app()
        longest = 'a' * auth.MAX_TOKEN_LENGTH
        bad = (longest + 'a', 'a' * 60_000, 'a b', 'a\tb', 'a\x00b', 'a\x7f', '\xe9', 'a\u20ac', '\x1b[2J')
        for token in bad:
            for headers in (
                {'X-Auth-Token': token},
                {'X-Storage-Token': token},
                {'X-Auth-Token': 'a-token', 'X-Service-Token': token},
            ):
                asked.reset_mock()
                reply = app.post([EVENT], headers)
                self.assertEqual((401, token), (reply.status, token))
                self.assertEqual('Keystone uri="http://keystone.test"', reply.headers['www-authenticate'])
                self.assertNotIn(token, [call.args[1] for call in asked.call_args_list])
        self.assertNotIn('a' * 1000, self.logs.output)
        self.assertEqual(200, app.post([EVENT], {'X-Auth-Token': longest}).status)

    def test_response_of_keystone_is_cached(self) -> None:
        caches = []

        class Cache(token_cache.TokenCache):
            def __init__(self, size: int) -> None:
                super().__init__(size)
                caches.append(self)

        self.useFixture(fixtures.MonkeyPatch('external_events_router.api.token_cache.TokenCache', Cache))
        said = self.useFixture(
            fixtures.MockPatch(
                'keystonemiddleware.auth_token._identity.IdentityServer.verify_token',
                autospec=True,
                side_effect=lambda *_args, **_kwargs: {'token': token_data()},
            )
        ).mock
        app = self.app()
        for _ in range(3):
            reply = app.post([EVENT], {'X-Auth-Token': 'some-token-of-somebody'})
            self.assertEqual(200, reply.status, reply.body)
        self.assertEqual((1, 1), (said.call_count, len(caches[0])))
        self.assertNotIn('some-token-of-somebody', str(caches[0]._entries))

    def test_catalog_is_requested_if_policy_rules_need_it(self) -> None:
        for values, asked in (({}, False), ({'service_type': 'compute'}, True)):
            made = auth.keystone(self.conf(**values))
            tokens = made(lambda environ, start_response: [])
            middleware = inspect.getclosurevars(tokens).nonlocals['app']
            self.assertEqual(asked, middleware._include_service_catalog)
            self.assertEqual(auth.CONNECT_TIMEOUT, middleware._session.timeout)

    def app(self, **values: str) -> client.Client:
        return client.Client(authenticate=auth.from_conf(self.conf(**values)))

    def conf(self, **values: str) -> cfg.ConfigOpts:
        options = {
            'auth_type': 'password',
            'auth_url': 'http://keystone.test',
            'www_authenticate_uri': 'http://keystone.test',
            **values,
        }
        return client.make_conf(**{f'keystone_authtoken__{name}': value for name, value in options.items()})
