"""What surrounds the handlers: request ids, the last catch, and which way a path goes.

Plain WSGI, an object each. oslo.middleware has the like for ids and limits, on
webob, which reads and rebuilds every request anew in each layer, and answers
errors in a form of its own.
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
from external_events_router.api import intake
from external_events_router.api import media

LOG = log.getLogger(__name__)

StartResponse = Callable[..., Any]

#: Names of the response headers that carry our id of the request.
ID_HEADERS = ('x-openstack-request-id', 'x-compute-request-id')

#: Where the API describes itself.
OPENAPI = '/v2.1/openapi.json'

_GLOBAL_ID = re.compile(request_id.ID_FORMAT)
_SLASHES = re.compile('//+')


class RequestIds:
    """Gives the request an id, takes over the sender's, and has the log print both."""

    def __init__(self, app: auth.WSGIApp) -> None:
        self._app = app

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        own = context.new_request_id()
        theirs = environ.get('HTTP_X_OPENSTACK_REQUEST_ID', '')
        environ[request_id.ENV_REQUEST_ID] = own
        if _GLOBAL_ID.fullmatch(theirs):
            environ[request_id.GLOBAL_REQ_ID] = theirs
        # NOTE: making a context also makes it the thread's own, for the log
        # lines until the caller is known; it replaces that of the last request.
        context.RequestContext(request_id=own, global_request_id=environ.get(request_id.GLOBAL_REQ_ID))

        def respond(status: str, headers: list[tuple[str, str]], *args: Any) -> Any:
            return start_response(status, [*headers, *((name, own) for name in ID_HEADERS)], *args)

        return self._app(environ, respond)


class CatchAll:
    """Turns a surprise into a 500 of the API's form, and logs it."""

    def __init__(self, app: auth.WSGIApp) -> None:
        self._app = app

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        try:
            return self._app(environ, start_response)
        except Exception:
            LOG.exception('unexpected error')
            return intake.refuse(faults.Fault(500, faults.UNEXPECTED), start_response)


class Fork:
    """Sends a request on by its path.

    :param api: what lies below ``/v2`` and ``/v2.1``, and needs a token
    :param documents: the endpoints' roots and the API's description, which need none
    :param elsewhere: every other path but ``/healthcheck``
    """

    def __init__(
        self,
        *,
        api: auth.WSGIApp,
        documents: auth.WSGIApp,
        healthcheck: auth.WSGIApp,
        elsewhere: auth.WSGIApp,
    ) -> None:
        self._exact = {
            '/v2': documents,
            '/v2.1': documents,
            OPENAPI: documents,
            '/healthcheck': healthcheck,
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
    """What an OPTIONS is answered, with a token or without: it may be sent, that is all."""
    start_response('200 OK', [('Content-Length', '0')])
    return []
