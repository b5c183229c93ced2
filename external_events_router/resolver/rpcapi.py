"""Calls and casts to the resolver. Their other half is ``resolver.endpoint``.

Three clients, because three kinds of caller reach the resolver: the front
routes, agents acknowledge and report. Acknowledgements have a topic of their
own: threads that wait for them must not be able to fill the pool that
receives them.
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
from external_events_router import settling
from external_events_router.messaging import rpc
from external_events_router.messaging.amqp import envelope
from external_events_router.messaging.amqp import publisher

LOG = logging.getLogger(__name__)

#: For the API and operators: agents have no permission to publish to it.
TOPIC = 'external-events-resolver'

#: For agents. Over RabbitMQ they publish to an exchange for each of the two, and
#: have no permission to publish to the exchange of all topics.
REPORT_TOPIC = 'external-events-reports'
ACK_TOPIC = 'external-events-acks'

#: End of the name of each of these exchanges, and the routing keys that the
#: resolvers forward from it to the exchange of all topics.
AGENT_EXCHANGES = {'acks': f'{ACK_TOPIC}.#', 'reports': f'{REPORT_TOPIC}.#'}

HOST_MAP_NAMESPACE = 'host-map'
PEER_NAMESPACE = 'peers'
OPERATOR_NAMESPACE = 'operators'

#: Seconds. How long a caller of the host map waits for the answer.
HOST_MAP_TIMEOUT = 10.0

#: Seconds for which an acknowledgement may wait until it is sent to the broker.
ACK_TIMEOUT = 5.0

#: Seconds without a sign of life after which a resolver counts as dead. It
#: gives one every half of it while it works. The least that oslo.messaging
#: takes: at 1 its servers give no sign at all, and every call that takes longer
#: than that fails.
MONITOR_TIMEOUT = 2


class ResolverAPI:
    """Client of the routing of events.

    Version history:

    * 1.0: ``route``
    * 1.1: ``route`` says how long its caller waits, so that a second call, which has
      less time, leaves the resolver the time to hold events
    """

    VERSION = '1.1'

    #: A call on a broker that is away or in alarm may hang.
    bounded = False

    def __init__(self, transport: messaging.RPCTransport, *, version_cap: str | None = None) -> None:
        target = messaging.Target(topic=TOPIC, version=self.VERSION)
        self._client = rpc.get_client(transport, target, version_cap=version_cap, routed=True)

    @classmethod
    def from_conf(cls, conf: cfg.ConfigOpts, transport: messaging.RPCTransport) -> ResolverAPI:
        """The client that the configuration asks for."""
        return cls(transport, version_cap=conf.upgrade_levels.resolver)

    def route(
        self,
        ctxt: context.RequestContext,
        batch: Sequence[events.Event],
        *,
        ack_timeout: float,
        timeout: float,
    ) -> list[events.Outcome]:
        """Have a batch delivered.

        :param ack_timeout: seconds that the resolver waits for hosts
        :param timeout: seconds that this call may take, more than ``ack_timeout``
        :returns: an outcome per event, in their order
        :raises ResolverUnavailable: no resolver answered, or the one that had
            the batch died; the events may have been delivered all the same
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
        try:
            made = [events.Outcome.from_dict(outcome) for outcome in outcomes]
        except (TypeError, exceptions.MalformedMessage) as exc:
            raise exceptions.ResolverUnavailable(reason=f'its answer is invalid ({exc})') from exc
        if len(made) != len(batch):
            raise exceptions.ResolverUnavailable(reason=f'it answered {len(made)} of {len(batch)} events')
        return made


