"""Calls and casts to the resolver. The server is ``resolver.endpoint``.

There are separate clients for the callers of the resolver: the API routes batches, agents acknowledge
and report. Acknowledgements have their own topic: otherwise threads that wait for acknowledgements could
use all threads of the pool that receives them.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import enum
import functools
import logging
import time
from typing import Any

from oslo_config import cfg
import oslo_messaging as messaging

from external_events_router import context
from external_events_router import events
from external_events_router import exceptions
from external_events_router.messaging import rpc
from external_events_router.messaging import transport as transports
from external_events_router.messaging.amqp import envelope

LOG = logging.getLogger(__name__)

#: Topic of the API and of operators. Agents have no permission to publish to it.
TOPIC = 'external-events-resolver'

#: Topics of agents. With RabbitMQ they publish to a separate exchange for each of these topics, and
#: have no permission to publish to the exchange of all topics.
REPORT_TOPIC = 'external-events-reports'
ACK_TOPIC = 'external-events-acks'

#: Suffix of the name of each of these exchanges, and the routing keys that the resolvers forward
#: from it to the exchange of all topics.
AGENT_EXCHANGES = {'acks': f'{ACK_TOPIC}.#', 'reports': f'{REPORT_TOPIC}.#'}

HOST_MAP_NAMESPACE = 'host-map'
PEER_NAMESPACE = 'peers'
OPERATOR_NAMESPACE = 'operators'

#: Maximum seconds that a caller of the host map waits for the answer.
HOST_MAP_TIMEOUT = 10.0

#: Maximum seconds until an acknowledgement is sent to the broker.
ACK_TIMEOUT = 5.0

#: Seconds without a heartbeat after which a call treats the resolver as failed. A working resolver
#: sends a heartbeat every half of this time. It is the minimum of oslo.messaging: with 1, its servers
#: send no heartbeats, and every longer call fails.
MONITOR_TIMEOUT = 2


class ResolverAPI:
    """Client for routing events.

    Version history:

    * 1.0: ``route``
    * 1.1: ``route`` has the time limit of its caller, so that a second call, which has less time,
      leaves the resolver time to hold events
    * 1.2: ``refused``, for the journal
    * 1.3: ``refused`` has the state of the API process, so that the journal knows until when it has all
      refused requests
    """

    VERSION = '1.3'

    #: A call may hang while the broker is unavailable or in alarm.
    bounded = False

    def __init__(self, transport: messaging.RPCTransport, *, version_cap: str | None = None) -> None:
        target = messaging.Target(topic=TOPIC, version=self.VERSION)
        self._client = rpc.get_client(transport, target, version_cap=version_cap, routed=True)

    @classmethod
    def from_conf(cls, conf: cfg.ConfigOpts, transport: messaging.RPCTransport) -> ResolverAPI:
        """Build the client from the configuration."""
        return cls(transport, version_cap=conf.upgrade_levels.resolver)

    def route(
        self,
        ctxt: context.RequestContext,
        batch: Sequence[events.Event],
        *,
        ack_timeout: float,
        timeout: float,
    ) -> list[events.Outcome]:
        """Deliver a batch.

        :param ack_timeout: seconds that the resolver waits for hosts
        :param timeout: maximum seconds of this call, more than ``ack_timeout``
        :returns: an outcome per event, in the order of the events
        :raises ResolverUnavailable: no resolver answered, or the resolver with the batch has failed; the
            events may have been delivered nevertheless
        :raises BrokerUnavailable: the batch did not reach a resolver
        """
        with rpc.translated(no_answer=exceptions.ResolverUnavailable):
            version, arguments = '1.0', {'ack_timeout': ack_timeout}
            if self._client.can_send_version('1.1'):
                version, arguments = '1.1', {'ack_timeout': ack_timeout, 'timeout': timeout}
            client = self._client.prepare(
                version=version, timeout=timeout, call_monitor_timeout=MONITOR_TIMEOUT
            )
            outcomes = client.call(ctxt, 'route', events=[event.to_dict() for event in batch], **arguments)
        return _outcomes(outcomes, len(batch))

    def refused(
        self,
        refusals: Sequence[Mapping[str, Any]],
        dropped: int = 0,
        api: Mapping[str, Any] | None = None,
    ) -> None:
        """Cast to a resolver which requests the API refused; it records them in the journal.

        A resolver before 1.2 gets nothing, and a resolver before 1.3 does not get ``api``.

        :param refusals: as ``api.refusals.describe`` makes them, with ``age_ms``
        :param dropped: number of those before them that could not be sent
        :param api: the process, as ``api.presence`` describes it
        :raises BrokerUnavailable: the broker did not take the message
        """
        arguments: dict[str, Any] = {'refusals': list(refusals), 'dropped': dropped}
        version = '1.2'
        if api is not None and self._client.can_send_version('1.3'):
            version, arguments = '1.3', {**arguments, 'api': api}
        if self._client.can_send_version(version) and (version == '1.3' or refusals or dropped):
            with rpc.translated():
                self._client.prepare(version=version).cast(context.for_service(), 'refused', **arguments)


def _outcomes(answer: object, number: int) -> list[events.Outcome]:
    """Return the outcomes of a batch from the answer of a resolver.

    :raises ResolverUnavailable: the answer is invalid
    """
    try:
        made = [events.Outcome.from_dict(outcome) for outcome in answer]  # type: ignore[attr-defined]
    except (TypeError, exceptions.MalformedMessage) as exc:
        raise exceptions.ResolverUnavailable(reason=f'its answer is invalid ({exc})') from exc
    if len(made) != number:
        raise exceptions.ResolverUnavailable(reason=f'it answered {len(made)} of {number} events')
    return made


class AckAPI:
    """Client of the worker that waits for acknowledgements.

    Version history:

    * 1.0: ``acknowledge``
    * 1.1: ``acknowledge`` has the argument ``host``, so that a late acknowledgement shows that the host
      responds
    * 1.2: ``acknowledge_all``, for several deliveries at once
    * 1.3: over RabbitMQ, to the exchange ``acks`` of :data:`AGENT_EXCHANGES`
    * 1.4: an acknowledgement has ``details``, and its results state the wait and the handler.
      Servers of 1.2 and 1.3 ignore these members, so the message requires 1.2 only
    """

    VERSION = '1.4'

    def __init__(self, transport: transports.Transport, *, version_cap: str | None = None) -> None:
        """:param transport: publishes to :func:`ack_exchange`
        :param version_cap: the highest version that the resolvers understand; None: the newest
        """
        self._transport = transport
        newest = version_cap or self.VERSION
        self._can_send = functools.cache(functools.partial(rpc.version_includes, newest))

    def acknowledge_all(
        self,
        reply_to: str,
        acknowledgements: Sequence[events.Acknowledgement],
        done: Callable[[exceptions.RouterError | None], None],
    ) -> None:
        """Cast acknowledgements of deliveries, without waiting; further results of these may follow later.

        :param reply_to: from the deliveries
        :param done: called once, mostly from another thread: with None if the broker has all messages, or
            if the worker has ended and waits for nothing; else with ``BrokerUnavailable`` or
            ``Unsendable``. It must not block
        """

        def on_result(_group: int, error: exceptions.RouterError | None) -> None:
            done(None if isinstance(error, transports.Unroutable) else error)

        groups = transports.Groups(1, on_result)
        try:
            messages = [
                transports.Message(ACK_TOPIC, reply_to, envelope.Call(method, version, arguments, {}))
                for method, version, arguments in _ack_calls(acknowledgements, self._can_send)
            ]
        except Exception as exc:  # after any error ``done`` has to be called
            LOG.exception('Acknowledgements for %s cannot be sent', reply_to)
            groups.settle(0, exceptions.Unsendable(reason=f'unexpected {type(exc).__name__}'))
            return
        if messages:
            groups.add(0, messages)
            groups.cast(self._transport, until=time.monotonic() + ACK_TIMEOUT)
        else:
            groups.settle(0, None)


def ack_exchange(transport: messaging.RPCTransport, version_cap: str | None) -> str | None:
    """Return the exchange to which agents publish acknowledgements; None: that of all topics.

    :param version_cap: the value of ``[upgrade_levels] acks``
    """
    own = rpc.version_includes(version_cap or AckAPI.VERSION, '1.3')
    return rpc.agents_exchange(transport, 'acks') if own else None


def _ack_calls(
    acknowledgements: Sequence[events.Acknowledgement], can_send: Callable[[str], bool]
) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield method, version and arguments of messages that the receiver supports."""
    if can_send('1.2'):
        details = can_send('1.4')
        encoded = [each.to_dict(details=details) for each in acknowledgements]
        yield 'acknowledge_all', '1.2', {'acknowledgements': encoded}
        return
    for each in acknowledgements:
        arguments = each.to_dict(details=False)
        version = '1.1' if can_send('1.1') else '1.0'
        if version == '1.0':
            del arguments['host']
        yield 'acknowledge', version, arguments


