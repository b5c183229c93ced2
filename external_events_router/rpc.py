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
import ssl
import time
from typing import Any
from typing import TypeVar
from typing import cast

import kombu.connection
import kombu.exceptions
from oslo_config import cfg
import oslo_messaging as messaging
from oslo_messaging.rpc import dispatcher

from external_events_router import context
from external_events_router import exceptions

Method = TypeVar('Method', bound=Callable[..., Any])

#: The exchange of all topics, unless ``[DEFAULT] control_exchange`` says otherwise.
EXCHANGE = 'external_events'

#: Modules whose errors a caller gets back as what they were.
ALLOWED_REMOTE_EXMODS = [exceptions.__name__]

#: Attempts after the first for one publish. A pooled connection may have died
#: unnoticed, so none is too few; the time is bounded by who publishes.
PUBLISH_RETRIES = 1

_AMQP_PORT = 5672


class ContextSerializer(messaging.NoOpSerializer):
    """Carries the request context; arguments are JSON already."""

    def serialize_context(self, ctxt: context.RequestContext) -> dict[str, Any]:
        return dict(ctxt.to_dict())

    def deserialize_context(self, ctxt: Mapping[str, Any]) -> context.RequestContext:
        # NOTE: building a context also makes it the thread's own, which is
        # how the request id gets into the log lines of the called service.
        return context.RequestContext.from_dict(dict(ctxt))


def set_defaults() -> None:
    """Our exchange in place of oslo.messaging's ``openstack``; before any transport."""
    messaging.set_transport_defaults(control_exchange=EXCHANGE)


def get_transport(conf: cfg.ConfigOpts) -> messaging.RPCTransport:
    """The transport of ``[DEFAULT] transport_url``. It connects at its first use.

    :param conf: ``cfg.CONF``: oslo.messaging registers its metrics options
        there and nowhere else, and a cast with another one fails
    :raises ConfigurationError: the URL names no driver, or cannot be parsed
    """
    set_defaults()
    try:
        return messaging.get_rpc_transport(conf, allowed_remote_exmods=ALLOWED_REMOTE_EXMODS)
    except (messaging.InvalidTransportURL, messaging.DriverLoadFailure, ValueError) as exc:
        # NOTE: not the error's own text, which may hold the URL's password.
        raise exceptions.ConfigurationError(
            option='[DEFAULT] transport_url', reason='no transport can be made from this URL'
        ) from exc


def get_client(
    transport: messaging.RPCTransport,
    target: messaging.Target,
    *,
    version_cap: str | None = None,
    routed: bool = False,
) -> messaging.RPCClient:
    """A client of a topic.

    :param version_cap: the highest version the servers understand, from
        ``[upgrade_levels]``; None: the newest
    :param routed: a message that the broker can put in no queue is an error
        (``MessageUndeliverable``) instead of being thrown away
    """
    return messaging.get_rpc_client(
        transport,
        target,
        version_cap=version_cap,
        serializer=ContextSerializer(),
        retry=PUBLISH_RETRIES,
        transport_options=messaging.TransportOptions(at_least_once=True) if routed else None,
    )


def get_server(
    transport: messaging.RPCTransport, target: messaging.Target, endpoints: Sequence[Any]
) -> messaging.MessageHandlingServer:
    """A server of a topic, on native threads; only exposed methods can be called."""
    return messaging.get_rpc_server(
        transport,
        target,
        endpoints,
        serializer=ContextSerializer(),
        access_policy=dispatcher.ExplicitRPCAccessPolicy,
    )


def exposed(*answers: type[Exception]) -> Callable[[Method], Method]:
    """Make a method of an endpoint callable by RPC.

    :param answers: errors that are answers: the caller gets them, and our log
        no traceback
    """

    def mark(method: Method) -> Method:
        @functools.wraps(method)
        def call(*args: Any, **kwargs: Any) -> Any:
            return expected(*args, **kwargs)

        expected = messaging.expected_exceptions(*answers)(method)
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


def check_broker(conf: cfg.ConfigOpts, timeout: float = 5.0) -> None:
    """Make sure at start that a RabbitMQ of ``[DEFAULT] transport_url`` lets us in.

    Other drivers have no broker that could be asked this way, and pass.

    :param timeout: seconds, for all nodes of a cluster together
    :raises ConfigurationError: none of the nodes can be reached, or it refuses us
    """
    # NOTE: making a transport registers the driver's options, TLS among them.
    get_transport(conf)
    url = messaging.TransportURL.parse(conf)
    if url.transport not in ('rabbit', 'kombu'):
        return
    deadline = time.monotonic() + timeout
    problems = []
    for host in url.hosts:
        left = deadline - time.monotonic()
        if left <= 0:
            break
        problem = _connect_problem(conf, url, host, timeout=left)
        if problem is None:
            return
        problems.append(f'{host.hostname}:{host.port or _AMQP_PORT}: {problem}')
    raise exceptions.ConfigurationError(
        option='[DEFAULT] transport_url',
        reason=f'no broker can be reached ({"; ".join(problems) or "the URL names no host"})',
    )


def _connect_problem(
    conf: cfg.ConfigOpts, url: messaging.TransportURL, host: messaging.TransportHost, *, timeout: float
) -> str | None:
    connection: Any = kombu.connection.Connection(  # type: ignore[no-untyped-call]
        hostname=host.hostname,
        port=host.port or _AMQP_PORT,
        userid=host.username or 'guest',
        password=host.password or 'guest',
        virtual_host=url.virtual_host or '/',
        ssl=_ssl_params(conf.oslo_messaging_rabbit, host),
        connect_timeout=timeout,
    )
    try:
        # NOTE: connect() would wait 2 s and try again.
        connection.ensure_connection(max_retries=1, interval_start=0, interval_step=0, timeout=timeout)
    except (
        OSError,
        kombu.exceptions.OperationalError,
        *connection.connection_errors,
        *connection.channel_errors,
    ) as exc:
        return str(exc).replace(host.password or '\0', '***') or type(exc).__name__
    finally:
        connection.release()
    return None


def _ssl_params(rabbit: cfg.ConfigOpts, host: messaging.TransportHost) -> dict[str, Any] | bool:
    if not rabbit.ssl:
        return False
    params = {
        'keyfile': rabbit.ssl_key_file or None,
        'certfile': rabbit.ssl_cert_file or None,
        'ca_certs': rabbit.ssl_ca_file or None,
        'cert_reqs': ssl.CERT_REQUIRED if rabbit.ssl_ca_file else ssl.CERT_NONE,
        'server_hostname': host.hostname,
    }
    return {name: value for name, value in params.items() if value is not None}
