"""What surrounds the handlers: request ids, the body's limit, the last catch, and which way a path goes.

Plain WSGI, an object each. oslo.middleware has the like for ids and limits, on
webob, which reads and rebuilds every request anew in each layer, and answers
errors in a form of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
import re
from typing import Any

from oslo_context import context as oslo_context
from oslo_log import log
from oslo_middleware import request_id

from external_events_router import context
from external_events_router.api import auth
from external_events_router.api import faults
from external_events_router.api import media

LOG = log.getLogger(__name__)

StartResponse = Callable[..., Any]

#: Names of the response headers that carry our id of the request.
ID_HEADERS = ('x-openstack-request-id', 'x-compute-request-id')

#: Where the API describes itself.
OPENAPI = '/v2.1/openapi.json'

#: Bytes of a body that are read though nobody wants them.
DRAINED = 8 * 1024 * 1024

#: More than any length has that is meant.
_DIGITS = 18

_CHUNK = 64 * 1024
_GLOBAL_ID = re.compile(request_id.ID_FORMAT)
_SLASHES = re.compile('//+')


def _refuse(fault: faults.Fault, start_response: StartResponse) -> Iterable[bytes]:
    body = fault.body()
    start_response(fault.status_line(), list(fault.headers(body)))
    return [body]


class RequestIds:
    """Gives the request an id, takes over the sender's, and has the log print both."""

    def __init__(self, app: auth.WSGIApp) -> None:
        self._app = app

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        own = oslo_context.generate_request_id()
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
            return _refuse(faults.Fault(500, faults.UNEXPECTED), start_response)


class BodyLimit:
    """Refuses a body that says itself that it is too long, before anything is asked.

    One that does not say its length is cut off where it is read. What nobody has
    read when the answer is there is read here and thrown away, up to
    :data:`DRAINED` bytes: servers end the connection under a sender whose body
    they have not read, and it would see that in place of the answer.
    """

    def __init__(self, app: auth.WSGIApp, *, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        length = environ.get('CONTENT_LENGTH') or '0'
        if not (length.isascii() and length.isdigit()):
            return _refuse(faults.Fault(400, 'Content-Length must be a number.'), start_response)
        # NOTE: int() refuses thousands of digits.
        left = int(length[-_DIGITS:]) if len(length.lstrip('0')) <= _DIGITS else 10**_DIGITS
        if environ.get('wsgi.input_terminated') and not environ.get('CONTENT_LENGTH'):
            left = DRAINED
        body = environ['wsgi.input'] = _Body(environ['wsgi.input'], left)
        if environ.get('CONTENT_LENGTH') and left > self._max_bytes:
            answer = _refuse(too_large(self._max_bytes), start_response)
        else:
            answer = self._app(environ, start_response)
        body.drain()
        return answer


class _Body:
    """A request's body that knows how much of it may be left."""

    def __init__(self, stream: Any, left: int) -> None:
        self._stream = stream
        self._left = left

    def read(self, size: int = -1) -> bytes:
        chunk: bytes = self._stream.read(size)
        self._left = self._left - len(chunk) if chunk else 0
        return chunk

    def drain(self) -> None:
        try:
            while 0 < self._left <= DRAINED and self.read(min(self._left, _CHUNK)):
                pass
        except OSError:
            LOG.debug('the sender left before its body was read')


def too_large(max_bytes: int) -> faults.Fault:
    """The fault of a body over the limit."""
    return faults.Fault(413, f'The request body is too large: at most {max_bytes} bytes are allowed.')


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
