"""Transports, clients and servers of oslo.messaging, and the request context in messages.

This module knows no service: topics, methods and versions are in the modules ``rpcapi`` and ``endpoint`` of
resolver and agent. :func:`translated` converts exceptions of oslo.messaging and kombu, so that
they do not leave an ``rpcapi``.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
import functools
import re
import ssl
from typing import Any
from typing import TypeVar
from typing import cast

import kombu.exceptions
from oslo_config import cfg
from oslo_log import log
import oslo_messaging as messaging
from oslo_messaging.rpc import dispatcher
from oslo_messaging.rpc import server as rpc_server
from oslo_utils import strutils

from external_events_router import checks
from external_events_router import context
from external_events_router import exceptions
from external_events_router import rejected
from external_events_router.messaging import driver_log
from external_events_router.messaging import rabbit_driver
from external_events_router.messaging.amqp import availability
from external_events_router.messaging.amqp import broker as brokers
from external_events_router.messaging.amqp import check as broker_check
from external_events_router.messaging.amqp import consumer
from external_events_router.messaging.amqp import envelope

LOG = log.getLogger(__name__)

Method = TypeVar('Method', bound=Callable[..., Any])

#: Default of ``[DEFAULT] control_exchange``: the exchange of all topics.
EXCHANGE = 'external_events'

#: Modules whose exceptions a caller of RPC gets with their own type.
ALLOWED_REMOTE_EXMODS = [exceptions.__name__]

#: Number of retries of a publish. At least one is necessary, because a pooled connection may be broken;
#: the caller limits the time.
PUBLISH_RETRIES = 1

_VERSION = re.compile('[0-9]{1,4}[.][0-9]{1,4}')
#: Maximum seconds for the check of the connection of oslo.messaging, for all nodes of a cluster together.
DRIVER_CHECK_TIMEOUT = 20.0

#: Names of drivers for RabbitMQ.
_RABBIT = ('rabbit', 'kombu')


class ContextSerializer(messaging.NoOpSerializer):
    """Puts the request context into messages; the arguments are already JSON."""

    def serialize_context(self, ctxt: context.RequestContext) -> dict[str, Any]:
        return dict(ctxt.to_dict())

    def deserialize_context(self, ctxt: Mapping[str, Any]) -> context.RequestContext:
        # NOTE: creating a context also stores it for this thread. So log messages of the called service
        # contain the request id.
        return context.from_wire(ctxt)


def set_defaults() -> None:
    """Replace the default exchange of oslo.messaging, ``openstack``. Call it before creating a transport."""
    messaging.set_transport_defaults(control_exchange=EXCHANGE)


def get_transport(conf: cfg.ConfigOpts) -> messaging.RPCTransport:
    """Return the transport of ``[DEFAULT] transport_url``. It connects at the first use.

    :param conf: ``cfg.CONF``: oslo.messaging registers its options for metrics only there, and a cast
        with another object fails
    :raises ConfigurationError: the URL names an unknown driver, or cannot be parsed
    """
    driver_log.install()
    set_defaults()
    rabbit_driver.install()
    try:
        return messaging.get_rpc_transport(conf, url=_url(conf), allowed_remote_exmods=ALLOWED_REMOTE_EXMODS)
    except RuntimeError as exc:
        raise exceptions.ConfigurationError(option=f'[{rabbit_driver.GROUP}]', reason=str(exc)) from exc
    except (messaging.InvalidTransportURL, messaging.DriverLoadFailure, ValueError) as exc:
        # NOTE: without the text of the error, which may contain the password of the URL.
        raise exceptions.ConfigurationError(
            option='[DEFAULT] transport_url', reason='oslo.messaging cannot create a transport for this URL'
        ) from exc


def get_transport_at(conf: cfg.ConfigOpts, url: str, *, source: str) -> messaging.RPCTransport:
    """Return a transport to the broker of another service, for casts and calls. It connects at the first use.

    :param conf: ``cfg.CONF``, as for :func:`get_transport`
    :param url: its query may contain options of the driver, which take precedence over ``conf``
    :param source: option that contains the URL, for the error
    :raises ConfigurationError: the URL names an unknown driver, or cannot be parsed
    """
    rabbit_driver.install()
    try:
        parsed = messaging.TransportURL.parse(conf, url)
        if parsed.transport in _RABBIT:
            rabbit_driver.register_options(conf)
            # NOTE: the default of oslo.messaging, which applies to the services of that broker.
            if not rabbit_driver.is_set(conf, 'amqp_durable_queues'):
                parsed.query.setdefault('amqp_durable_queues', 'false')
        return messaging.get_rpc_transport(conf, url=parsed, allowed_remote_exmods=[])
    except (messaging.InvalidTransportURL, messaging.DriverLoadFailure, ValueError) as exc:
        # NOTE: without the text of the error, which may contain the password of the URL.
        raise exceptions.ConfigurationError(
            option=source, reason='oslo.messaging cannot create a transport for this URL'
        ) from exc


def get_client(
    transport: messaging.RPCTransport,
    target: messaging.Target,
    *,
    version_cap: str | None = None,
    routed: bool = False,
    serializer: messaging.NoOpSerializer | None = None,
) -> messaging.RPCClient:
    """Return a client of a topic.

    :param version_cap: highest version that all servers support, from ``[upgrade_levels]``; None: the
        newest
    :param routed: raise ``MessageUndeliverable`` for a message that the broker cannot put into a queue,
        instead of losing the message
    :param serializer: None: :class:`ContextSerializer`
    """
    return messaging.get_rpc_client(
        transport,
        target,
        version_cap=version_cap,
        serializer=serializer or ContextSerializer(),
        retry=PUBLISH_RETRIES,
        transport_options=messaging.TransportOptions(at_least_once=True) if routed else None,
    )


def get_server(
    transport: messaging.RPCTransport,
    target: messaging.Target,
    endpoints: Sequence[Any],
    *,
    replies: bool = True,
) -> messaging.MessageHandlingServer:
    """Return a server of a topic, on native threads. Only exposed methods can be called.

    :param replies: False if clients only cast: then a message that asks for a reply is processed without
        a reply. Otherwise the driver could occupy the thread for up to a minute if the reply queue is missing
    """
    # NOTE: the same as messaging.get_rpc_server, with another dispatcher.
    return rpc_server.RPCServer(transport, target, _Dispatcher(endpoints, replies=replies))


class _Dispatcher(dispatcher.RPCDispatcher):
    """Answers an invalid message with an error, without logging a traceback."""

    def __init__(self, endpoints: Sequence[Any], *, replies: bool) -> None:
        super().__init__(endpoints, ContextSerializer(), dispatcher.ExplicitRPCAccessPolicy)
        self._replies = replies

    def dispatch(self, incoming: Any) -> Any:
        if not self._replies:
            incoming.client_timeout, incoming.reply = None, _send_no_reply
        message = incoming.message
        problem = _problem(message)
        if problem is not None:
            raise _refusal('message', f'it is dropped, because {problem}', message)
        # NOTE: for a method that does not exist, the driver would send heartbeats without end.
        if not checks.is_number(incoming.client_timeout) or not self._has_method(message):
            incoming.client_timeout = None
        try:
            return super().dispatch(incoming)
        except (dispatcher.NoSuchMethod, messaging.UnsupportedVersion) as exc:
            rejected.ALL.note('message', 'it is dropped, because its method is unknown', str(exc))
            raise messaging.ExpectedException() from exc

    def _has_method(self, message: Mapping[str, Any]) -> bool:
        namespace, version = message.get('namespace'), message.get('version', '1.0')
        return any(
            hasattr(endpoint, message['method'])
            and self.access_policy.is_allowed(endpoint, message['method'])
            for endpoint in self.endpoints
            if self._is_namespace(endpoint.target, namespace)
            and self._is_compatible(endpoint.target, version)
        )


def _send_no_reply(reply: object = None, failure: object = None) -> None:
    """Replaces the method ``reply`` of an incoming message; sends nothing."""


def _problem(message: Any) -> str | None:
    """Return why an RPC message is invalid, without checking its arguments; None: it is valid."""
    if not isinstance(message, dict):
        return 'it is not a JSON object'
    namespace, version = message.get('namespace'), message.get('version', '1.0')
    if not isinstance(message.get('method'), str) or not isinstance(message.get('args', {}), dict):
        return 'it has no method, or its arguments are not a JSON object'
    if not (namespace is None or isinstance(namespace, str)) or not is_version(version):
        return 'its namespace or version is invalid'
    return None


def _refusal(kind: str, problem: str, value: object) -> messaging.ExpectedException:
    """Count and log an invalid message, and return the exception to raise for it."""
    rejected.ALL.note(kind, problem, value)
    try:
        raise exceptions.MalformedMessage(what=kind, value=value)
    except exceptions.MalformedMessage:
        return messaging.ExpectedException()


def is_version(version: object) -> bool:
    """Return whether a value is a valid version of an interface."""
    return type(version) is str and _VERSION.fullmatch(version) is not None


@functools.lru_cache(maxsize=100)
def version_includes(newest: str, wanted: str) -> bool:
    """Return whether a server of version ``newest`` supports version ``wanted``."""
    major, minor = map(int, newest.split('.')[:2])
    wanted_major, wanted_minor = map(int, wanted.split('.')[:2])
    return major == wanted_major and minor >= wanted_minor


def listener(endpoint: Any) -> Callable[[envelope.Call], None]:
    """Return a function that passes messages of a direct AMQP consumer to the exposed methods of an endpoint.

    :param endpoint: with ``target``, as for :func:`get_server`; its methods are only cast. If it has
        ``defers_contexts``, which is true, they accept a :class:`context.Deferred`, too, and get one
    """

    # NOTE: used for messages without a context. Created once, because creating its id is slow.
    service_context = context.for_service()
    defers = getattr(endpoint, 'defers_contexts', False)

    def take(call: envelope.Call) -> None:
        method = getattr(endpoint, call.method, None)
        if (
            method is None
            or not getattr(method, 'exposed', False)
            or call.namespace != endpoint.target.namespace
            or not is_version(call.version)
            or not version_includes(endpoint.target.version, call.version)
        ):
            known = 'it is dropped, because its method or version is unknown'
            rejected.ALL.note('message', known, (call.method, call.version))
            return
        ctxt: context.RequestContext | context.Deferred = service_context
        if call.context and not defers:
            ctxt = context.from_wire(call.context)
        else:
            # NOTE: log messages of this thread must not name an earlier request.
            service_context.update_store()
            if call.context:
                ctxt = context.Deferred(call.context)
        # NOTE: raised for invalid messages, and for errors that would be the answer of a call.
        with contextlib.suppress(messaging.ExpectedException):
            method(ctxt, **call.arguments)

    return take


def exposed(*answers: type[Exception]) -> Callable[[Method], Method]:
    """Make a method of an endpoint callable by RPC.

    :param answers: exceptions that are returned to the caller without a traceback in the log.
        ``MalformedMessage`` and unknown arguments are always treated in this way; both are
        counted, and logged in one short message
    """

    def mark(method: Method) -> Method:
        name = getattr(method, '__name__', '')

        @functools.wraps(method)
        def call(*args: Any, **kwargs: Any) -> Any:
            try:
                return method(*args, **kwargs)
            except answers as exc:
                raise messaging.ExpectedException() from exc
            except exceptions.MalformedMessage as exc:
                rejected.ALL.note(name, 'the message is refused', str(exc))
                raise messaging.ExpectedException() from exc
            except TypeError as exc:
                # NOTE: raised by the call itself, not inside the method.
                if exc.__traceback__ is None or exc.__traceback__.tb_next is not None:
                    raise
                refusal = _refusal(name, 'its arguments are not those of the method', kwargs)
                raise refusal from None

        return cast(Method, messaging.expose(call))

    return mark


@contextlib.contextmanager
def translated(
    *, host: str | None = None, no_answer: type[exceptions.RouterError] = exceptions.BrokerUnavailable
) -> Iterator[None]:
    """Translate the exceptions of a publish or a call.

    :param host: host whose queue is the target, if the target is a host
    :param no_answer: exception to raise if a call gets no answer
    :raises HostUnreachable: the broker has no queue for the host
    :raises BrokerUnavailable: the broker is unavailable or did not accept the message

    An exception of the server that is not one of :mod:`exceptions` is treated as no answer: it is
    unknown whether the server had processed the call before.
    """
    try:
        yield
    except messaging.MessageUndeliverable as exc:
        if host is None:
            raise no_answer(reason='the topic has no consumers') from exc
        raise exceptions.HostUnreachable(host=host) from exc
    except messaging.MessagingTimeout as exc:
        raise no_answer(reason='no reply in time') from exc
    except messaging.RemoteError as exc:
        raise no_answer(reason=f'the server failed with {exc.exc_type}') from exc
    except (
        # NOTE: this includes MessageDeliveryFailure, and messages that cannot be encoded.
        messaging.MessagingException,
        # NOTE: the first connect fails with an exception of kombu, not of oslo.messaging.
        kombu.exceptions.OperationalError,
        OSError,
    ) as exc:
        raise exceptions.BrokerUnavailable(reason=type(exc).__name__) from exc


def broker_address(conf: cfg.ConfigOpts) -> str:
    """Return the addresses of the broker without its passwords, for logs and errors."""
    url = messaging.TransportURL.parse(conf)
    hosts = ', '.join(f'{host.hostname}:{host.port}' for host in url.hosts if host.hostname)
    return f'{url.transport}://{hosts}'


def check_broker(conf: cfg.ConfigOpts, timeout: float = brokers.CONNECT_TIMEOUT) -> None:
    """Check at start that RabbitMQ of ``[DEFAULT] transport_url`` accepts connections of this service.

    Other drivers have no broker that could be checked in this way; the function does nothing for them.

    Both clients are checked: direct AMQP, and oslo.messaging, which interprets some options differently.
    The queues that both would declare are checked, too.

    :param timeout: seconds, for all nodes of a cluster together
    :raises ConfigurationError: no node is available, or it refuses the user or the queues
    """
    # NOTE: creating a transport registers the options of the driver, for example for TLS.
    transport = get_transport(conf)
    url = _url(conf)
    if url.transport not in _RABBIT:
        return
    broker = _broker(conf, url, conf.control_exchange)
    try:
        connection = broker.connect(name='check', timeout=timeout)
    except exceptions.BrokerUnavailable as exc:
        raise exceptions.ConfigurationError(
            option='[DEFAULT] transport_url', reason=f'RabbitMQ accepts no connection: {exc.kwargs["reason"]}'
        ) from exc
    try:
        broker_check.check_declarations(
            broker,
            connection,
            transient_quorum=bool(_driver_options(conf, url)('rabbit_transient_quorum_queue')),
        )
    finally:
        connection.collect()
    rabbit_driver.check(transport, url, timeout=DRIVER_CHECK_TIMEOUT)
    if broker.tls and not rabbit_driver.verifies_tls(conf):
        LOG.warning(
            '[broker] verify_tls is false: the certificate of the broker is not verified, so an attacker '
            'between this service and the broker can read and change all messages. Set '
            '[oslo_messaging_rabbit] ssl_ca_file, and remove this option'
        )


def agents_exchange(transport: messaging.RPCTransport, purpose: str) -> str | None:
    """Return the exchange to which agents publish, so that the broker can refuse all other exchanges.

    The resolvers forward its messages to the exchange of all topics: see ``amqp.forwarding``.

    :param purpose: suffix of the name of the exchange
    :returns: None without RabbitMQ; then agents publish to the exchange of all topics
    """
    if messaging.TransportURL.parse(transport.conf).transport not in _RABBIT:
        return None
    return f'{transport.conf.control_exchange}_{purpose}'


def get_rabbit(conf: cfg.ConfigOpts) -> brokers.Broker | None:
    """Return RabbitMQ of ``[DEFAULT] transport_url``, for declarations, with any options of its driver.

    :param conf: as for :func:`get_transport`, which must be called first
    :returns: None for another driver
    """
    url = _url(conf)
    return _broker(conf, url, conf.control_exchange) if url.transport in _RABBIT else None


def get_broker(
    conf: cfg.ConfigOpts, *, url: str | None = None, exchange: str | None = None
) -> brokers.Broker | None:
    """Return the broker of a transport, if its messages can use direct AMQP (see ``amqp``).

    :param conf: as for :func:`get_transport`, which must be called first
    :param url: None: ``[DEFAULT] transport_url``
    :param exchange: None: ``[DEFAULT] control_exchange``
    :returns: None if only oslo.messaging can be used: for another driver, or for an option that direct
        AMQP does not support
    """
    parsed = _url(conf, url)
    if parsed.transport not in _RABBIT:
        return None
    option = _driver_options(conf, parsed)
    if option('kombu_compression') or option('rabbit_ha_queues') or option('ssl_enforce_fips_mode'):
        return None
    return _broker(conf, parsed, exchange or conf.control_exchange)


def get_bindings(conf: cfg.ConfigOpts) -> consumer.Consumer | None:
    """Return an object that keeps the bindings of queues that RPC servers of oslo.messaging consume.

    If a binding is lost, or an exchange is deleted, oslo.messaging declares it again only when such a
    server is restarted.

    :returns: for :meth:`consumer.Consumer.keep_bound`; None: not RabbitMQ
    """
    broker = get_rabbit(conf)
    return None if broker is None else consumer.Consumer(broker, name='bindings')


def _url(conf: cfg.ConfigOpts, url: str | None = None) -> messaging.TransportURL:
    """Return the URL of a transport, with the defaults of this service in its query.

    So the defaults do not apply to other transports of a process that uses the agent as a library.

    :raises InvalidTransportURL: the URL cannot be parsed
    """
    parsed = messaging.TransportURL.parse(conf, url)
    if parsed.transport in _RABBIT:
        rabbit_driver.register_options(conf)
        section = conf[rabbit_driver.GROUP]
        for name, default in rabbit_driver.DEFAULTS.items():
            if section[name] != default and not rabbit_driver.is_set(conf, name):
                parsed.query.setdefault(name, str(default))
    return parsed


def _broker(conf: cfg.ConfigOpts, url: messaging.TransportURL, exchange: str) -> brokers.Broker:
    option = _driver_options(conf, url)
    quorum = bool(option('rabbit_quorum_queue'))
    limits = {
        'x-delivery-limit': option('rabbit_quorum_delivery_limit'),
        'x-max-in-memory-length': option('rabbit_quorum_max_memory_length'),
        'x-max-in-memory-bytes': option('rabbit_quorum_max_memory_bytes'),
    }
    nodes = [
        brokers.Node(
            host=host.hostname or 'localhost',
            port=host.port or brokers.DEFAULT_PORT,
            username=host.username or 'guest',
            password=host.password or 'guest',
        )
        for host in url.hosts or [messaging.TransportHost()]
    ]
    return brokers.Broker(
        nodes=nodes,
        availability=availability.of(map(str, nodes)),
        virtual_host=url.virtual_host or '/',
        exchange=exchange,
        durable=quorum or bool(option('amqp_durable_queues')),
        auto_delete=bool(option('amqp_auto_delete')),
        queue_arguments={
            'x-queue-type': 'quorum',
            **{name: value for name, value in limits.items() if value},
        }
        if quorum
        else {},
        heartbeat=float(option('heartbeat_timeout_threshold')),
        login_method=str(option('rabbit_login_method')),
        tls=_tls(option, verify=rabbit_driver.verifies_tls(conf)),
    )


def _driver_options(conf: cfg.ConfigOpts, url: messaging.TransportURL) -> Callable[[str], Any]:
    """Return a function that reads options of the RabbitMQ driver, also from the URL, as ``?ssl=1``."""
    section = conf.oslo_messaging_rabbit

    def value(name: str) -> Any:
        text = url.query.get(name)
        if text is None:
            return section[name]
        kind = type(section[name])
        return strutils.bool_from_string(text) if kind is bool else kind(text)

    return value


def _tls(option: Callable[[str], Any], *, verify: bool) -> Mapping[str, Any] | bool:
    if not option('ssl'):
        return False
    params = {
        'keyfile': option('ssl_key_file') or None,
        'certfile': option('ssl_cert_file') or None,
        # NOTE: without this file py-amqp loads the trust store of the system.
        'ca_certs': option('ssl_ca_file') or None,
        'cert_reqs': ssl.CERT_REQUIRED if verify else ssl.CERT_NONE,
    }
    return {name: value for name, value in params.items() if value is not None}
