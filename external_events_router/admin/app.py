"""The WSGI application of the admin API.

    request ids -> catch all errors -> request buffer -> token [-> audit] -> routes

The filters are those of the senders' API. This module starts no server, see ``cmd.admin`` and ``admin.wsgi``.
"""

from __future__ import annotations

from collections.abc import Callable
import functools
import re
import threading
from typing import Any

import falcon
import jsonschema
import jsonschema.validators
from oslo_config import cfg
from oslo_log import log
from oslo_middleware import healthcheck
from oslo_middleware import http_proxy_to_wsgi
from oslo_middleware import sizelimit

from external_events_router import checks
from external_events_router import context
from external_events_router import exceptions
from external_events_router.admin import authentication
from external_events_router.admin import calls
from external_events_router.admin import etags
from external_events_router.admin import openapi
from external_events_router.admin import parameters
from external_events_router.admin import policies
from external_events_router.admin import routes
from external_events_router.admin import services
from external_events_router.api import app as api_app
from external_events_router.api import auth
from external_events_router.api import bodies
from external_events_router.api import faults
from external_events_router.api import middleware
from external_events_router.api import policies as api_policies
from external_events_router.api import request_buffer
from external_events_router.process import readiness

LOG = log.getLogger(__name__)

#: Maximum bytes of a body.
MAX_BYTES = 64 * 1024

#: Bytes that all bodies use together, beyond the first 16 KiB of each.
BODY_MEMORY = 4 * 1024 * 1024

#: Headers of each answer: it is data for programs, and must not be kept or interpreted otherwise.
HEADERS = {
    'Cache-Control': 'no-store',
    'Content-Security-Policy': "default-src 'none'; frame-ancestors 'none'",
    'X-Content-Type-Options': 'nosniff',
}

#: Errors of operations, and their statuses. The order matters: the first class that matches applies.
STATUSES: tuple[tuple[type[exceptions.RouterError], int], ...] = (
    (exceptions.InvalidArgument, 400),
    (exceptions.MalformedMessage, 400),
    (exceptions.NoSuchServer, 404),
    (exceptions.NoSuchEvent, 404),
    (exceptions.ReadOnlyHostMap, 409),
    (exceptions.Conflict, 412),
    (exceptions.DatabaseRefused, 400),
    (exceptions.DatabaseUnavailable, 503),
    (exceptions.BrokerUnavailable, 503),
    (exceptions.ResolverUnavailable, 503),
)


def make_app(
    conf: cfg.ConfigOpts,
    shared: services.Services,
    *,
    authenticate: auth.Filter | None = None,
    unhealthy: Callable[[], str | None] = lambda: None,
) -> auth.WSGIApp:
    """Build the application.

    :param shared: databases and limits; the caller closes them
    :param authenticate: replaces the filter of ``[admin] auth_strategy``
    :param unhealthy: returns why ``/healthcheck`` has to answer 503; None: it answers 200
    :raises ConfigurationError: a value is not valid
    """
    conf.register_opts(sizelimit.OPTS, group='oslo_middleware')
    conf.register_opts(http_proxy_to_wsgi.OPTS, group='oslo_middleware')
    falcon_app = make_routes(conf, shared)
    tokens = authenticate or authentication.from_conf(conf)
    audited = authentication.audit(conf)

    def pipeline(app: auth.WSGIApp) -> auth.WSGIApp:
        return middleware.RequestIds(middleware.CatchAll(app))

    buffered = functools.partial(
        request_buffer.RequestBuffer,
        max_bytes=MAX_BYTES,
        max_header_bytes=conf.api.max_header_bytes,
        memory=request_buffer.Memory(BODY_MEMORY),
        places=threading.Semaphore(conf.admin.threads),
    )
    documents = pipeline(buffered(falcon_app))
    app: auth.WSGIApp = Dispatch(
        api=pipeline(buffered(tokens(audited(falcon_app)))),
        documents={'/': documents, openapi.PATH: documents},
        healthcheck=api_app.Health(healthcheck.Healthcheck(None, conf), unhealthy),
        readiness=readiness.Readiness(unhealthy, drain_file=conf.health.disable_by_file),
    )
    if conf.oslo_middleware.enable_proxy_headers_parsing:
        app = http_proxy_to_wsgi.HTTPProxyToWSGI(app, conf)
    return app


