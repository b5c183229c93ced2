"""The RPC endpoints of a resolver worker. The clients are in ``resolver.rpcapi``.

They validate messages, make one call, and encode its result. An invalid item is refused alone: the
other items of its message are processed.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import time
from typing import Any

import oslo_messaging as messaging

from external_events_router import checks
from external_events_router import context
from external_events_router import events
from external_events_router import exceptions
from external_events_router import rejected
from external_events_router.journal import entries
from external_events_router.journal import reasons
from external_events_router.journal import recorder
from external_events_router.messaging import rpc
from external_events_router.resolver import proofs
from external_events_router.resolver import recording
from external_events_router.resolver import router
from external_events_router.resolver import rpcapi
from external_events_router.resolver.health import circuit_breaker
from external_events_router.resolver.health import liveness
from external_events_router.resolver.health import recovery
from external_events_router.resolver.host_map import base

#: Maximum seconds for a batch in addition to its ``ack_timeout``, whatever the sender requests.
MARGIN = 1.0

#: Maximum number of events in a batch.
MAX_EVENTS = events.MAX_EVENTS

#: Maximum number of servers in a report.
MAX_REPORTED = 100_000

#: Maximum number of hosts in a message of another worker.
MAX_HOSTS = 100_000


class RouteEndpoint:
    """Server for ``rpcapi.ResolverAPI``."""

    target = messaging.Target(version=rpcapi.ResolverAPI.VERSION)

    def __init__(
        self,
        events_router: router.Router,
        *,
        ack_timeout: float = 60.0,
        journal: recorder.Recorder = recorder.NOTHING,
    ) -> None:
        """:param ack_timeout: maximum seconds that a batch waits for its hosts"""
        self._journal = journal
        self._router = events_router
        self._longest = ack_timeout

    @rpc.exposed()
    def route(
        self,
        ctxt: context.RequestContext,
        events: Sequence[Mapping[str, Any]],
        ack_timeout: float,
        timeout: float | None = None,
    ) -> list[dict[str, Any]]:
        for name, value in (('ack_timeout', ack_timeout), ('timeout', timeout)):
            if not (checks.is_number(value) and value > 0) and not (value is None and name == 'timeout'):
                raise exceptions.MalformedMessage(what=name, value=value)
        if not checks.is_list(events, MAX_EVENTS):
            raise exceptions.MalformedMessage(what='events', value=events)
        batch, refused = _events(events)
        outcomes = self._router.route(
            ctxt,
            batch,
            ack_timeout=min(ack_timeout, self._longest),
            timeout=None if timeout is None else min(timeout, self._longest + MARGIN),
        )
        return _answered(outcomes, refused)

    @rpc.exposed()
    def refused(
        self,
        ctxt: context.RequestContext,
        refusals: Sequence[Mapping[str, Any]],
        dropped: int = 0,
        api: Mapping[str, Any] | None = None,
    ) -> None:
        if not checks.is_list(refusals, MAX_EVENTS):
            raise exceptions.MalformedMessage(what='refusals', value=refusals)
        if type(dropped) is not int or dropped < 0:
            raise exceptions.MalformedMessage(what='dropped', value=dropped)
        if api is not None and type(api) is not dict:
            raise exceptions.MalformedMessage(what='api', value=api)
        recording.record_refusals(self._journal, refusals, dropped=dropped, api=api)


class ReportEndpoint:
    """Server for the calls of agents; their topic has no other methods."""

    target = messaging.Target(namespace=rpcapi.HOST_MAP_NAMESPACE, version=rpcapi.HostMapAPI.VERSION)

    def __init__(
        self,
        host_map: base.WritableHostMap,
        hosts: recovery.HostRecovery,
        host_liveness: liveness.HostLiveness,
        report_proofs: proofs.Proofs,
        *,
        reported: Callable[[str], None] = lambda host: None,
    ) -> None:
        """:param reported: called with the host of each report that is accepted"""
        self._host_map = host_map
        self._recovery = hosts
        self._liveness = host_liveness
        self._proofs = report_proofs
        self._reported = reported

    @rpc.exposed(exceptions.NoSuchServer, exceptions.DatabaseUnavailable)
    def report(
        self,
        ctxt: context.RequestContext,
        host: str,
        server_uuids: Sequence[str] | None,
        token: str | None = None,
    ) -> dict[str, float | bool]:
        base.host_name(host, longest=checks.MAX_HOST)
        if not (token is None or token == '' or checks.is_id(token)):
            raise exceptions.MalformedMessage(what='token', value=token)
        if not self._proofs.accepts(host, token):
            return {'now': time.time(), 'proof_needed': True}
        servers = None if server_uuids is None else _server_uuids(server_uuids)
        self._liveness.appeared(host)
        self._reported(host)
        if servers is not None:
            self._recovery.placed(self._host_map.report(host, servers).gained)
        return {'now': time.time()}


class HostMapEndpoint(ReportEndpoint):
    """Server for ``rpcapi.HostMapAPI``; agents of version 1.0 send their reports here."""

    @rpc.exposed(exceptions.NoSuchServer, exceptions.DatabaseUnavailable)
    def assign(self, ctxt: context.RequestContext, server_uuid: str, host: str) -> None:
        server_uuid = base.server_uuid(server_uuid)
        self._host_map.assign(server_uuid, base.host_name(host, longest=checks.MAX_HOST))
        self._recovery.placed([server_uuid])

    @rpc.exposed(exceptions.NoSuchServer, exceptions.DatabaseUnavailable)
    def unassign(self, ctxt: context.RequestContext, server_uuid: str, host: str) -> None:
        self._host_map.unassign(base.server_uuid(server_uuid), base.stored_host_name(host))

    @rpc.exposed(exceptions.NoSuchServer, exceptions.DatabaseUnavailable)
    def forget(self, ctxt: context.RequestContext, server_uuid: str) -> None:
        self._host_map.forget(base.server_uuid(server_uuid))


class PeerEndpoint:
    """Server for ``rpcapi.PeerAPI``."""

    target = messaging.Target(namespace=rpcapi.PEER_NAMESPACE, version=rpcapi.PeerAPI.VERSION)

    def __init__(self, hosts: recovery.HostRecovery, host_liveness: liveness.HostLiveness) -> None:
        self._recovery = hosts
        self._liveness = host_liveness

    @rpc.exposed()
    def host_is_back(self, ctxt: context.RequestContext, host: str) -> None:
        self._recovery.responses_announced(_hosts([host]))

    @rpc.exposed()
    def hosts_are_back(self, ctxt: context.RequestContext, hosts: Sequence[str]) -> None:
        self._recovery.responses_announced(_hosts(hosts))

    @rpc.exposed()
    def hosts_are_silent(
        self, ctxt: context.RequestContext, hosts: Sequence[str], unconsumed: bool = False
    ) -> None:
        if type(unconsumed) is not bool:
            raise exceptions.MalformedMessage(what='unconsumed', value=unconsumed)
        self._liveness.silence_announced(_hosts(hosts), unconsumed=unconsumed)


class OperatorEndpoint:
    """Server of ``rpcapi.OperatorAPI``."""

    target = messaging.Target(namespace=rpcapi.OPERATOR_NAMESPACE, version=rpcapi.OperatorAPI.VERSION)

    def __init__(
        self,
        events_router: router.Router,
        breakers: circuit_breaker.CircuitBreakers,
        *,
        journal: recorder.Recorder = recorder.NOTHING,
        ack_timeout: float = 60.0,
    ) -> None:
        """:param journal: records who had events sent again
        :param ack_timeout: maximum seconds that a batch waits for its hosts
        """
        self._router = events_router
        self._breakers = breakers
        self._journal = journal
        self._longest = ack_timeout

    @rpc.exposed()
    def breakers(self, ctxt: context.RequestContext, hosts: Sequence[str]) -> dict[str, str]:
        named = _hosts(hosts)
        unconsumed = self._breakers.unconsumed_among(named)
        return {
            host: str(
                rpcapi.BreakerState.UNCONSUMED
                if host in unconsumed
                else rpcapi.BreakerState.CLOSED
                if self._breakers.closed([host])
                else rpcapi.BreakerState.OPEN
            )
            for host in named
        }

    @rpc.exposed()
    def replay(
        self,
        ctxt: context.RequestContext,
        events: Sequence[Mapping[str, Any]],
        actor: str,
        ack_timeout: float,
        timeout: float,
    ) -> list[dict[str, Any]]:
        for name, value in (('ack_timeout', ack_timeout), ('timeout', timeout)):
            if not (checks.is_number(value) and value > 0):
                raise exceptions.MalformedMessage(what=name, value=value)
        if type(actor) is not str:
            raise exceptions.MalformedMessage(what='actor', value=actor)
        if not checks.is_list(events, MAX_EVENTS):
            raise exceptions.MalformedMessage(what='events', value=events)
        batch, refused = _events(events)
        self._journal.steps(
            entries.Step(event.id, event.server_uuid, reasons.Step.REPLAYED, actor=actor) for event in batch
        )
        outcomes = self._router.route(
            ctxt,
            batch,
            ack_timeout=min(ack_timeout, self._longest),
            timeout=min(timeout, self._longest + MARGIN),
            replayed=True,
        )
        return _answered(outcomes, refused)


def _events(items: Sequence[Any]) -> tuple[list[events.Event], list[tuple[int, dict[str, Any]]]]:
    """Return the events of a batch, and the outcomes of invalid items by their positions."""
    batch: dict[str, events.Event] = {}
    refused = []
    for position, data in enumerate(items):
        try:
            event = events.Event.from_dict(data)
            # NOTE: the answers of hosts name events by their ids.
            if batch.setdefault(event.id, event) is not event:
                raise exceptions.MalformedMessage(
                    what='event id that is not unique in its batch', value=event.id
                )
        except exceptions.MalformedMessage as exc:
            rejected.ALL.note('event', 'it is answered 400 and not routed', data)
            outcome = {'event': data, 'code': int(events.Code.BAD_TAG), 'reason': str(exc)}
            refused.append((position, outcome))
    return list(batch.values()), refused


def _answered(
    outcomes: Sequence[events.Outcome], refused: Sequence[tuple[int, dict[str, Any]]]
) -> list[dict[str, Any]]:
    """Return the outcomes of a batch in its order, including those of items that are not valid events."""
    answered = [outcome.to_dict() for outcome in outcomes]
    for position, outcome in refused:
        answered.insert(position, outcome)
    return answered


def _hosts(items: object) -> list[str]:
    """Return the valid names of hosts."""
    if not checks.is_list(items, MAX_HOSTS):
        raise exceptions.MalformedMessage(what='hosts', value=items)
    hosts = []
    for item in items:
        if checks.is_host(item):
            hosts.append(item)
        else:
            rejected.ALL.note('host name', 'it is ignored', item)
    return hosts


def _server_uuids(items: object) -> list[str]:
    """Return the valid uuids of a report in canonical form."""
    if not checks.is_list(items, MAX_REPORTED):
        raise exceptions.MalformedMessage(what='server_uuids', value=items)
    servers = []
    for item in items:
        try:
            servers.append(base.server_uuid(item))
        except exceptions.MalformedMessage:
            rejected.ALL.note('server uuid', 'it is left out of the report of its host', item)
    return servers
