"""Whether this process should get requests: ``GET /readiness`` with the state of each part.

The status is 503 only for a fault of this process alone. A fault that other processes share, for example
an unavailable broker, results in 200 with ``degraded``: a load balancer must not remove all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
import json
import os
from typing import Any

from external_events_router.messaging.amqp import availability
from external_events_router.process import parts

#: Names of the connections for casts and for acknowledgements or deliveries.
_CONNECTIONS = {'casts': 'broker_casts', 'listeners': 'broker_acknowledgements'}

#: Kinds whose parts are combined under one name.
_NAMES = {
    parts.Kind.QUEUES: 'queues',
    parts.Kind.HOLD: 'hold',
    parts.Kind.HOST_MAP: 'host_map',
    parts.Kind.JOURNAL: 'journal',
    parts.Kind.KEYSTONE: 'keystone',
    parts.Kind.REQUESTS: 'threads',
}

#: The states, the worst last.
_ORDER = (parts.State.OK, parts.State.DEGRADED, parts.State.FAILED)


class Readiness:
    """The readiness of this process, and the WSGI application that returns it."""

    def __init__(
        self, unhealthy: Callable[[], str | None] = lambda: None, *, drain_file: str | None = None
    ) -> None:
        """:param unhealthy: returns why this process should be replaced; None: it is healthy
        :param drain_file: while this file exists, the process is not ready
        """
        self._unhealthy = unhealthy
        self._drain_file = drain_file

    def read(self) -> tuple[int, dict[str, Any]]:
        """Return the HTTP status and the body."""
        described = self._parts()
        worst = max((state for state, _ in described.values()), key=_ORDER.index)
        if self._drain_file is not None and os.path.exists(self._drain_file):
            status = 'draining'
        else:
            status = worst.value
        shown = {name: {'status': state.value, **details} for name, (state, details) in described.items()}
        is_ready = status not in ('draining', parts.State.FAILED.value)
        return (200 if is_ready else 503), {'status': status, 'parts': shown}

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer a request; see PEP 3333."""
        status, body = self.read()
        data = json.dumps(body).encode() + b'\n'
        reason = 'OK' if status == 200 else 'Service Unavailable'
        headers = [('Content-Type', 'application/json'), ('Content-Length', str(len(data)))]
        start_response(f'{status} {reason}', headers)
        return [] if environ['REQUEST_METHOD'] == 'HEAD' else [data]

    def _parts(self) -> dict[str, tuple[parts.State, Mapping[str, Any]]]:
        reason = self._unhealthy()
        failed = parts.State.OK if reason is None else parts.State.FAILED
        lost = availability.any_lost()
        described: dict[str, tuple[parts.State, Mapping[str, Any]]] = {
            'process': (failed, {} if reason is None else {'reason': reason}),
            'broker': (parts.State.DEGRADED if lost else parts.State.OK, {}),
        }
        for status in parts.ALL.read(parts.Kind.CONNECTION):
            if (name := _CONNECTIONS.get(status.name)) is not None:
                described[name] = (status.state, _public(status.details))
        for kind, name in _NAMES.items():
            for status in parts.ALL.read(kind):
                if name not in described or _worse(status.state, described[name][0]):
                    described[name] = (status.state, _public(status.details))
        return described


def _worse(state: parts.State, other: parts.State) -> bool:
    return _ORDER.index(state) > _ORDER.index(other)


def _public(details: Mapping[str, Any]) -> dict[str, Any]:
    """Return the numbers: texts may contain addresses and names, and no token is needed to read this."""
    return {name: value for name, value in details.items() if value is None or isinstance(value, int | float)}
