"""The middleware around the handlers, each layer alone."""

from __future__ import annotations

from typing import Any

from oslo_context import context as oslo_context

from external_events_router.api import middleware
from tests import base


def ok(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response('200 OK', [('Content-Type', 'text/plain')])
    return [environ.get('PATH_INFO', '').encode()]


class Answer:
    """Stores the response of an application."""

    def __init__(self, app: Any, **environ: Any) -> None:
        self.body = b''.join(app(environ, self.start_response))

    def start_response(self, status: str, headers: list[tuple[str, str]], *_args: Any) -> None:
        self.status, self.headers = status, headers


class PathDispatchTest(base.TestCase):
    def test_paths_are_dispatched(self) -> None:
        def named(name: str) -> Any:
            def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
                start_response('200 OK', [])
                return [name.encode(), b' ', environ['PATH_INFO'].encode()]

            return app

        ways = ('api', 'documents', 'healthcheck', 'readiness', 'elsewhere')
        fork = middleware.PathDispatch(**{name: named(name) for name in ways})
        for path, way in (
            ('/v2.1/a//b/', b'api /v2.1/a/b/'),
            ('/v2/x', b'api /v2/x'),
            ('/v2.1/', b'documents /v2.1'),
            ('//v2', b'documents /v2'),
            ('/healthcheck', b'healthcheck /healthcheck'),
            ('/readiness/', b'readiness /readiness'),
            ('', b'elsewhere /'),
            ('/v2.1x/y', b'elsewhere /v2.1x/y'),
            ('/v20', b'elsewhere /v20'),
        ):
            self.assertEqual(way, Answer(fork, PATH_INFO=path, REQUEST_METHOD='GET').body)

    def test_media_type_may_select_the_endpoint(self) -> None:
        fork = middleware.PathDispatch(api=ok, documents=ok, healthcheck=ok, readiness=ok, elsewhere=ok)
        for media_type, path, way in (
            ('application/json;version=2.1', '/', b'/v2.1'),
            ('application/json;version=2', '/v3', b'/v2'),
            ('application/json;version=3', '/', b'/'),
            ('application/json;version=2', '/v2.1/x', b'/v2.1/x'),
            ('application/json;version=2', '/v2.1', b'/v2.1'),
        ):
            for header in ('CONTENT_TYPE', 'HTTP_ACCEPT'):
                answer = Answer(fork, PATH_INFO=path, REQUEST_METHOD='GET', **{header: media_type})
                self.assertEqual((media_type, path, way), (media_type, path, answer.body))

    def test_options(self) -> None:
        def never(*_args: Any) -> list[bytes]:
            raise AssertionError

        fork = middleware.PathDispatch(api=never, documents=ok, healthcheck=ok, readiness=ok, elsewhere=never)
        for path in ('/v2.1/x', '/v2/', '/v3', '/v2.1/openapi.json'):
            answer = Answer(fork, PATH_INFO=path, REQUEST_METHOD='OPTIONS')
            self.assertEqual('200 OK', answer.status)


class RequestIdsTest(base.TestCase):
    def test_log_finds_the_request_of_the_thread(self) -> None:
        seen = []

        def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
            seen.append(oslo_context.get_current().request_id)
            return ok(environ, start_response)

        answers = [Answer(middleware.RequestIds(app)) for _ in range(2)]
        self.assertEqual(seen, [dict(answer.headers)['x-openstack-request-id'] for answer in answers])
        self.assertNotEqual(seen[0], seen[1])


class CatchAllTest(base.TestCase):
    def test_unexpected_exception_is_a_500(self) -> None:
        def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
            raise ZeroDivisionError('secret')

        answer = Answer(middleware.CatchAll(app))
        self.assertEqual('500 Internal Server Error', answer.status)
        self.assertNotIn(b'secret', answer.body)
        self.assertIn('Traceback', self.logs.output)
