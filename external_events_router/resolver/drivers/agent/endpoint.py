"""The RPC endpoint for acknowledgements of agents. Its client is ``rpcapi.AckAPI``.

An invalid result is refused alone: the other results of its message are processed.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import oslo_messaging as messaging

from external_events_router import checks
from external_events_router import context
from external_events_router import events
from external_events_router import exceptions
from external_events_router import rejected
from external_events_router.messaging import rpc
from external_events_router.resolver import rpcapi
from external_events_router.resolver.drivers import base as drivers_base
from external_events_router.resolver.drivers.agent import acks


class AckEndpoint:
    """Server for ``rpcapi.AckAPI``."""

    target = messaging.Target(version=rpcapi.AckAPI.VERSION)

    def __init__(self, collector: acks.Collector, observer: drivers_base.HostObserver | None = None) -> None:
        """:param observer: is notified of what acknowledgements show about hosts"""
        self._collector = collector
        self._observer = observer

    @rpc.exposed()
    def acknowledge(
        self,
        ctxt: context.RequestContext,
        delivery_id: str,
        results: Sequence[Mapping[str, Any]],
        host: str | None = None,
    ) -> None:
        if not checks.is_id(delivery_id) or not (host is None or checks.is_host(host)):
            raise exceptions.MalformedMessage(what='acknowledgement', value=(delivery_id, host))
        _require_list('results', results)
        self._collector.acknowledge(delivery_id, _results(results), sender=host, observer=self._observer)

    @rpc.exposed()
    def acknowledge_all(
        self, ctxt: context.RequestContext, acknowledgements: Sequence[Mapping[str, Any]]
    ) -> None:
        _require_list('acknowledgements', acknowledgements)
        for data in acknowledgements:
            if (acknowledgement := _acknowledgement(data)) is not None:
                self._collector.acknowledge(
                    acknowledgement.delivery_id,
                    acknowledgement.results,
                    sender=acknowledgement.host,
                    observer=self._observer,
                )


def _require_list(name: str, value: object) -> None:
    """Check that an argument is a list that is not longer than any valid message contains."""
    if not checks.is_list(value, events.MAX_EVENTS):
        raise exceptions.MalformedMessage(what=name, value=value)


def _acknowledgement(data: Any) -> events.Acknowledgement | None:
    """Return an acknowledgement without its invalid results; None: the whole item is invalid."""
    try:
        return events.Acknowledgement.from_dict(data)
    except exceptions.MalformedMessage:
        pass
    try:
        delivery_id, host, results = data['delivery_id'], data['host'], data['results']
    except (KeyError, TypeError, IndexError):
        delivery_id, host, results = None, None, None
    if not (checks.is_id(delivery_id) and checks.is_host(host) and type(results) is list):
        rejected.ALL.note('acknowledgement', 'it is dropped', data)
        return None
    details = data.get('details') is True
    return events.Acknowledgement(delivery_id, host, tuple(_results(results, details=details)))


def _results(items: Sequence[Any], *, details: bool = False) -> list[events.Result]:
    """Return the results of an acknowledgement without invalid results."""
    results = []
    for data in items:
        try:
            results.append(events.Result.from_dict(data, details=details))
        except exceptions.MalformedMessage:
            rejected.ALL.note('result', 'it is dropped, and its event counts as not acknowledged', data)
    return results