@dataclasses.dataclass(frozen=True, slots=True)
class Reported:
    """The response to a report.

    :ivar now: time of the resolver, seconds since the epoch; the agent computes the difference of its
        clock from it
    :ivar proof_needed: the report was ignored; report again with a token
    """

    now: float
    proof_needed: bool = False


#: Options of the methods of the host map that are unchanged since 1.0.
_FIRST = {'version': '1.0'}


class HostMapAPI:
    """Client of the host map.

    Version history:

    * 1.0: ``assign``, ``unassign``, ``forget``, ``report``
    * 1.1: ``report`` goes to :data:`REPORT_TOPIC`; over RabbitMQ, to the
      exchange ``reports`` of :data:`AGENT_EXCHANGES`
    * 1.2: ``report`` contains a ``token``, see ``proofs``
    """

    VERSION = '1.2'

    def __init__(self, transport: messaging.RPCTransport, *, version_cap: str | None = None) -> None:
        target = messaging.Target(topic=TOPIC, namespace=HOST_MAP_NAMESPACE, version=self.VERSION)
        self._client = rpc.get_client(transport, target, version_cap=version_cap, routed=True)
        self._report_exchange = rpc.agents_exchange(transport, 'reports')

    @classmethod
    def from_conf(cls, conf: cfg.ConfigOpts, transport: messaging.RPCTransport) -> HostMapAPI:
        """Build the client from the configuration."""
        return cls(transport, version_cap=conf.upgrade_levels.host_map)

    def assign(self, ctxt: context.RequestContext, server_uuid: str, host: str) -> None:
        """Add a host to the hosts of a server. An unknown server becomes known.

        :raises ResolverUnavailable: no resolver answered
        :raises BrokerUnavailable: the call did not reach a resolver
        :raises DatabaseUnavailable: the resolver could not write to the database
        """
        self._call(ctxt, 'assign', _FIRST, server_uuid=server_uuid, host=host)

    def unassign(self, ctxt: context.RequestContext, server_uuid: str, host: str) -> None:
        """Remove a host from the hosts of a server.

        :raises NoSuchServer: the map does not contain the server
        :raises ResolverUnavailable: see :meth:`assign`, also for other errors
        """
        self._call(ctxt, 'unassign', _FIRST, server_uuid=server_uuid, host=host)

    def forget(self, ctxt: context.RequestContext, server_uuid: str) -> None:
        """Delete a server from the map.

        :raises NoSuchServer: the map does not contain the server
        :raises ResolverUnavailable: see :meth:`assign`, also for other errors
        """
        self._call(ctxt, 'forget', _FIRST, server_uuid=server_uuid)

    def report(
        self,
        ctxt: context.RequestContext,
        host: str,
        server_uuids: Iterable[str] | None,
        token: str = '',
    ) -> Reported:
        """Report that a host responds, and all its servers.

        :param server_uuids: all servers on the host; None: the host does not know them, and the map does
            not change
        :param token: last token from the queue of the host; empty: no token has arrived yet
        :raises ResolverUnavailable: see :meth:`assign`, also for other errors
        """
        servers = None if server_uuids is None else sorted(server_uuids)
        where: dict[str, str] = {'version': '1.0'}
        if self._client.can_send_version('1.1'):
            where = {'topic': REPORT_TOPIC, 'version': '1.1'}
            if self._report_exchange is not None:
                where['exchange'] = self._report_exchange
        arguments: dict[str, object] = {'host': host, 'server_uuids': servers}
        if self._client.can_send_version('1.2'):
            where['version'] = '1.2'
            arguments['token'] = token
        answer = self._call(ctxt, 'report', where, **arguments)
        return Reported(float(answer['now']), proof_needed=answer.get('proof_needed') is True)

    def _call(
        self, ctxt: context.RequestContext, method: str, where: Mapping[str, Any], **kwargs: object
    ) -> dict[str, float]:
        with rpc.translated(no_answer=exceptions.ResolverUnavailable):
            answer = self._client.prepare(timeout=HOST_MAP_TIMEOUT, **where).call(ctxt, method, **kwargs)
        return answer or {}


