"""The table of all operations of the admin API.

Each operation has a path, a rule of the policy, its parameters, the schemas of body and answer, and the
function that performs it. To add an operation, add a line here and a function in a ``*_handlers`` module.
"""

from __future__ import annotations

from collections.abc import Callable
import dataclasses
from typing import Any

from external_events_router.admin import calls
from external_events_router.admin import event_handlers
from external_events_router.admin import held_handlers
from external_events_router.admin import host_handlers
from external_events_router.admin import parameters
from external_events_router.admin import schemas

PREFIX = '/admin/v1'


@dataclasses.dataclass(frozen=True, slots=True)
class Route:
    """An operation.

    :ivar path: below :data:`PREFIX`, with names of parameters in braces
    :ivar handler: performs the operation; its docstring describes it in the OpenAPI document
    :ivar rule: of the policy, without its prefix
    :ivar answer: name of a schema of answers; None: an answer without a body
    :ivar query: parameters besides ``limit``
    :ivar is_list: whether the operation has the parameter ``limit``
    :ivar body: name of a schema of bodies; None: there is no body
    :ivar versioned: whether the answer has an ``ETag`` and the request may have ``If-Match``
    """

    method: str
    path: str
    handler: Callable[[calls.Call], calls.Answer]
    rule: str
    answer: str | None
    query: tuple[parameters.Parameter, ...] = ()
    is_list: bool = False
    body: str | None = None
    versioned: bool = False

    @property
    def summary(self) -> str:
        """One sentence about the operation."""
        return (self.handler.__doc__ or '').split('\n', 1)[0].rstrip('.')


_EXPLAIN = (parameters.PORT, parameters.ONE_NAME, parameters.SINCE, parameters.AT)
_EVENTS = (*parameters.EVENT_FILTERS, parameters.EVENT_MARKER)
_HELD = (*parameters.HELD_FILTERS, parameters.HELD_MARKER)
_HOSTS = (parameters.PROBLEM, parameters.QUEUES, parameters.HOST_MARKER)

ROUTES: tuple[Route, ...] = (
    Route(
        'GET',
        '/events',
        event_handlers.list_events,
        'events:get',
        'events',
        (*_EVENTS, parameters.SINCE, parameters.UNTIL, parameters.OLDEST_FIRST),
        is_list=True,
    ),
    Route(
        'GET',
        '/events/follow',
        event_handlers.follow,
        'events:follow',
        'events',
        (*_EVENTS, parameters.WAIT),
        is_list=True,
    ),
    Route('GET', '/events/{event}', event_handlers.show_event, 'events:get', 'event'),
    Route(
        'GET', '/servers/{server}/timeline', event_handlers.show_timeline, 'servers:get', 'timeline', _EXPLAIN
    ),
    Route(
        'GET',
        '/servers/{server}/explain',
        event_handlers.explain_server,
        'servers:get',
        'explanation',
        _EXPLAIN,
    ),
    Route('GET', '/held', held_handlers.list_held, 'held:get', 'held', _HELD, is_list=True),
    Route(
        'POST', '/held/retry/preview', held_handlers.preview_retry, 'held:retry', 'preview', body='heldFilter'
    ),
    Route('POST', '/held/retry', held_handlers.retry_many, 'held:retry', 'retried', body='confirmedFilter'),
    Route(
        'POST', '/held/drop/preview', held_handlers.preview_drop, 'held:drop', 'preview', body='heldFilter'
    ),
    Route('POST', '/held/drop', held_handlers.drop_many, 'held:drop', 'dropped', body='confirmedFilter'),
    Route('GET', '/held/{event}', held_handlers.show_held, 'held:get', 'heldEvent', versioned=True),
    Route('DELETE', '/held/{event}', held_handlers.drop_one, 'held:drop', 'dropped', versioned=True),
    Route(
        'POST',
        '/held/{event}/retry',
        held_handlers.retry_one,
        'held:retry',
        'retried',
        body='retryOne',
        versioned=True,
    ),
    Route('GET', '/hosts', host_handlers.list_hosts, 'hosts:get', 'hosts', _HOSTS, is_list=True),
    Route('GET', '/hosts/{host}', host_handlers.show_host, 'hosts:get', 'host', (parameters.QUEUES,)),
    Route('POST', '/hosts/{host}/replay', host_handlers.replay_host, 'replay', 'replayed', body='replay'),
    Route(
        'GET',
        '/host-map/{server}',
        host_handlers.show_servers_hosts,
        'host-map:get',
        'serverHosts',
        versioned=True,
    ),
    Route('DELETE', '/host-map/{server}', host_handlers.forget, 'host-map:forget', None, versioned=True),
    Route(
        'PUT',
        '/host-map/{server}/hosts/{host}',
        host_handlers.assign,
        'host-map:assign',
        'serverHosts',
        versioned=True,
    ),
    Route(
        'DELETE',
        '/host-map/{server}/hosts/{host}',
        host_handlers.unassign,
        'host-map:unassign',
        'serverHosts',
        versioned=True,
    ),
    Route('POST', '/simulate', event_handlers.simulate_event, 'simulate', 'prediction', body='simulate'),
    Route('GET', '/summary', host_handlers.summary, 'summary:get', 'summary'),
    Route('GET', '/doctor', host_handlers.doctor, 'doctor:get', 'doctor', (parameters.SERVICE,)),
    Route(
        'GET',
        '/actions',
        host_handlers.list_actions,
        'actions:get',
        'actions',
        (parameters.SINCE, parameters.ACTION_MARKER),
        is_list=True,
    ),
)

#: Parameters of paths: their descriptions and patterns.
PATH: dict[str, tuple[str, str]] = {
    'event': ('The id of the event.', parameters.ID),
    'server': ('The uuid of the server.', parameters.UUID),
    'host': ('The name of the host.', parameters.HOST),
}


def query_of(route: Route, *, max_limit: int) -> tuple[parameters.Parameter, ...]:
    """Return all parameters of the query of an operation."""
    return (*route.query, parameters.limit(max_limit)) if route.is_list else route.query


def body_of(route: Route) -> dict[str, Any] | None:
    """Return the schema of the body of an operation; None: it has no body."""
    return None if route.body is None else schemas.BODIES[route.body]
