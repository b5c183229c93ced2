"""Transport, clients and servers of oslo.messaging, and the context on the wire.

It knows no service: topics, methods and versions live in the ``rpcapi`` and
``endpoint`` modules of the resolver and the agent. Its only part in error
handling is :func:`translated`, so that no error of oslo.messaging or kombu
gets further than an ``rpcapi``.
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

#: The exchange of all topics, unless ``[DEFAULT] control_exchange`` says otherwise.
EXCHANGE = 'external_events'

#: Modules whose errors a caller gets back as what they were.
ALLOWED_REMOTE_EXMODS = [exceptions.__name__]

#: Attempts after the first for one publish. A pooled connection may have died
#: unnoticed, so none is too few; the time is bounded by who publishes.
PUBLISH_RETRIES = 1

_VERSION = re.compile('[0-9]{1,4}[.][0-9]{1,4}')
#: Seconds for the check of oslo.messaging's own connection, all nodes of a cluster together.
DRIVER_CHECK_TIMEOUT = 20.0

#: Drivers behind which there is a RabbitMQ.
_RABBIT = ('rabbit', 'kombu')


class ContextSerializer(messaging.NoOpSerializer):
    """Carries the request context; arguments are JSON already."""

    def serialize_context(self, ctxt: context.RequestContext) -> dict[str, Any]:
        return dict(ctxt.to_dict())

    def deserialize_context(self, ctxt: Mapping[str, Any]) -> context.RequestContext:
        # NOTE: building a context also makes it the thread's own, which is
        # how the request id gets into the log lines of the called service.
        return context.from_wire(ctxt)


def set_defaults() -> None:
    """Our exchange in place of oslo.messaging's ``openstack``; before any transport."""
    messaging.set_transport_defaults(control_exchange=EXCHANGE)


def get_transport(conf: cfg.ConfigOpts) -> messaging.RPCTransport:
    """The transport of ``[DEFAULT] transport_url``. It connects at its first use.

    :param conf: ``cfg.CONF``: oslo.messaging registers its metrics options
        there and nowhere else, and a cast with another one fails
    :raises ConfigurationError: the URL names no driver, or cannot be parsed
    """
    driver_log.install()
    set_defaults()
    rabbit_driver.install()
    try:
        return messaging.get_rpc_transport(conf, url=_url(conf), allowed_remote_exmods=ALLOWED_REMOTE_EXMODS)
    except RuntimeError as exc:
        raise exceptions.ConfigurationError(option=f'[{rabbit_driver.GROUP}]', reason=str(exc)) from exc
    except (messaging.InvalidTransportURL, messaging.DriverLoadFailure, ValueError) as exc:
        # NOTE: not the error's own text, which may hold the URL's password.
        raise exceptions.ConfigurationError(
            option='[DEFAULT] transport_url', reason='no transport can be made from this URL'
        ) from exc


def get_transport_at(conf: cfg.ConfigOpts, url: str, *, source: str) -> messaging.RPCTransport:
    """A transport to another broker than ours, for casts and calls. It connects at its first use.

    :param conf: ``cfg.CONF``, as for :func:`get_transport`
    :param url: its query may hold options of the driver, which come before ``conf``
    :param source: where the URL is from, for the error
    :raises ConfigurationError: the URL names no driver, or cannot be parsed
    """
    rabbit_driver.install()
    try:
        parsed = messaging.TransportURL.parse(conf, url)
        if parsed.transport in _RABBIT:
            rabbit_driver.register_options(conf)
            # NOTE: the default of oslo.messaging, which the services behind that broker have.
            if not rabbit_driver.is_set(conf, 'amqp_durable_queues'):
                parsed.query.setdefault('amqp_durable_queues', 'false')
        return messaging.get_rpc_transport(conf, url=parsed, allowed_remote_exmods=[])
    except (messaging.InvalidTransportURL, messaging.DriverLoadFailure, ValueError) as exc:
        # NOTE: not the error's own text, which may hold the URL's password.
        raise exceptions.ConfigurationError(
            option=source, reason='no transport can be made from this URL'
        ) from exc


def get_client(
    transport: messaging.RPCTransport,
    target: messaging.Target,
    *,
    version_cap: str | None = None,
    routed: bool = False,
    serializer: messaging.NoOpSerializer | None = None,
) -> messaging.RPCClient:
    """A client of a topic.

    :param version_cap: the highest version the servers understand, from
        ``[upgrade_levels]``; None: the newest
    :param routed: a message that the broker can put in no queue is an error
        (``MessageUndeliverable``) instead of being thrown away
    :param serializer: None: that of our own services
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
    """A server of a topic, on native threads; only exposed methods can be called.

    :param replies: False where clients only cast: a message that asks for a reply is processed, and gets
        none. The driver would occupy the thread for up to a minute if the queue for it does not exist
    """
    # NOTE: what messaging.get_rpc_server does, with a dispatcher of ours.
    return rpc_server.RPCServer(transport, target, _Dispatcher(endpoints, replies=replies))


class _Dispatcher(dispatcher.RPCDispatcher):
    """Answers a message that nobody can use with an error, and logs no traceback for it."""

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
        # NOTE: for a method that does not exist, the driver would send signs of life without end.
        if not checks.is_number(incoming.client_timeout) or not self._has_method(message):
            incoming.client_timeout = None
        try:
            return super().dispatch(incoming)
        except (dispatcher.NoSuchMethod, messaging.UnsupportedVersion) as exc:
            rejected.ALL.note('message', 'it is dropped, because nobody here knows this method', str(exc))
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
    """Take the place of an incoming message's ``reply``."""