class PeerAPI:
    """Client of one resolver worker for all resolver workers.

    Version history:

    * 1.0: ``host_is_back``
    * 1.1: ``hosts_are_back`` and ``hosts_are_silent``, for many hosts at once
    """

    VERSION = '1.1'

    def __init__(self, transport: messaging.RPCTransport, *, version_cap: str | None = None) -> None:
        target = messaging.Target(topic=TOPIC, namespace=PEER_NAMESPACE, version=self.VERSION)
        self._client = rpc.get_client(transport, target, version_cap=version_cap)

    @classmethod
    def from_conf(cls, conf: cfg.ConfigOpts, transport: messaging.RPCTransport) -> PeerAPI:
        """Build the client that the configuration describes."""
        return cls(transport, version_cap=conf.upgrade_levels.resolver)

    def hosts_are_back(self, hosts: Sequence[str]) -> None:
        """Cast to all workers that hosts respond again.

        :raises BrokerUnavailable: the broker did not accept all messages
        """
        with rpc.translated():
            if self._client.can_send_version('1.1'):
                self._cast('1.1', 'hosts_are_back', hosts=list(hosts))
            else:
                for host in hosts:
                    self._cast('1.0', 'host_is_back', host=host)

    def hosts_are_silent(self, hosts: Sequence[str], *, unconsumed: bool) -> None:
        """Cast to all workers that hosts do not respond. Workers before 1.1 do not get this message.

        :param unconsumed: the queues of the hosts have no consumers
        :raises BrokerUnavailable: the broker did not accept the message
        """
        with rpc.translated():
            if self._client.can_send_version('1.1'):
                self._cast('1.1', 'hosts_are_silent', hosts=list(hosts), unconsumed=unconsumed)

    def _cast(self, version: str, method: str, **arguments: object) -> None:
        client = self._client.prepare(fanout=True, version=version)
        client.cast(context.for_service(), method, **arguments)


