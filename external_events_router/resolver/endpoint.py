"""The resolver's side of the wire. Its other half is ``resolver.rpcapi``.

No logic: from JSON, one call, to JSON.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
import time
from typing import Any

import oslo_messaging as messaging

from external_events_router import context
from external_events_router import events
from external_events_router import exceptions
from external_events_router import rpc
from external_events_router.resolver import acks
from external_events_router.resolver import presence
from external_events_router.resolver import router
from external_events_router.resolver import rpcapi
from external_events_router.resolver.health import liveness
from external_events_router.resolver.host_map import base


class RouteEndpoint:
    """Server of ``rpcapi.ResolverAPI``."""

    target = messaging.Target(version=rpcapi.ResolverAPI.VERSION)

    def __init__(self, events_router: router.Router) -> None:
        self._router = events_router

    @rpc.exposed(exceptions.MalformedMessage)
    def route(
        self,
        ctxt: context.RequestContext,
        events: Sequence[Mapping[str, Any]],
        ack_timeout: float,
        timeout: float | None = None,
    ) -> list[dict[str, Any]]:
        batch = [_event(data) for data in events]
        outcomes = self._router.route(ctxt, batch, ack_timeout=ack_timeout, timeout=timeout)
        return [outcome.to_dict() for outcome in outcomes]


class AckEndpoint:
    """Server of ``rpcapi.AckAPI``."""

    target = messaging.Target(version=rpcapi.AckAPI.VERSION)

    def __init__(self, collector: acks.Collector) -> None:
        self._collector = collector

    @rpc.exposed()
    def acknowledge(
        self,
        ctxt: context.RequestContext,
        delivery_id: str,
        results: Sequence[Mapping[str, Any]],
        host: str | None = None,
    ) -> None:
        self._collector.acknowledge(
            delivery_id, [events.Result.from_dict(data) for data in results], sender=host
        )

    @rpc.exposed()
    def acknowledge_all(
        self, ctxt: context.RequestContext, acknowledgements: Sequence[Mapping[str, Any]]
    ) -> None:
        for data in acknowledgements:
            said = events.Acknowledgement.from_dict(data)
            self._collector.acknowledge(said.delivery_id, said.results, sender=said.host)


class ReportEndpoint:
    """Server of what agents call; there is nothing else on their topic."""

    target = messaging.Target(namespace=rpcapi.HOST_MAP_NAMESPACE, version=rpcapi.HostMapAPI.VERSION)

    def __init__(
        self,
        host_map: base.WritableHostMap,
        hosts: presence.Presence,
        host_liveness: liveness.HostLiveness,
    ) -> None:
        self._host_map = host_map
        self._presence = hosts
        self._liveness = host_liveness

    @rpc.exposed(exceptions.NoSuchServer, exceptions.DatabaseUnavailable)
    def report(
        self, ctxt: context.RequestContext, host: str, server_uuids: Sequence[str] | None
    ) -> dict[str, float]:
        self._liveness.appeared(host)
        if server_uuids is not None:
            self._presence.placed(self._host_map.report(host, server_uuids).gained)
        return {'now': time.time()}


class HostMapEndpoint(ReportEndpoint):
    """Server of ``rpcapi.HostMapAPI``; reports come here from agents of version 1.0."""

    @rpc.exposed(exceptions.NoSuchServer, exceptions.DatabaseUnavailable)
    def assign(self, ctxt: context.RequestContext, server_uuid: str, host: str) -> None:
        self._host_map.assign(server_uuid, host)
        self._presence.placed([base.server_uuid(server_uuid)])

    @rpc.exposed(exceptions.NoSuchServer, exceptions.DatabaseUnavailable)
    def unassign(self, ctxt: context.RequestContext, server_uuid: str, host: str) -> None:
        self._host_map.unassign(server_uuid, host)

    @rpc.exposed(exceptions.NoSuchServer, exceptions.DatabaseUnavailable)
    def forget(self, ctxt: context.RequestContext, server_uuid: str) -> None:
        self._host_map.forget(server_uuid)


class PeerEndpoint:
    """Server of ``rpcapi.PeerAPI``."""

    target = messaging.Target(namespace=rpcapi.PEER_NAMESPACE, version=rpcapi.PeerAPI.VERSION)

    def __init__(self, hosts: presence.Presence, host_liveness: liveness.HostLiveness) -> None:
        self._presence = hosts
        self._liveness = host_liveness

    @rpc.exposed()
    def host_is_back(self, ctxt: context.RequestContext, host: str) -> None:
        self._presence.heard_of([host])

    @rpc.exposed()
    def hosts_are_back(self, ctxt: context.RequestContext, hosts: Sequence[str]) -> None:
        self._presence.heard_of(hosts)

    @rpc.exposed()
    def hosts_are_silent(
        self, ctxt: context.RequestContext, hosts: Sequence[str], unconsumed: bool = False
    ) -> None:
        self._liveness.told_silent(hosts, unconsumed=unconsumed)


def _event(data: Mapping[str, Any]) -> events.Event:
    return events.Event.from_dict(data)
