"""The routing of paths to handlers, and the headers of every response."""

from __future__ import annotations

import json
import re
from typing import Any

from external_events_router.api import app
from tests import base
from tests.unit.api import client

EVENT = {'name': 'network-changed', 'server_uuid': client.PLACED}
VERSION_HEADERS = ('openstack-api-version', 'x-openstack-nova-api-version', 'vary')


class RoutingTest(base.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.app = client.Client()

    def test_paths_of_the_resource(self) -> None:
        for path in (
            '/v2.1/os-server-external-events',
            '//v2.1/os-server-external-events',
            '/v2.1//os-server-external-events',
            '/v2.1/os-server-external-events?foo=bar',
            f'/v2.1/{client.PROJECT}/os-server-external-events',
            '/v2/os-server-external-events',
            f'/v2/{client.PROJECT}/os-server-external-events',
        ):
            reply = self.app.post([EVENT], path=path)
            self.assertEqual((path, 200), (path, reply.status))
            self.assertEqual('application/json', reply.headers['content-type'])
            self.assertEqual('v2.1/' in path, 'vary' in reply.headers)

    def test_unknown_paths(self) -> None:
        for path in (
            '/v2.1/nothing-here',
            '/v2.1/os-server-external-events/',
            '/v2.1/os-server-external-events/1',
            '/v2.1/os-server-external-events.json',
            '/v2.1/OS-SERVER-EXTERNAL-EVENTS',
            '/v2.1/my-project/os-server-external-events',
            f'/v2.1/{client.PROJECT}/nothing-here',
            f'/v2.1/{client.PROJECT}',
            '/v2/nothing-here',
        ):
            reply = self.app.post([EVENT], {'OpenStack-API-Version': 'compute bogus'}, path=path)
            self.assertEqual((path, 404, ('itemNotFound', 404)), (path, reply.status, reply.fault))
            self.assertFalse(set(VERSION_HEADERS) & set(reply.headers))

    def test_methods_of_the_resource(self) -> None:
        for path in (client.PATH, '/v2/os-server-external-events'):
            for method in ('GET', 'PUT', 'PATCH', 'DELETE', 'TRACE', 'BREW'):
                reply = self.app.call(method, path)
                self.assertEqual((method, 404), (method, reply.status))
                self.assertEqual(('itemNotFound', 404), reply.fault)
                self.assertNotIn('allow', reply.headers)

    def test_options(self) -> None:
        app = client.Client(authenticate=_nobody)
        for path in (client.PATH, '/v2/x', '/v3'):
            reply = app.call('OPTIONS', path)
            self.assertEqual((200, b'', {'content-length': '0'}), (reply.status, reply.body, reply.headers))

    def test_head(self) -> None:
        reply = self.app.call('HEAD', '/v2.1/nothing-here')
        self.assertEqual((404, b''), (reply.status, reply.body))
        self.assertEqual((200, b''), (self.app.call('HEAD', '/').status, reply.body))

    def test_health_needs_no_token(self) -> None:
        self.assertEqual(200, client.Client(authenticate=_nobody).call('GET', '/healthcheck').status)

    def test_readiness_needs_no_token(self) -> None:
        app = client.Client(authenticate=_nobody)
        reply = app.call('GET', '/readiness')
        self.assertEqual((200, 'application/json'), (reply.status, reply.headers['content-type']))
        self.assertEqual('ok', reply.json['parts']['process']['status'])
        self.assertEqual(0, reply.json['parts']['threads']['busy'])
        self.assertEqual(b'', app.call('HEAD', '/readiness').body)

    def test_documents_need_no_token(self) -> None:
        app = client.Client(authenticate=_nobody)
        for path in ('/', '/v2', '/v2/', '/v2.1', '/v2.1/'):
            self.assertEqual((path, 200), (path, app.call('GET', path).status))
        for path in ('/v2.1/nothing-here', client.PATH):
            self.assertEqual((path, 401), (path, app.call('GET', path).status))

    def test_proxy_headers_are_used_if_configured(self) -> None:
        headers = {'X-Forwarded-Proto': 'https', 'X-Forwarded-Host': 'api.example.org'}
        for enabled, expected in (
            (False, 'http://front.test/v2.1/'),
            (True, 'https://api.example.org/v2.1/'),
        ):
            app = client.Client(oslo_middleware__enable_proxy_headers_parsing=enabled)
            reply = app.call('GET', '/v2.1', headers=headers)
            self.assertEqual(expected, reply.json['version']['links'][0]['href'])


class RequestIdTest(base.TestCase):
    FORM = re.compile('req-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}')

    def setUp(self) -> None:
        super().setUp()
        self.app = client.Client()

    def test_every_answer_below_an_endpoint_has_a_new_request_id(self) -> None:
        seen = set()
        for method, path in (('POST', client.PATH), ('GET', '/v2.1/'), ('GET', '/v2/'), ('GET', '/v2.1/x')):
            reply = self.app.call(method, path, b'{')
            own = reply.headers['x-openstack-request-id']
            self.assertEqual(own, reply.headers['x-compute-request-id'])
            self.assertTrue(self.FORM.fullmatch(own), own)
            seen.add(own)
        self.assertEqual(4, len(seen))

    def test_other_answers_have_no_request_id(self) -> None:
        for path in ('/', '/v3'):
            self.assertNotIn('x-openstack-request-id', self.app.call('GET', path).headers)

    def test_request_id_of_the_sender_is_passed_to_the_resolver(self) -> None:
        reply = self.app.post([EVENT], {'X-OpenStack-Request-ID': client.REQUEST_ID})
        (ctxt,) = self.app.resolver.contexts
        self.assertEqual(client.REQUEST_ID, ctxt.global_request_id)
        self.assertEqual(reply.headers['x-openstack-request-id'], ctxt.request_id)
        self.assertNotEqual(client.REQUEST_ID, ctxt.request_id)

    def test_invalid_request_id_is_not_used(self) -> None:
        for value in (
            '',
            'req-1',
            client.REQUEST_ID.upper(),
            f'{client.REQUEST_ID} x',
            f'{client.REQUEST_ID}, a',
        ):
            self.assertEqual(200, self.app.post([EVENT], {'X-OpenStack-Request-ID': value}).status)
            self.assertIsNone(self.app.resolver.contexts[-1].global_request_id)

    def test_repeated_batch_has_the_same_ids(self) -> None:
        for headers in ({'X-OpenStack-Request-ID': client.REQUEST_ID}, {}):
            self.app.resolver.batches.clear()
            for _ in range(2):
                self.app.post([EVENT, EVENT], headers)
            first, second = ([event.id for event in batch] for batch in self.app.resolver.batches)
            self.assertEqual(bool(headers), first == second)
            self.assertEqual(2, len(set(first)))

    def test_token_is_not_passed_to_the_resolver(self) -> None:
        self.app.post([EVENT], {'X-Auth-Token': 'secret', 'X-Service-Token': 'secret'})
        self.assertNotIn('secret', json.dumps(self.app.resolver.contexts[0].to_dict()))


def _nobody(inner: object) -> client.auth.WSGIApp:
    def refuse(environ: object, start_response: client.Any) -> list[bytes]:
        start_response('401 Unauthorized', [('Content-Type', 'text/plain')])
        return [b'no']

    return refuse


class HealthTest(base.TestCase):
    """``/healthcheck`` of a process with a failed thread."""

    def test_response_contains_the_reason(self) -> None:
        reasons = [None, 'thread casts ended with ValueError']
        health = app.Health(app_that_is_well, lambda: reasons[0])
        self.assertEqual(('200 OK', b'OK'), self.ask(health, 'GET'))
        reasons.pop(0)
        self.assertEqual(('503 Service Unavailable', f'{reasons[0]}\n'.encode()), self.ask(health, 'GET'))
        self.assertEqual(('503 Service Unavailable', b''), self.ask(health, 'HEAD'))

    def ask(self, health: app.Health, method: str) -> tuple[str, bytes]:
        said: list[str] = []
        body = health({'REQUEST_METHOD': method}, lambda status, _headers: said.append(status))
        return said[0], b''.join(body)


def app_that_is_well(_environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response('200 OK', [])
    return [b'OK']