class BreakerState(enum.StrEnum):
    """The circuit breaker of a host, as one worker has it."""

    CLOSED = 'closed'
    #: The host did not acknowledge.
    OPEN = 'open'
    #: The queue of the host has no consumer.
    UNCONSUMED = 'unconsumed'


class OperatorAPI:
    """Client of the resolvers for the commands of operators.

    Version history:

    * 1.0: ``breakers`` and ``replay``
    """

    VERSION = '1.0'

    def __init__(self, transport: messaging.RPCTransport, *, version_cap: str | None = None) -> None:
        target = messaging.Target(topic=TOPIC, namespace=OPERATOR_NAMESPACE, version=self.VERSION)
        self._client = rpc.get_client(transport, target, version_cap=version_cap)

    @classmethod
    def from_conf(cls, conf: cfg.ConfigOpts, transport: messaging.RPCTransport) -> OperatorAPI:
        """Build the client that the configuration describes."""
        return cls(transport)

    def breakers(self, hosts: Sequence[str], *, timeout: float) -> Mapping[str, BreakerState]:
        """Ask one worker for the circuit breakers of hosts; the workers inform each other about changes.

        :param timeout: seconds
        :returns: the state for each of the hosts
        :raises ResolverUnavailable: no resolver answered, or its release does not know the question
        :raises BrokerUnavailable: the call did not reach a resolver
        """
        with rpc.translated(no_answer=exceptions.ResolverUnavailable):
            client = self._client.prepare(timeout=timeout, version='1.0')
            answer = client.call(context.for_service(), 'breakers', hosts=list(hosts))
        try:
            return {host: BreakerState(answer[host]) for host in hosts}
        except (TypeError, KeyError, ValueError) as exc:
            raise exceptions.ResolverUnavailable(reason=f'its answer is invalid ({exc})') from exc

    def replay(
        self,
        ctxt: context.RequestContext,
        batch: Sequence[events.Event],
        *,
        actor: str,
        ack_timeout: float,
        timeout: float,
    ) -> list[events.Outcome]:
        """Request that a resolver sends events of one request again, with their ids.

        :param ctxt: the context of the request
        :param actor: the operator, for the journal
        :param ack_timeout: seconds that the resolver waits for hosts
        :param timeout: seconds that this call may take, more than ``ack_timeout``
        :returns: an outcome per event, in their order
        :raises ResolverUnavailable: no resolver answered; the events may have been sent
        :raises BrokerUnavailable: the call did not reach a resolver
        """
        with rpc.translated(no_answer=exceptions.ResolverUnavailable):
            client = self._client.prepare(
                timeout=timeout, version='1.0', call_monitor_timeout=MONITOR_TIMEOUT
            )
            answer = client.call(
                ctxt,
                'replay',
                events=[event.to_dict() for event in batch],
                actor=actor,
                ack_timeout=ack_timeout,
                timeout=timeout,
            )
        return _outcomes(answer, len(batch))
