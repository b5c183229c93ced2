"""The project's own cases of requests and answers, through the whole service in one process."""

from __future__ import annotations

import io
import logging
from urllib import parse

from external_events_router.api import app
from external_events_router.resolver import rpcapi
from tests import base
from tests.conformance import cases
from tests.functional import fixtures
from tests.unit.api import client

BASE = 'http://front.test'


class Router(fixtures.Router):
    """The service with the servers of the cases; each request has the identity that its case requires."""

    def __init__(self, **overrides):
        super().__init__(cases.HOSTS_OF, **overrides)

    def _setUp(self):
        super()._setUp()
        resolver = rpcapi.ResolverAPI.from_conf(self.conf, self.transport)
        self.app = app.make_app(self.conf, resolver, authenticate=_caller)

    def send(self, request):
        """Have a request answered.

        :returns: a ``cases.Answer``
        """
        path, _, query = request.path.partition('?')
        body = request.body or b''
        environ = {
            'REQUEST_METHOD': request.method,
            'SCRIPT_NAME': '',
            'PATH_INFO': parse.unquote_to_bytes(path).decode('latin-1'),
            'QUERY_STRING': query,
            'SERVER_NAME': 'front.test',
            'SERVER_PORT': '80',
            'SERVER_PROTOCOL': 'HTTP/1.1',
            'wsgi.version': (1, 0),
            'wsgi.url_scheme': 'http',
            'wsgi.input': io.BytesIO(body),
            'wsgi.errors': io.StringIO(),
            'wsgi.multithread': True,
            'wsgi.multiprocess': False,
            'wsgi.run_once': False,
            'test.roles': ['service'] if request.roles is None else request.roles,
        }
        if request.chunked:
            environ['wsgi.input_terminated'] = True
        elif request.body is not None:
            environ['CONTENT_LENGTH'] = str(len(body))
        for name, value in request.headers:
            key = name.upper().replace('-', '_')
            key = key if key == 'CONTENT_TYPE' else f'HTTP_{key}'
            environ[key] = f'{environ[key]},{value}' if key in environ else value
        reply = client.invoke(self.app, environ)
        return cases.Answer(reply.status, reply.headers, reply.body)


def _caller(inner):
    def authenticate(environ, start_response):
        roles = environ.pop('test.roles')
        if roles:
            return client.identity(*roles, project_id=cases.IDS['project'])(inner)(environ, start_response)
        start_response('401 Unauthorized', [('Content-Type', 'application/json')])
        return [b'{}']

    return authenticate


class ConformanceTest(base.TestCase):
    """A test per file of cases."""

    def judge(self, name):
        router = self.useFixture(Router(api__none_found_status=207))
        found = cases.all_problems(cases.load(name, BASE), router.send)
        self.assertEqual([], found, '\n'.join(found))

    def test_every_file_has_a_test(self):
        tests = {name for name in dir(self) if name.startswith('test_')}
        self.assertEqual(set(), {f'test_{name.replace("-", "_")}' for name in cases.names()} - tests)

    def test_bodies(self):
        self.judge('bodies')

    def test_callers(self):
        self.judge('callers')

    def test_codes(self):
        self.judge('codes')

    def test_content_types(self):
        self.judge('content-types')

    def test_documents(self):
        self.judge('documents')

    def test_names(self):
        self.judge('names')

    def test_routing(self):
        self.judge('routing')

    def test_schema(self):
        self.judge('schema')

    def test_sizes(self):
        # NOTE: a line for each of 10,000 events, several times, is more than a test stream takes.
        logging.getLogger('external_events_router.resolver.router').setLevel(logging.INFO)
        self.addCleanup(logging.getLogger('external_events_router.resolver.router').setLevel, logging.NOTSET)
        self.judge('sizes')

    def test_versions(self):
        self.judge('versions')
