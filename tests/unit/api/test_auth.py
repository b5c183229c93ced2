"""Who the caller is taken for."""

from __future__ import annotations

from typing import Any

from external_events_router import exceptions
from external_events_router.api import auth
from tests import base
from tests.unit.api import client

EVENT = {'name': 'network-changed', 'server_uuid': client.PLACED}


class NoAuthTest(base.TestCase):
    def test_everybody_is_the_service(self) -> None:
        front = client.Client(authenticate=auth.noauth)
        for path in (client.PATH, f'/v2.1/{client.PROJECT}/os-server-external-events'):
            self.assertEqual(200, front.post([EVENT], path=path).status)
            self.assertEqual(['service'], front.resolver.contexts[-1].roles)
        self.assertEqual(client.PROJECT, front.resolver.contexts[-1].project_id)

    def test_nobody_can_claim_to_be_somebody(self) -> None:
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

    def test_the_log_says_so_loudly(self) -> None:
        auth.from_conf(client.make_conf(api__auth_strategy='noauth'))
        self.assertIn('WARNING', self.logs.output)
        self.assertIn('EVERY CALLER IS THE SERVICE ROLE', self.logs.output)


class KeystoneTest(base.TestCase):
    """No Keystone is asked: these requests do not get that far."""

    def test_without_a_token(self) -> None:
        front = self.front()
        for method, headers in (('POST', {}), ('GET', {}), ('POST', {'X-Roles': 'service'})):
            reply = front.call(method, client.PATH, b'{', headers)
            self.assertEqual(401, reply.status)
            self.assertEqual(401, reply.json['error']['code'])
            self.assertEqual('Keystone uri="http://keystone.test"', reply.headers['www-authenticate'])
            self.assertIn('x-openstack-request-id', reply.headers)
            self.assertNotIn('openstack-api-version', reply.headers)

    def test_a_body_that_is_too_large_is_refused_before(self) -> None:
        reply = self.front().call('POST', client.PATH, headers={'Content-Length': str(2**30)})
        self.assertEqual(413, reply.status)

    def test_a_section_that_cannot_work(self) -> None:
        for overrides in ({}, {'keystone_authtoken__auth_type': 'no-such-plugin'}):
            problem = self.assertRaises(
                exceptions.ConfigurationError, client.app.make_app, client.make_conf(**overrides), None
            )
            self.assertIn('[keystone_authtoken] auth_type', str(problem))

    def front(self) -> client.Client:
        conf = client.make_conf(
            keystone_authtoken__auth_type='password',
            keystone_authtoken__auth_url='http://keystone.test',
            keystone_authtoken__www_authenticate_uri='http://keystone.test',
        )
        return client.Client(authenticate=auth.from_conf(conf))
