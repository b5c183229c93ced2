"""The version documents, and the versions that a request can ask for."""

from __future__ import annotations

from tests import base
from tests.unit.api import client

BASE = 'http://front.test'
V2 = {
    'id': 'v2.0',
    'status': 'DEPRECATED',
    'version': '',
    'min_version': '',
    'updated': '2025-07-04T12:00:00Z',
    'links': [{'rel': 'self', 'href': f'{BASE}/v2/'}],
}
V21 = {
    'id': 'v2.1',
    'status': 'CURRENT',
    'version': '2.104',
    'min_version': '2.1',
    'updated': '2013-07-23T11:33:21Z',
    'links': [{'rel': 'self', 'href': f'{BASE}/v2.1/'}],
}
DESCRIBED = {'rel': 'describedby', 'type': 'text/html', 'href': 'http://docs.openstack.org/'}


def media_type(version: str) -> dict[str, str]:
    return {'base': 'application/json', 'type': f'application/vnd.openstack.compute+json;version={version}'}


class DocumentTest(base.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.app = client.Client()

    def test_root_document(self) -> None:
        for method, path in (('GET', '/'), ('GET', '//'), ('GET', '/?a=b'), ('POST', '/'), ('OPTIONS', '/')):
            reply = self.app.call(method, path)
            self.assertEqual((200, 'application/json'), (reply.status, reply.headers['content-type']))
            self.assertEqual({'versions': [V2, V21]}, reply.json)

    def test_endpoint_documents(self) -> None:
        for path in ('/v2.1', '/v2.1/'):
            reply = self.app.call('GET', path)
            self.assertEqual('compute 2.1', reply.headers['openstack-api-version'])
            expected = {**V21, 'links': [*V21['links'], DESCRIBED], 'media-types': [media_type('2.1')]}
            self.assertEqual({'version': expected}, reply.json)
        reply = self.app.call('GET', '/v2/')
        self.assertNotIn('openstack-api-version', reply.headers)
        expected = {**V2, 'links': [*V2['links'], DESCRIBED], 'media-types': [media_type('2')]}
        self.assertEqual({'version': expected}, reply.json)

    def test_unknown_paths_list_the_endpoints(self) -> None:
        for path, rest in (
            ('/v3', 'v3'),
            ('/foo/bar', 'foo/bar'),
            ('/V2.1/', 'V2.1'),
            ('/v2.1x/os-server-external-events', 'v2.1x/os-server-external-events'),
        ):
            reply = self.app.call('GET', path)
            self.assertEqual(300, reply.status)
            first, second = reply.json['choices']
            self.assertEqual(f'{BASE}/v2/{rest}', first['links'][0]['href'])
            self.assertEqual(
                {
                    'id': 'v2.1',
                    'status': 'CURRENT',
                    'links': [{'rel': 'self', 'href': f'{BASE}/v2.1/{rest}'}],
                    'media-types': [media_type('2.1')],
                },
                second,
            )

    def test_any_method_is_accepted(self) -> None:
        for path in ('/', '/v2', '/v2.1/'):
            document = self.app.call('GET', path)
            for method in ('POST', 'PUT', 'OPTIONS', 'DELETE', 'HEAD', 'BREW'):
                reply = self.app.call(method, path)
                self.assertEqual(
                    (200, b'' if method == 'HEAD' else document.body), (reply.status, reply.body)
                )

    def test_root_with_a_project(self) -> None:
        reply = self.app.call('GET', f'/v2.1/{client.PROJECT}/')
        self.assertEqual((200, self.app.call('GET', '/v2.1/').json), (reply.status, reply.json))
        for method, path, status in (
            ('GET', f'/v2/{client.PROJECT}/', 200),
            ('GET', f'/v2.1/{client.PROJECT}', 404),
            ('POST', f'/v2.1/{client.PROJECT}/', 404),
            ('GET', '/v2.1/0123456789abcdef0123456789abcdef/', 400),
            ('GET', '/v2.1/servers/', 404),
        ):
            self.assertEqual((path, status), (path, self.app.call(method, path).status))

    def test_path_in_a_link_is_escaped(self) -> None:
        # As WSGI passes /a b/%C3%A9%FF?
        reply = self.app.call('GET', '/a b/\xc3\xa9\xff')
        self.assertEqual(f'{BASE}/v2/a%20b/%C3%A9%FF', reply.json['choices'][0]['links'][0]['href'])

    def test_media_type_of_the_body_is_checked_here_too(self) -> None:
        for path in ('/', '/v2', '/v2.1', '/v3'):
            reply = self.app.call('GET', path, headers={'Content-Type': 'text/xml'})
            self.assertEqual((path, 415), (path, reply.status))


class NegotiationTest(base.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.app = client.Client()

    def ask(self, **headers: str) -> client.Reply:
        return self.app.call('GET', '/v2.1/', headers={k.replace('_', '-'): v for k, v in headers.items()})

    def test_requested_version_is_in_both_headers(self) -> None:
        for headers, version in (
            ({}, '2.1'),
            ({'OpenStack_API_Version': 'compute 2.93'}, '2.93'),
            ({'OpenStack_API_Version': 'Compute\t2.93,'}, '2.93'),
            ({'OpenStack_API_Version': 'volume 3.50, compute 2.51'}, '2.51'),
            ({'OpenStack_API_Version': 'compute 2.51,compute 2.93'}, '2.93'),
            ({'OpenStack_API_Version': 'compute latest'}, '2.104'),
            ({'X_OpenStack_Nova_API_Version': 'latest'}, '2.104'),
            ({'X_OpenStack_Nova_API_Version': '2.76'}, '2.76'),
            ({'X_OpenStack_Nova_API_Version': '2.51', 'OpenStack_API_Version': 'compute 2.93'}, '2.93'),
            # For another service or without a service: like a request without a version.
            ({'OpenStack_API_Version': '2.93'}, '2.1'),
            ({'OpenStack_API_Version': 'volume 3.50'}, '2.1'),
            ({'OpenStack_API_Version': 'compute2.93'}, '2.1'),
            ({'OpenStack_API_Version': ''}, '2.1'),
        ):
            reply = self.ask(**headers)
            self.assertEqual((headers, 200), (headers, reply.status))
            self.assertEqual(f'compute {version}', reply.headers['openstack-api-version'])
            self.assertEqual(version, reply.headers['x-openstack-nova-api-version'])
            self.assertEqual('OpenStack-API-Version, X-OpenStack-Nova-API-Version', reply.headers['vary'])

    def test_version_out_of_range(self) -> None:
        for version in ('2.105', '2.0', '3.0', '1.1', '2.999999999999', f'2.1{"0" * 30}'):
            reply = self.ask(OpenStack_API_Version=f'compute {version}')
            self.assertEqual((406, ('computeFault', 406)), (reply.status, reply.fault))
            self.assertEqual(f'compute {version}', reply.headers['openstack-api-version'])
            self.assertIn('Minimum is 2.1 and maximum is 2.104', reply.message)

    def test_malformed_version(self) -> None:
        for version in (
            'LATEST',
            'bogus',
            '2',
            '2.01',
            '2.1.1',
            '-2.1',
            '2.x',
            '\u00b2.1',
            '2.' + '9' * 5000,
        ):
            for headers in (
                {'OpenStack_API_Version': f'compute {version}'},
                {'X_OpenStack_Nova_API_Version': version},
            ):
                reply = self.ask(**headers)
                self.assertEqual((400, ('badRequest', 400)), (reply.status, reply.fault))
                self.assertNotIn('openstack-api-version', reply.headers)
                self.assertLess(len(reply.message), 200)
        self.assertEqual(400, self.ask(X_OpenStack_Nova_API_Version='').status)

    def test_version_is_checked_before_the_body(self) -> None:
        reply = self.app.call('POST', client.PATH, b'{', {'OpenStack-API-Version': 'compute 2.999'})
        self.assertEqual(406, reply.status)
