"""The layers around the handlers, each alone."""

from __future__ import annotations

import io
from typing import Any

from oslo_context import context as oslo_context

from external_events_router.api import middleware
from tests import base


def ok(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response('200 OK', [('Content-Type', 'text/plain')])
    return [environ.get('PATH_INFO', '').encode()]


class Answer:
    """Keeps what an application answers."""

    def __init__(self, app: Any, **environ: Any) -> None:
        self.body = b''.join(app(environ, self.start_response))

    def start_response(self, status: str, headers: list[tuple[str, str]], *_args: Any) -> None:
        self.status, self.headers = status, headers


class BodyLimitTest(base.TestCase):
    def test_lengths(self) -> None:
        app = middleware.BodyLimit(ok, max_bytes=100)
        for length, status in (
            ('', 200),
            ('0', 200),
            ('100', 200),
            ('00000100', 200),
            ('101', 413),
            ('1000', 413),
            ('9' * 5000, 413),
            ('-1', 400),
            ('1e3', 400),
            ('\u00b2', 400),
        ):
            # NOTE: not the phrase, which newer releases of Python word otherwise.
            answer = Answer(app, **{'CONTENT_LENGTH': length, 'wsgi.input': io.BytesIO()})
            self.assertEqual((length, status), (length, int(answer.status.split()[0])))

    def test_what_nobody_reads_is_read_unless_it_is_very_large(self) -> None:
        app = middleware.BodyLimit(ok, max_bytes=100)
        most = middleware.DRAINED
        for length, status, left in (
            (99, 200, 0),
            (101, 413, 0),
            (most, 413, 0),
            (most + 1, 413, 1),
            (10**30, 413, 1),
        ):
            body = io.BytesIO(b'x' * min(length, most + 1))
            answer = Answer(app, **{'CONTENT_LENGTH': str(length), 'wsgi.input': body})
            self.assertEqual((length, status), (length, int(answer.status.split()[0])))
            self.assertEqual((length, left), (length, len(body.read(1))))

    def test_a_body_without_a_length_is_read_to_its_end(self) -> None:
        app = middleware.BodyLimit(ok, max_bytes=100)
        for terminated, left in ((True, 0), (False, 1)):
            body = io.BytesIO(b'x' * 1000)
            Answer(app, **{'wsgi.input': body, 'wsgi.input_terminated': terminated})
            self.assertEqual((terminated, left), (terminated, len(body.read(1))))

    def test_nothing_is_read_beyond_the_length(self) -> None:
        # NOTE: a server that does not end the input would block the read.
        class Strict(io.BytesIO):
            def read(self, size: int | None = -1, /) -> bytes:
                assert size == 10, size
                return super().read(size)

        def reading(environ: dict[str, Any], start_response: Any) -> list[bytes]:
            return [environ['wsgi.input'].read(10), *ok(environ, start_response)]

        for app in (ok, reading):
            limited = middleware.BodyLimit(app, max_bytes=100)
            Answer(limited, **{'CONTENT_LENGTH': '10', 'wsgi.input': Strict(b'x' * 20)})


class ForkTest(base.TestCase):
    def test_ways(self) -> None:
        def named(name: str) -> Any:
            def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
                start_response('200 OK', [])
                return [name.encode(), b' ', environ['PATH_INFO'].encode()]

            return app

        ways = ('api', 'documents', 'healthcheck', 'elsewhere')
        fork = middleware.Fork(**{name: named(name) for name in ways})
        for path, way in (
            ('/v2.1/a//b/', b'api /v2.1/a/b/'),
            ('/v2/x', b'api /v2/x'),
            ('/v2.1/', b'documents /v2.1'),
            ('//v2', b'documents /v2'),
            ('/healthcheck', b'healthcheck /healthcheck'),
            ('', b'elsewhere /'),
            ('/v2.1x/y', b'elsewhere /v2.1x/y'),
            ('/v20', b'elsewhere /v20'),
        ):
            self.assertEqual(way, Answer(fork, PATH_INFO=path, REQUEST_METHOD='GET').body)

    def test_a_media_type_may_name_the_endpoint(self) -> None:
        fork = middleware.Fork(api=ok, documents=ok, healthcheck=ok, elsewhere=ok)
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

        fork = middleware.Fork(api=never, documents=ok, healthcheck=ok, elsewhere=never)
        for path in ('/v2.1/x', '/v2/', '/v3', '/v2.1/openapi.json'):
            answer = Answer(fork, PATH_INFO=path, REQUEST_METHOD='OPTIONS')
            self.assertEqual('200 OK', answer.status)


class RequestIdsTest(base.TestCase):
    def test_the_log_finds_the_request_by_its_thread(self) -> None:
        seen = []

        def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
            seen.append(oslo_context.get_current().request_id)
            return ok(environ, start_response)

        answers = [Answer(middleware.RequestIds(app)) for _ in range(2)]
        self.assertEqual(seen, [dict(answer.headers)['x-openstack-request-id'] for answer in answers])
        self.assertNotEqual(seen[0], seen[1])


class CatchAllTest(base.TestCase):
    def test_a_surprise(self) -> None:
        def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
            raise ZeroDivisionError('secret')

        answer = Answer(middleware.CatchAll(app))
        self.assertEqual('500 Internal Server Error', answer.status)
        self.assertNotIn(b'secret', answer.body)
        self.assertIn('Traceback', self.logs.output)
