"""Filters around the handlers: request ids, the last error handler, and dispatch by path.

Plain WSGI, one object each. oslo.middleware has similar filters for ids and limits. They use webob,
which parses and rebuilds every request in each layer, and they answer errors in another format.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
import re
from typing import Any

from oslo_log import log
from oslo_middleware import request_id

from external_events_router import context
from external_events_router.api import auth
from external_events_router.api import faults
from external_events_router.api import media
from external_events_router.api import request_buffer
from external_events_router.metrics import recorder

LOG = log.getLogger(__name__)

StartResponse = Callable[..., Any]

#: Response headers that contain the id that this service gives the request.
ID_HEADERS = ('x-openstack-request-id', 'x-compute-request-id')

#: Path of the OpenAPI document.
OPENAPI = '/v2.1/openapi.json'

_GLOBAL_ID = re.compile(request_id.ID_FORMAT)
_SLASHES = re.compile('//+')


class RequestIds:
    """Gives the request an id, accepts the id of the sender, and puts both into log messages."""

    def __init__(self, app: auth.WSGIApp) -> None:
        self._app = app

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        own = context.new_request_id()
        sent_id = environ.get('HTTP_X_OPENSTACK_REQUEST_ID', '')
        environ[request_id.ENV_REQUEST_ID] = own
        if _GLOBAL_ID.fullmatch(sent_id):
            environ[request_id.GLOBAL_REQ_ID] = sent_id
        # NOTE: creating a context stores it for this thread and replaces the context of the previous
        # request. Log messages use it until the caller is known.
        context.RequestContext(request_id=own, global_request_id=environ.get(request_id.GLOBAL_REQ_ID))

        def respond(status: str, headers: list[tuple[str, str]], *args: Any) -> Any:
            return start_response(status, [*headers, *((name, own) for name in ID_HEADERS)], *args)

        return self._app(environ, respond)


class CatchAll:
    """Logs an unexpected error and answers 500 in the API's format."""

    def __init__(self, app: auth.WSGIApp) -> None:
        self._app = app

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        try:
            return self._app(environ, start_response)
        except Exception:
            LOG.exception('Unexpected error while handling a request; answering 500')
            return request_buffer.refuse(faults.Fault(500, faults.UNEXPECTED), start_response)


class Counted:
    """Counts the statuses of the answers."""

    def __init__(self, app: auth.WSGIApp) -> None:
        self._app = app

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        def respond(status: str, *args: Any) -> Any:
            recorder.current().request_ended(status)
            return start_response(status, *args)

        return self._app(environ, respond)


class PathDispatch:
    """Passes a request to an application by its path.

    :param api: paths below ``/v2`` and ``/v2.1``, which need a token
    :param documents: roots of the endpoints and the OpenAPI document, which need no token
    :param elsewhere: every other path except ``/healthcheck`` and ``/readiness``
    """

    def __init__(
        self,
        *,
        api: auth.WSGIApp,
        documents: auth.WSGIApp,
        healthcheck: auth.WSGIApp,
        readiness: auth.WSGIApp,
        elsewhere: auth.WSGIApp,
    ) -> None:
        self._exact = {
            '/v2': documents,
            '/v2.1': documents,
            OPENAPI: documents,
            '/healthcheck': healthcheck,
            '/readiness': readiness,
        }
        self._api = api
        self._elsewhere = elsewhere

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        path = _SLASHES.sub('/', environ.get('PATH_INFO') or '/')
        bare = path.rstrip('/') or '/'
        if (app := self._exact.get(bare)) is not None:
            environ['PATH_INFO'] = bare
            return app(environ, start_response)
        if path.startswith(('/v2.1/', '/v2/')):
            environ['PATH_INFO'] = path
            app = self._api
        elif (endpoint := f'/v{media.version(environ)}') in self._exact:
            environ['PATH_INFO'] = endpoint
            return self._exact[endpoint](environ, start_response)
        else:
            environ['PATH_INFO'] = bare
            app = self._elsewhere
        if environ['REQUEST_METHOD'] == 'OPTIONS' and bare != '/':
            app = _nothing
        return app(environ, start_response)


def _nothing(_environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
    """Answer an OPTIONS request with an empty 200, with or without a token."""
    start_response('200 OK', [('Content-Length', '0')])
    return []