class AckAPI:
    """Client of the worker that waits for acknowledgements.

    Version history:

    * 1.0: ``acknowledge``
    * 1.1: ``acknowledge`` says from which ``host``, so that a late one counts
      as a sign of life
    * 1.2: ``acknowledge_all``, for several deliveries at once
    * 1.3: over RabbitMQ, to the exchange ``acks`` of :data:`AGENT_EXCHANGES`
    """

    VERSION = '1.3'

    def __init__(self, transport: messaging.RPCTransport, *, version_cap: str | None = None) -> None:
        own = rpc.version_includes(version_cap or self.VERSION, '1.3')
        exchange = rpc.agents_exchange(transport, 'acks') if own else None
        target = messaging.Target(exchange=exchange, topic=ACK_TOPIC, version=self.VERSION)
        self._client = rpc.get_client(transport, target, version_cap=version_cap)

    @classmethod
    def from_conf(cls, conf: cfg.ConfigOpts, transport: messaging.RPCTransport) -> AckAPI:
        """The client that the configuration asks for."""
        return cls(transport, version_cap=conf.upgrade_levels.acks)

    def acknowledge_all(self, reply_to: str, acknowledgements: Sequence[events.Acknowledgement]) -> None:
        """Cast what hosts say of deliveries; results of other events of these may follow later.

        :param reply_to: as the deliveries said
        :raises BrokerUnavailable: the broker did not take the message, or not all
        """
        with rpc.translated():
            for method, version, arguments in _ack_calls(acknowledgements, self._client.can_send_version):
                self._client.prepare(server=reply_to, version=version).cast(
                    context.for_service(), method, **arguments
                )


def ack_exchange(exchange: str, version_cap: str | None) -> str:
    """Return the exchange to which agents publish acknowledgements over RabbitMQ.

    :param exchange: that of all topics
    :param version_cap: of ``[upgrade_levels] acks``
    """
    return f'{exchange}_acks' if rpc.version_includes(version_cap or AckAPI.VERSION, '1.3') else exchange


class FastAckAPI:
    """Client of the worker that waits for acknowledgements, on the fast road; versions as :class:`AckAPI`."""

    def __init__(self, publishing: publisher.Publisher, *, version_cap: str | None = None) -> None:
        """:param publishing: publishes to :func:`ack_exchange`"""
        self._publisher = publishing
        self._can_send = functools.cache(
            functools.partial(rpc.version_includes, version_cap or AckAPI.VERSION)
        )

    def begin(
        self,
        reply_to: str,
        acknowledgements: Sequence[events.Acknowledgement],
        done: Callable[[exceptions.RouterError | None], None],
    ) -> None:
        """Cast as :meth:`AckAPI.acknowledge_all` does, but do not wait.

        :param done: called once, mostly from another thread, when the broker has
            the message, or all, or with why it has not; has to be quick
        """
        once: settling.Once[exceptions.RouterError] = settling.Once(1, lambda _item, error: done(error))
        try:
            messages = [
                publisher.Message(
                    f'{ACK_TOPIC}.{reply_to}', envelope.encode(envelope.Call(method, version, arguments, {}))
                )
                for method, version, arguments in _ack_calls(acknowledgements, self._can_send)
            ]
            if not messages:
                once.settle(0, None)
                return
            self._publisher.publish(
                messages, _AllOf(len(messages), once).settle, until=time.monotonic() + ACK_TIMEOUT
            )
        except Exception as exc:  # whatever it is, ``done`` has to be called
            LOG.exception('Acknowledgements for %s cannot be published', reply_to)
            once.settle(0, exceptions.Unsendable(reason=f'unexpected {type(exc).__name__}'))


class _AllOf:
    """Messages that are done together, with the first error of any."""

    def __init__(self, number: int, once: settling.Once[exceptions.RouterError]) -> None:
        self._left = number
        self._once = once
        self._error: exceptions.RouterError | None = None

    def settle(self, _number: int, error: exceptions.RouterError | None) -> None:
        """One is done; always called from the same thread, or before any other."""
        # NOTE: a worker that is no more waits for nothing.
        if not isinstance(error, publisher.Unroutable):
            self._error = self._error or error
        self._left -= 1
        if not self._left:
            self._once.settle(0, self._error)