def _problem(message: Any) -> str | None:
    """What is wrong with an RPC message, apart from its method's arguments; None: nothing."""
    if not isinstance(message, dict):
        return 'it is no JSON object'
    namespace, version = message.get('namespace'), message.get('version', '1.0')
    if not isinstance(message.get('method'), str) or not isinstance(message.get('args', {}), dict):
        return 'it names no method, or its arguments are no JSON object'
    if not (namespace is None or isinstance(namespace, str)) or not is_version(version):
        return 'its namespace or version is invalid'
    return None


def _refusal(kind: str, problem: str, value: object) -> messaging.ExpectedException:
    """The error for an invalid message, which is counted and logged here."""
    rejected.ALL.note(kind, problem, value)
    try:
        raise exceptions.MalformedMessage(what=kind, value=value)
    except exceptions.MalformedMessage:
        return messaging.ExpectedException()


def is_version(version: object) -> bool:
    """Whether a value is a version of an interface."""
    return type(version) is str and _VERSION.fullmatch(version) is not None


@functools.lru_cache(maxsize=100)
def version_includes(newest: str, wanted: str) -> bool:
    """Whether who knows a version of an interface knows another one too."""
    major, minor = map(int, newest.split('.')[:2])
    wanted_major, wanted_minor = map(int, wanted.split('.')[:2])
    return major == wanted_major and minor >= wanted_minor


def listener(endpoint: Any) -> Callable[[envelope.Call], None]:
    """What a consumer of the fast road hands messages to: the endpoint's exposed methods.

    :param endpoint: with ``target``, as for :func:`get_server`; it answers casts only
    """

    # NOTE: of messages without one. It is made once, because an id takes longer than the rest.
    nobody = context.for_service()

    def take(call: envelope.Call) -> None:
        method = getattr(endpoint, call.method, None)
        if (
            method is None
            or not getattr(method, 'exposed', False)
            or call.namespace != endpoint.target.namespace
            or not is_version(call.version)
            or not version_includes(endpoint.target.version, call.version)
        ):
            known = 'it is dropped, because nobody here knows this method of this version'
            rejected.ALL.note('message', known, (call.method, call.version))
            return
        if call.context:
            ctxt = context.from_wire(call.context)
        else:
            ctxt = nobody
            ctxt.update_store()
        # NOTE: an invalid message, or an answer that nobody waits for.
        with contextlib.suppress(messaging.ExpectedException):
            method(ctxt, **call.arguments)

    return take


