"""A client of the application in the same process, and a resolver with fixed answers.

Every call goes through the WSGI validator of the standard library, so that
a strict WSGI server also accepts the application.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import io
import json
import tempfile
from typing import Any
from wsgiref import validate

from oslo_config import cfg

from external_events_router import conf as router_conf
from external_events_router import context
from external_events_router import events
from external_events_router.api import app
from external_events_router.api import auth
from external_events_router.conf import opts

PATH = '/v2.1/os-server-external-events'
PROJECT = 'fedcba9876543210fedcba9876543210'
REQUEST_ID = 'req-0f6f2c9a-5b1e-4d47-9d57-0f3c1b8d2e11'

PLACED = '2b4b6f0a-7d3e-4c89-8a51-6e1f0c9d7a01'
UNPLACED = '2b4b6f0a-7d3e-4c89-8a51-6e1f0c9d7a02'
UNKNOWN = '2b4b6f0a-7d3e-4c89-8a51-6e1f0c9d7a03'


class Resolver:
    """Replaces the resolver: the server :data:`PLACED` has a host, :data:`UNPLACED` has none."""

    bounded = True

    def __init__(self) -> None:
        self.batches: list[list[events.Event]] = []
        self.contexts: list[context.RequestContext] = []

    def route(
        self,
        ctxt: context.RequestContext,
        batch: Sequence[events.Event],
        *,
        ack_timeout: float,
        timeout: float,
    ) -> list[events.Outcome]:
        self.batches.append(list(batch))
        self.contexts.append(ctxt)
        return [self._outcome(event) for event in batch]

    def _outcome(self, event: events.Event) -> events.Outcome:
        if event.server_uuid not in (PLACED, UNPLACED):
            return events.Outcome(event, events.Code.NO_SUCH_SERVER, 'not in the map')
        if (problem := events.tag_problem(event)) is not None:
            return events.Outcome(event, events.Code.BAD_TAG, problem)
        if event.server_uuid == UNPLACED:
            return events.Outcome(event, events.Code.NO_HOST, 'on no host')
        return events.Outcome(event, events.Code.DELIVERED)


@dataclasses.dataclass(frozen=True)
class Reply:
    """A response. The names of its headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def fault(self) -> tuple[str, int]:
        """The name and the code of an error document. Fails if the document has another form."""
        ((name, inner),) = self.json.items()
        assert set(inner) == {'code', 'message'}, inner
        assert isinstance(inner['message'], str) and inner['message'], inner
        return name, inner['code']

    @property
    def message(self) -> str:
        """The text of an error document."""
        ((_, inner),) = self.json.items()
        return str(inner['message'])


def make_conf(**overrides: Any) -> cfg.ConfigOpts:
    """A configuration with default values, except for keywords ``group__option``."""
    conf = cfg.ConfigOpts()
    opts.set_library_defaults()
    router_conf.register_all(conf)
    # NOTE: not set_override(): configurations share their groups, and the
    # overrides of these groups.
    with tempfile.NamedTemporaryFile('w', suffix='.conf') as file:
        for name, value in overrides.items():
            group, option = name.split('__')
            file.write(f'[{group}]\n{option} = {value}\n')
        file.flush()
        conf([], project='external-events-router', default_config_files=[file.name], default_config_dirs=[])
    return conf


def identity(*roles: str, project_id: str = PROJECT) -> auth.Filter:
    """A filter that treats every client as a user with these roles."""

    def wrap(inner: auth.WSGIApp) -> auth.WSGIApp:
        def authenticate(environ: dict[str, Any], start_response: Any) -> Any:
            environ.update(
                HTTP_X_USER_ID='a-user', HTTP_X_PROJECT_ID=project_id, HTTP_X_ROLES=','.join(roles)
            )
            return inner(environ, start_response)

        return authenticate

    return wrap


class Client:
    """Calls an application that is built with ``overrides`` of the configuration."""

    def __init__(
        self, resolver: Any = None, *, authenticate: auth.Filter | None = None, **overrides: Any
    ) -> None:
        self.resolver = resolver or Resolver()
        self.app = app.make_app(
            make_conf(**overrides), self.resolver, authenticate=authenticate or identity('service')
        )

    def call(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        chunked: bool = False,
    ) -> Reply:
        environ = _environ(method, path, headers or {})
        environ['wsgi.input'] = io.BytesIO(body or b'')
        if chunked:
            environ['wsgi.input_terminated'] = True
        elif body is not None:
            environ['CONTENT_LENGTH'] = str(len(body))
        return invoke(self.app, environ)

    def post(self, batch: Any, headers: Mapping[str, str] | None = None, *, path: str = PATH) -> Reply:
        """Post events, or any other document."""
        document = {'events': batch} if isinstance(batch, list) else batch
        return self.call('POST', path, json.dumps(document).encode(), headers)


def _environ(method: str, path: str, headers: Mapping[str, str]) -> dict[str, Any]:
    path, _, query = path.partition('?')
    environ: dict[str, Any] = {
        'REQUEST_METHOD': method,
        'SCRIPT_NAME': '',
        'PATH_INFO': path,
        'QUERY_STRING': query,
        'SERVER_NAME': 'front.test',
        'SERVER_PORT': '80',
        'SERVER_PROTOCOL': 'HTTP/1.1',
        'REMOTE_ADDR': '127.0.0.1',
        'CONTENT_TYPE': 'application/json',
        'wsgi.version': (1, 0),
        'wsgi.url_scheme': 'http',
        'wsgi.errors': io.StringIO(),
        'wsgi.multithread': True,
        'wsgi.multiprocess': False,
        'wsgi.run_once': False,
    }
    for name, value in headers.items():
        key = name.upper().replace('-', '_')
        environ[key if key in ('CONTENT_TYPE', 'CONTENT_LENGTH') else f'HTTP_{key}'] = value
    return environ


def invoke(application: auth.WSGIApp, environ: dict[str, Any]) -> Reply:
    """Send one request through the validator."""
    answered: list[tuple[str, list[tuple[str, str]]]] = []

    def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        answered.append((status, headers))
        return lambda data: None

    # NOTE: the validator requires a content type for every response, even for an empty one.
    checked = application if environ['REQUEST_METHOD'] == 'OPTIONS' else validate.validator(application)  # type: ignore[arg-type]
    body = checked(environ, start_response)
    try:
        content = b''.join(body)
    finally:
        getattr(body, 'close', list)()
    ((status, headers),) = answered
    return Reply(int(status.split()[0]), {name.lower(): value for name, value in headers}, content)