class Dispatch:
    """Passes a request to an application by its path: only documents and the health need no token."""

    def __init__(
        self,
        *,
        api: auth.WSGIApp,
        documents: dict[str, auth.WSGIApp],
        healthcheck: auth.WSGIApp,
        readiness: auth.WSGIApp,
    ) -> None:
        self._exact = {**documents, '/healthcheck': healthcheck, '/readiness': readiness}
        self._api = api

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        path = environ.get('PATH_INFO') or '/'
        return self._exact.get(path, self._api)(environ, start_response)


def make_routes(conf: cfg.ConfigOpts, shared: services.Services) -> auth.WSGIApp:
    """Build the route table. It reads the identity of the caller from the WSGI environment."""
    enforcer = policies.make_enforcer(conf)
    falcon_app = falcon.App()
    by_path: dict[str, dict[str, Operation]] = {}
    for route in routes.ROUTES:
        by_path.setdefault(route.path, {})[route.method] = Operation(route, shared, enforcer)
    for path, operations in by_path.items():
        falcon_app.add_route(routes.PREFIX + path, _Resource(operations))
    falcon_app.add_route(openapi.PATH, _Document(conf.admin.max_limit))
    falcon_app.add_route('/', _Root())
    falcon_app.add_error_handler(faults.Fault, _render_fault)
    falcon_app.add_error_handler(exceptions.RouterError, _render_router_error)
    falcon_app.add_error_handler(falcon.HTTPError, _render_unrouted)
    falcon_app.add_error_handler(Exception, _render_surprise)
    app: auth.WSGIApp = falcon_app
    return app


class Operation:
    """Performs one operation: checks the caller, the parameters and the body, and encodes the answer."""

    def __init__(
        self, route: routes.Route, shared: services.Services, enforcer: api_policies.Enforcer
    ) -> None:
        self._route = route
        self._shared = shared
        self._enforcer = enforcer
        self._query = routes.query_of(route, max_limit=shared.conf.admin.max_limit)
        schema = routes.body_of(route)
        self._validator = None if schema is None else jsonschema.validators.Draft202012Validator(schema)

    def __call__(self, req: falcon.Request, resp: falcon.Response, params: dict[str, str]) -> None:
        """Answer a request.

        :raises Fault: the request is not valid or not permitted
        :raises RouterError: the operation failed, see :data:`STATUSES`
        """
        ctxt = context.RequestContext.from_environ(req.env, auth_token=None, service_token=None)
        conf = self._shared.conf
        policies.authorize(
            self._enforcer, ctxt, self._route.rule, operator_projects=conf.admin.operator_projects
        )
        if_match = req.get_header('If-Match') if self._route.versioned else None
        etags.check_form(if_match)
        query, raw_query = parameters.parse(req.query_string, self._query)
        call = calls.Call(
            services=self._shared,
            ctxt=ctxt,
            path=req.root_path + req.path,
            params={name: _path_parameter(name, text) for name, text in params.items()},
            query=query,
            raw_query=raw_query,
            body=self._body(req),
            if_match=if_match,
            address=req.env.get('REMOTE_ADDR'),
        )
        _render(resp, self._route.handler(call))

    def _body(self, req: falcon.Request) -> dict[str, Any]:
        data = request_buffer.body_of(req.env, MAX_BYTES)
        if self._validator is None:
            if data:
                raise faults.Fault(400, 'This operation has no body.')
            return {}
        if (req.content_type or '').split(';')[0].strip().lower() != 'application/json':
            # NOTE: a web page in the browser of an operator cannot send this type to another host.
            raise faults.Fault(415, 'The Content-Type must be application/json.')
        document = bodies.parse(data)
        try:
            problem = next(iter(self._validator.iter_errors(document)), None)
        except RecursionError:
            raise faults.Fault(400, 'Invalid body: it is nested too deep.') from None
        if problem is not None:
            where = '.'.join(str(part) for part in problem.absolute_path) or 'the body'
            raise faults.Fault(400, f'Invalid body: {checks.shown(where)}: {_shortened(problem.message)}.')
        found: dict[str, Any] = document
        return found


