"""The WSGI application: its pipeline of filters and its route table.

    request ids -> catch all errors -> request buffer -> [token ->] routes

This module defines the order of filters and the paths of handlers, which are in other modules. It
starts no server (see ``cmd.api`` and ``wsgi``).
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
import functools
import re
import threading
from typing import Any

import falcon
import falcon.routing
from oslo_config import cfg
from oslo_log import log
from oslo_middleware import healthcheck
from oslo_middleware import http_proxy_to_wsgi
from oslo_middleware import sizelimit

from external_events_router.api import auth
from external_events_router.api import faults
from external_events_router.api import handlers
from external_events_router.api import middleware
from external_events_router.api import openapi
from external_events_router.api import policies
from external_events_router.api import refusals
from external_events_router.api import request_buffer
from external_events_router.api import router_client
from external_events_router.api import versions
from external_events_router.process import parts
from external_events_router.process import readiness

LOG = log.getLogger(__name__)

RESOURCE = 'os-server-external-events'

#: First part of the path, and whether this endpoint has no microversions.
_ENDPOINTS = (('v2', True), ('v2.1', False))


def make_app(
    conf: cfg.ConfigOpts,
    resolver_api: router_client.Router,
    *,
    authenticate: auth.Filter | None = None,
    memory: request_buffer.Memory | None = None,
    unhealthy: Callable[[], str | None] = lambda: None,
    refused: refusals.Sink | None = None,
) -> auth.WSGIApp:
    """Build the application.

    :param resolver_api: routes the batches
    :param authenticate: replaces the filter of ``[api] auth_strategy``
    :param memory: memory for request bodies; None: a new one for this application
    :param refused: records refused requests; None: they are not recorded
    :param unhealthy: returns why ``/healthcheck`` has to answer 503; None: it answers 200
    :raises ConfigurationError: a value is not valid
    """
    conf.register_opts(sizelimit.OPTS, group='oslo_middleware')
    conf.register_opts(http_proxy_to_wsgi.OPTS, group='oslo_middleware')
    max_bytes = conf.oslo_middleware.max_request_body_size
    routes = make_routes(conf, resolver_api, max_bytes=max_bytes, refused=refused)
    tokens = authenticate or auth.from_conf(conf)

    def pipeline(app: auth.WSGIApp) -> auth.WSGIApp:
        return middleware.RequestIds(middleware.CatchAll(app))

    places = threading.Semaphore(conf.api.threads)
    parts.ALL.add(parts.Kind.REQUESTS, places, functools.partial(_in_use, conf.api.threads))
    taken_in = functools.partial(
        request_buffer.RequestBuffer,
        max_bytes=max_bytes,
        max_header_bytes=conf.api.max_header_bytes,
        memory=memory or request_buffer.Memory(conf.api.max_body_memory),
        places=places,
    )

    api = pipeline(taken_in(tokens(routes if refused is None else refusals.Identified(routes))))
    app: auth.WSGIApp = middleware.PathDispatch(
        api=api if conf.metrics.bind_port is None else middleware.Counted(api),
        documents=pipeline(taken_in(routes)),
        healthcheck=Health(healthcheck.Healthcheck(None, conf), unhealthy),
        readiness=readiness.Readiness(unhealthy, drain_file=conf.health.disable_by_file),
        elsewhere=middleware.CatchAll(taken_in(routes)),
    )
    if refused is not None:
        app = refusals.Recorded(app, refused)
    if conf.oslo_middleware.enable_proxy_headers_parsing:
        app = http_proxy_to_wsgi.HTTPProxyToWSGI(app, conf)
    return app


def make_routes(
    conf: cfg.ConfigOpts,
    resolver_api: router_client.Router,
    *,
    max_bytes: int,
    refused: refusals.Sink | None = None,
) -> auth.WSGIApp:
    """Build the route table. It reads the identity of the caller from the WSGI environment."""
    client = router_client.RouterClient(
        resolver_api, ack_timeout=conf.delivery.ack_timeout, threads=conf.api.threads, refused=refused
    )
    enforcer = policies.make_enforcer(conf)
    routes = falcon.App()
    routes.router_options.converters['project'] = ProjectConverter
    for endpoint, legacy in _ENDPOINTS:
        resource = handlers.ServerExternalEvents(
            client,
            enforcer,
            max_events=conf.api.max_events,
            max_bytes=max_bytes,
            max_tag_length=conf.api.max_tag_length,
            none_found_status=conf.api.none_found_status,
            legacy=legacy,
        )
        routes.add_route(f'/{endpoint}/{RESOURCE}', resource)
        routes.add_route(f'/{endpoint}/{{project_id:project}}/{RESOURCE}', resource)
    routes.add_route(middleware.OPENAPI, openapi.Served())
    routes.add_sink(_elsewhere, '/')
    # NOTE: add these after the sink for "/": falcon tries the last added sink first.
    for endpoint, legacy in _ENDPOINTS:
        document = versions.Document(endpoint, microversioned=not legacy)
        routes.add_sink(document, re.compile(f'/{re.escape(endpoint)}$'))
        routes.add_route(f'/{endpoint}/{{project_id:project}}/', handlers.ProjectRoot(document))
    routes.add_error_handler(faults.Fault, _render_fault)
    routes.add_error_handler(falcon.HTTPError, _render_unrouted)
    routes.add_error_handler(Exception, _render_unexpected)
    app: auth.WSGIApp = routes
    return app


def _in_use(limit: int, places: threading.Semaphore) -> parts.Status:
    free = places._value
    return parts.Status(
        'requests',
        parts.State.OK if free else parts.State.DEGRADED,
        {'busy': limit - free, 'limit': limit},
    )


class Health:
    """``/healthcheck`` of oslo.middleware, with 503 if this process has failed."""

    def __init__(self, app: auth.WSGIApp, unhealthy: Callable[[], str | None]) -> None:
        self._app = app
        self._unhealthy = unhealthy

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        reason = self._unhealthy()
        if reason is None:
            return self._app(environ, start_response)
        body = f'{reason}\n'.encode()
        headers = [('Content-Type', 'text/plain; charset=UTF-8'), ('Content-Length', str(len(body)))]
        start_response('503 Service Unavailable', headers)
        return [] if environ['REQUEST_METHOD'] == 'HEAD' else [body]


class ProjectConverter(falcon.routing.BaseConverter):
    """Matches project ids in a path. A path with any other text does not match the route."""

    _FORM = re.compile('[0-9a-f-]+')

    def convert(self, value: str) -> str | None:
        return value if self._FORM.fullmatch(value) else None


def _elsewhere(req: falcon.Request, resp: falcon.Response, **_params: Any) -> None:
    if req.path == '/':
        versions.list_endpoints(req, resp)
    elif req.path.startswith(('/v2/', '/v2.1/')):
        raise faults.not_found()
    else:
        versions.offer_choices(req, resp)


def _render_fault(
    _req: falcon.Request, resp: falcon.Response, fault: faults.Fault, _params: dict[str, Any]
) -> None:
    resp.status = fault.status_line()
    resp.content_type = faults.CONTENT_TYPE
    resp.data = fault.body()


def _render_unrouted(
    req: falcon.Request, resp: falcon.Response, _error: falcon.HTTPError, params: dict[str, Any]
) -> None:
    # NOTE: falcon itself raises these errors, for a method that a path does not support.
    _render_fault(req, resp, faults.not_found(), params)


def _render_unexpected(
    req: falcon.Request, resp: falcon.Response, _error: Exception, params: dict[str, Any]
) -> None:
    LOG.exception('Unexpected error while handling a request; answering 500')
    _render_fault(req, resp, faults.Fault(500, faults.UNEXPECTED), params)