def exposed(*answers: type[Exception]) -> Callable[[Method], Method]:
    """Make a method of an endpoint callable by RPC.

    :param answers: errors that are answers: the caller gets them, and our log
        no traceback. ``MalformedMessage`` is one always, and so are arguments that the method
        does not have; both are counted and logged in one short message
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
                # NOTE: raised by the call itself, not within the method.
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
    """Turn the errors of a publish or a call into ours.

    :param host: the host whose queue is the target, if it is one's
    :param no_answer: the error when nobody answers a call
    :raises HostUnreachable: the broker has no queue for the host
    :raises BrokerUnavailable: the broker is away or did not take the message

    An error of the server's own that is not one of :mod:`exceptions` counts as
    no answer: what it had done by then is not known.
    """
    try:
        yield
    except messaging.MessageUndeliverable as exc:
        if host is None:
            raise no_answer(reason='nobody listens on the topic') from exc
        raise exceptions.HostUnreachable(host=host) from exc
    except messaging.MessagingTimeout as exc:
        raise no_answer(reason='no reply in time') from exc
    except messaging.RemoteError as exc:
        raise no_answer(reason=f'the server failed with {exc.exc_type}') from exc
    except (
        # NOTE: with it MessageDeliveryFailure, and what cannot be sent at all.
        messaging.MessagingException,
        # NOTE: a first connect fails with kombu's error, not oslo.messaging's.
        kombu.exceptions.OperationalError,
        OSError,
    ) as exc:
        raise exceptions.BrokerUnavailable(reason=type(exc).__name__) from exc


def broker_address(conf: cfg.ConfigOpts) -> str:
    """Where the broker is, without its secrets, for logs and errors."""
    url = messaging.TransportURL.parse(conf)
    hosts = ', '.join(f'{host.hostname}:{host.port}' for host in url.hosts if host.hostname)
    return f'{url.transport}://{hosts}'


def check_broker(conf: cfg.ConfigOpts, timeout: float = brokers.CONNECT_TIMEOUT) -> None:
    """Make sure at start that a RabbitMQ of ``[DEFAULT] transport_url`` lets us in.

    Other drivers have no broker that could be asked this way, and pass.

    Both clients are checked: direct AMQP, and oslo.messaging, which reads some options otherwise. So are
    the queues that both would declare.

    :param timeout: seconds, for all nodes of a cluster together
    :raises ConfigurationError: none of the nodes can be reached, or it refuses us or our queues
    """
    # NOTE: making a transport registers the driver's options, TLS among them.
    transport = get_transport(conf)
    url = _url(conf)
    if url.transport not in _RABBIT:
        return
    broker = _broker(conf, url, conf.control_exchange)
    try:
        connection = broker.connect(name='check', timeout=timeout)
    except exceptions.BrokerUnavailable as exc:
        raise exceptions.ConfigurationError(
            option='[DEFAULT] transport_url', reason=f'no broker can be reached ({exc.kwargs["reason"]})'
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
            '[broker] verify_tls is false: the certificate of the broker is not verified, and whoever is on '
            'the way can read and change all messages. Set [oslo_messaging_rabbit] ssl_ca_file, and remove '
            'this option'
        )


def agents_exchange(transport: messaging.RPCTransport, purpose: str) -> str | None:
    """The exchange that agents publish to, so that the broker can refuse them all others.

    The resolvers forward its messages to the exchange of all topics: see ``amqp.forwarding``.

    :param purpose: ends the name of the exchange
    :returns: None where messages do not go over RabbitMQ; then it is the exchange of all topics
    """
    if messaging.TransportURL.parse(transport.conf).transport not in _RABBIT:
        return None
    return f'{transport.conf.control_exchange}_{purpose}'


def get_rabbit(conf: cfg.ConfigOpts) -> brokers.Broker | None:
    """The RabbitMQ of ``[DEFAULT] transport_url``, for declarations, whatever the options of its driver.

    :param conf: as for :func:`get_transport`, after it
    :returns: None for another driver
    """
    url = _url(conf)
    return _broker(conf, url, conf.control_exchange) if url.transport in _RABBIT else None


def get_broker(
    conf: cfg.ConfigOpts, *, url: str | None = None, exchange: str | None = None
) -> brokers.Broker | None:
    """The broker of a transport, where its messages may go over the fast road of ``amqp``.

    :param conf: as for :func:`get_transport`, after it
    :param url: None: that of ``[DEFAULT] transport_url``
    :param exchange: None: that of ``[DEFAULT] control_exchange``
    :returns: None where only oslo.messaging knows the way: another driver, or
        an option that the fast road does not have
    """
    parsed = _url(conf, url)
    if parsed.transport not in _RABBIT:
        return None
    option = _driver_options(conf, parsed)
    if option('kombu_compression') or option('rabbit_ha_queues') or option('ssl_enforce_fips_mode'):
        return None
    return _broker(conf, parsed, exchange or conf.control_exchange)


def get_bindings(conf: cfg.ConfigOpts) -> consumer.Consumer | None:
    """What keeps the bindings of queues that RPC servers of oslo.messaging consume.

    Nobody else declares a binding again that was lost, or those of an exchange that was deleted, before
    such a server is restarted.

    :returns: for :meth:`consumer.Consumer.keep_bound`; None: not RabbitMQ
    """
    broker = get_rabbit(conf)
    return None if broker is None else consumer.Consumer(broker, name='bindings')


def _url(conf: cfg.ConfigOpts, url: str | None = None) -> messaging.TransportURL:
    """The URL of a transport, whose query has our defaults for what the configuration does not say.

    So they do not apply to other transports of the process that an agent is a library of.

    :raises InvalidTransportURL: it cannot be parsed
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
    """Options of the RabbitMQ driver, of which the URL may say some, as ``?ssl=1``."""
    section = conf.oslo_messaging_rabbit

    def value(name: str) -> Any:
        said = url.query.get(name)
        if said is None:
            return section[name]
        kind = type(section[name])
        return strutils.bool_from_string(said) if kind is bool else kind(said)

    return value


def _tls(option: Callable[[str], Any], *, verify: bool) -> Mapping[str, Any] | bool:
    if not option('ssl'):
        return False
    params = {
        'keyfile': option('ssl_key_file') or None,
        'certfile': option('ssl_cert_file') or None,
        # NOTE: without one py-amqp loads the system's trust store.
        'ca_certs': option('ssl_ca_file') or None,
        'cert_reqs': ssl.CERT_REQUIRED if verify else ssl.CERT_NONE,
    }
    return {name: value for name, value in params.items() if value is not None}
