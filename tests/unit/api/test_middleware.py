"""The layers around the handlers, each alone."""

from __future__ import annotations

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
            answered = int(Answer(app, CONTENT_LENGTH=length).status.split()[0])
            self.assertEqual((length, status), (length, answered))


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
            ('/v2.1/a//b/', b'api /v2.1/a/b'),
            ('/v2/x', b'api /v2/x'),
            ('/v2.1/', b'documents /v2.1'),
            ('//v2', b'documents /v2'),
            ('/healthcheck', b'healthcheck /healthcheck'),
            ('', b'elsewhere /'),
            ('/v2.1x/y', b'elsewhere /v2.1x/y'),
            ('/v20', b'elsewhere /v20'),
        ):
            self.assertEqual(way, Answer(fork, PATH_INFO=path).body)


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
