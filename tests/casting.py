"""Clients that wait for the results of their casts, for tests."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
import threading

import oslo_messaging

from external_events_router import context
from external_events_router import events
from external_events_router import exceptions
from external_events_router.agent import rpcapi as agent_rpcapi
from external_events_router.messaging import transport as transports
from external_events_router.resolver import rpcapi

#: Seconds. A cast takes far less.
LONG = 30.0


def deliver(
    oslo_transport: oslo_messaging.RPCTransport,
    host: str,
    delivery: events.Delivery,
    *,
    topic: str = 'compute',
    ctxt: context.RequestContext | None = None,
) -> None:
    """Cast a delivery to an agent by oslo.messaging.

    :raises RouterError: the result
    """
    transport = transports.OsloTransport(oslo_transport)
    api = agent_rpcapi.AgentAPI(transport, topic=topic)
    cast = agent_rpcapi.Cast(host, [(ctxt or context.for_service(), delivery)])
    try:
        _wait(lambda done: api.cast([cast], lambda _index, error: done(error), until=float('inf')))
    finally:
        transport.stop()


def acknowledge(
    transport: transports.Transport,
    acknowledgements: Sequence[events.Acknowledgement],
    *,
    version_cap: str | None = None,
) -> None:
    """Cast acknowledgements to the worker with the name ``worker``.

    :raises RouterError: the result
    """
    api = rpcapi.AckAPI(transport, version_cap=version_cap)
    _wait(lambda done: api.acknowledge_all('worker', acknowledgements, done))


def _wait(begin: Callable[[Callable[[exceptions.RouterError | None], None]], None]) -> None:
    results: list[exceptions.RouterError | None] = []
    ended = threading.Event()

    def done(error: exceptions.RouterError | None) -> None:
        results.append(error)
        ended.set()

    begin(done)
    if not ended.wait(LONG):
        raise AssertionError('no result of a cast')
    if results[0] is not None:
        raise results[0]
