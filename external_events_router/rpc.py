"""Transport, clients and servers of oslo.messaging, and the context on the wire.

It knows no service: topics, methods and versions live in the ``rpcapi`` and
``endpoint`` modules of the resolver and the agent. Its only part in error
handling is :func:`translated`, so that no error of oslo.messaging or kombu
gets further than an ``rpcapi``.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
from typing import Any

import kombu.exceptions
from oslo_config import cfg
import oslo_messaging as messaging
from oslo_messaging.rpc import dispatcher

from external_events_router import context
from external_events_router import exceptions

#: The exchange of all topics, unless ``[DEFAULT] control_exchange`` says otherwise.
EXCHANGE = 'external_events'

#: Modules whose errors a caller gets back as what they were.
ALLOWED_REMOTE_EXMODS = [exceptions.__name__]

#: Attempts after the first for one publish. A pooled connection may have died
#: unnoticed, so none is too few; the time is bounded by who publishes.
PUBLISH_RETRIES = 1


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
        executor='threading',
        serializer=ContextSerializer(),
        access_policy=dispatcher.ExplicitRPCAccessPolicy,
    )


@contextlib.contextmanager
def translated(
    *, host: str | None = None, no_answer: type[exceptions.RouterError] = exceptions.BrokerUnavailable
) -> Iterator[None]:
    """Turn the errors of a publish or a call into ours.

    :param host: the host whose queue is the target, if it is one's
    :param no_answer: the error when nobody answers a call
    :raises HostUnreachable: the broker has no queue for the host
    :raises BrokerUnavailable: the broker is away or did not take the message
    """
    try:
        yield
    except messaging.MessageUndeliverable as exc:
        if host is None:
            raise no_answer(reason='nobody listens on the topic') from exc
        raise exceptions.HostUnreachable(host=host) from exc
    except messaging.MessagingTimeout as exc:
        raise no_answer(reason='no reply in time') from exc
    except (
        messaging.MessageDeliveryFailure,
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