def _ack_calls(
    acknowledgements: Sequence[events.Acknowledgement], can_send: Callable[[str], bool]
) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Method, version and arguments of each message that says it, to who knows these versions."""
    if can_send('1.2'):
        yield 'acknowledge_all', '1.2', {'acknowledgements': [each.to_dict() for each in acknowledgements]}
        return
    for each in acknowledgements:
        arguments = each.to_dict()
        version = '1.1' if can_send('1.1') else '1.0'
        if version == '1.0':
            del arguments['host']
        yield 'acknowledge', version, arguments


@dataclasses.dataclass(frozen=True, slots=True)
class Reported:
    """The answer to a report.

    :ivar now: the resolver's time, seconds since the epoch, by which an agent can tell how
        far its own clock is off
    :ivar proof_needed: the report had no effect; report again with a token
    """

    now: float
    proof_needed: bool = False


#: Of the methods of the host map that have not changed since.
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
        """The client that the configuration asks for."""
        return cls(transport, version_cap=conf.upgrade_levels.host_map)

    def assign(self, ctxt: context.RequestContext, server_uuid: str, host: str) -> None:
        """Say that a server is on a host (too). An unknown server becomes known.

        :raises ResolverUnavailable: no resolver answered
        :raises BrokerUnavailable: the call did not reach a resolver
        :raises DatabaseUnavailable: the resolver could not write it down
        """
        self._call(ctxt, 'assign', _FIRST, server_uuid=server_uuid, host=host)

    def unassign(self, ctxt: context.RequestContext, server_uuid: str, host: str) -> None:
        """Say that a server is not on a host (any more).

        :raises NoSuchServer: the map does not know it
        :raises ResolverUnavailable: as :meth:`assign`, and the others there
        """
        self._call(ctxt, 'unassign', _FIRST, server_uuid=server_uuid, host=host)

    def forget(self, ctxt: context.RequestContext, server_uuid: str) -> None:
        """Say that a server is no more.

        :raises NoSuchServer: the map does not know it
        :raises ResolverUnavailable: as :meth:`assign`, and the others there
        """
        self._call(ctxt, 'forget', _FIRST, server_uuid=server_uuid)

    def report(
        self,
        ctxt: context.RequestContext,
        host: str,
        server_uuids: Iterable[str] | None,
        token: str = '',
    ) -> Reported:
        """Say that a host is there, and the whole truth about its servers.

        :param server_uuids: every server on the host; None: the host does not
            know, and the map stays as it is
        :param token: the last token from the queue of the host; empty: no token has arrived yet
        :raises ResolverUnavailable: as :meth:`assign`, and the others there
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
    """Client of all resolver workers, of one of them.

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
        """The client that the configuration asks for."""
        return cls(transport, version_cap=conf.upgrade_levels.resolver)

    def hosts_are_back(self, hosts: Sequence[str]) -> None:
        """Cast to every worker that hosts which were not waited for have answered.

        :raises BrokerUnavailable: the broker did not take the message, or not all
        """
        with rpc.translated():
            if self._client.can_send_version('1.1'):
                self._cast('1.1', 'hosts_are_back', hosts=list(hosts))
            else:
                for host in hosts:
                    self._cast('1.0', 'host_is_back', host=host)

    def hosts_are_silent(self, hosts: Sequence[str], *, unconsumed: bool) -> None:
        """Cast to every worker that hosts do not respond. Workers before 1.1 are not told.

        :param unconsumed: nobody consumes from their queues
        :raises BrokerUnavailable: the broker did not take the message
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

    * 1.0: ``breakers``
    """

    VERSION = '1.0'

    def __init__(self, transport: messaging.RPCTransport, *, version_cap: str | None = None) -> None:
        target = messaging.Target(topic=TOPIC, namespace=OPERATOR_NAMESPACE, version=self.VERSION)
        self._client = rpc.get_client(transport, target, version_cap=version_cap)

    @classmethod
    def from_conf(cls, conf: cfg.ConfigOpts, transport: messaging.RPCTransport) -> OperatorAPI:
        """The client that the configuration asks for."""
        return cls(transport)

    def breakers(self, hosts: Sequence[str], *, timeout: float) -> Mapping[str, BreakerState]:
        """Ask one worker for the circuit breakers of hosts; the workers tell each other what changes.

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