def _shortened(text: str) -> str:
    return checks.clean_text(text, checks.MAX_SHOWN)


def _path_parameter(name: str, text: str) -> str:
    if name == 'server':
        return parameters.server(text)
    pattern = routes.PATH[name][1]
    if not re.fullmatch(pattern, text):
        raise faults.Fault(404, f'{checks.shown(text)} is not the name or id of an object of this kind.')
    return text


class _Resource:
    """The operations of one path, as falcon looks for them: a method for each method of HTTP."""

    def __init__(self, operations: dict[str, Operation]) -> None:
        for method, operation in operations.items():
            setattr(self, f'on_{method.lower()}', functools.partial(_perform, operation))


def _perform(operation: Operation, req: falcon.Request, resp: falcon.Response, **params: str) -> None:
    operation(req, resp, params)


class _Document:
    """The OpenAPI document."""

    def __init__(self, max_limit: int) -> None:
        self._max_limit = max_limit

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        _render(resp, calls.Answer(openapi.document(base_url=req.prefix, max_limit=self._max_limit)))


class _Root:
    """The version of the API, and where its description is."""

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        links = [
            {'rel': 'self', 'href': f'{req.prefix}{routes.PREFIX}/'},
            {'rel': 'describedby', 'href': f'{req.prefix}{openapi.PATH}'},
        ]
        _render(resp, calls.Answer({'versions': [{'id': 'v1', 'status': 'CURRENT', 'links': links}]}))


def _render(resp: falcon.Response, answer: calls.Answer) -> None:
    resp.status = answer.status
    resp.set_headers({**HEADERS, **answer.headers})
    if answer.document is not None:
        resp.content_type = 'application/json'
        resp.data = calls.encode(answer.document)


def _render_fault(
    _req: falcon.Request, resp: falcon.Response, fault: faults.Fault, _params: dict[str, Any]
) -> None:
    resp.status = fault.status_line()
    resp.set_headers(HEADERS)
    if fault.status == 503:
        resp.set_header('Retry-After', '5')
    resp.content_type = faults.CONTENT_TYPE
    resp.data = fault.body()


def _render_router_error(
    req: falcon.Request, resp: falcon.Response, error: exceptions.RouterError, params: dict[str, Any]
) -> None:
    status = next((status for kind, status in STATUSES if isinstance(error, kind)), None)
    if status is None:
        _render_surprise(req, resp, error, params)
        return
    if status == 503:
        LOG.warning('%s %s: %s; answering 503', req.method, checks.shown(req.path), error)
    _render_fault(req, resp, faults.Fault(status, checks.clean_text(str(error))), params)


def _render_unrouted(
    req: falcon.Request, resp: falcon.Response, error: falcon.HTTPError, params: dict[str, Any]
) -> None:
    if error.status_code == 405:
        resp.set_header('Allow', dict(error.headers or {}).get('Allow', ''))
        fault = faults.Fault(405, f'The path does not have the method {checks.shown(req.method)}.')
    else:
        fault = faults.not_found()
    _render_fault(req, resp, fault, params)


def _render_surprise(
    req: falcon.Request, resp: falcon.Response, _error: Exception, params: dict[str, Any]
) -> None:
    LOG.exception('Unexpected error while handling a request; answering 500')
    _render_fault(req, resp, faults.Fault(500, faults.UNEXPECTED), params)
