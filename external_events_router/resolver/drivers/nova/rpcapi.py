"""Casts to nova-compute. The server is part of Nova."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
import urllib.parse

from oslo_config import cfg
import oslo_messaging as messaging

from external_events_router import exceptions
from external_events_router.messaging import rpc
from external_events_router.resolver.drivers.nova import cells
from external_events_router.resolver.drivers.nova import versions

#: Part of the text of a remote error whose class is a built-in exception of Python.
_TRACEBACK = 'Traceback (most recent call last)'


class ComputeAPI:
    """Client for nova-compute of one cell, with its own transport. Thread-safe."""

    def __init__(self, conf: cfg.ConfigOpts, cell: cells.Cell) -> None:
        """Create the client. It connects at the first use.

        :raises ConfigurationError: the transport URL of the cell is not valid
        """
        source = f'transport_url of {cell}'
        if not cell.transport:
            # NOTE: oslo.messaging would use the broker of ``[DEFAULT] transport_url``.
            raise exceptions.ConfigurationError(option=source, reason='is empty in the cell mapping')
        try:
            url = _with_options(cell.transport, conf.nova.messaging_options)
            self._transport = rpc.get_transport_at(conf, url, source=source)
        except exceptions.ConfigurationError:
            raise
        except Exception as exc:
            # NOTE: without the text of the error, which may contain the password of the URL.
            raise exceptions.ConfigurationError(
                option=source,
                reason=f'oslo.messaging cannot create a transport for this URL ({type(exc).__name__})',
            ) from exc
        target = messaging.Target(exchange=conf.nova.control_exchange)
        self._client = rpc.get_client(
            self._transport, target, routed=True, serializer=messaging.NoOpSerializer()
        )

    def external_instance_event(
        self,
        ctxt: Mapping[str, Any],
        host: str,
        rpc_version: versions.RpcVersion,
        *,
        instances: Sequence[Mapping[str, Any]],
        events: Sequence[Mapping[str, Any]],
        reply_timeout: float | None = None,
    ) -> None:
        """Send events to a host.

        Without ``reply_timeout``, returns when the broker has confirmed that the message is in the queue
        of the host; nova-compute has not necessarily received it. With ``reply_timeout``, returns when
        nova-compute has handled all events.

        :param ctxt: context in the format of Nova
        :param host: name of the host in Nova
        :param instances: objects of Nova, one for each server of the events
        :param events: objects of Nova, in the order in which they are handled
        :param reply_timeout: maximum seconds until the reply; None: do not ask for a reply
        :raises HostUnreachable: the host has no queue
        :raises BrokerUnavailable: the broker did not accept the message
        :raises NoReply: nova-compute did not reply in time
        :raises HostFailed: nova-compute replied with an error; it has not handled the events after the
            failed event
        """
        client = self._client.prepare(
            topic=rpc_version.topic, server=host, version=rpc_version.version, timeout=reply_timeout
        )
        send = client.cast if reply_timeout is None else client.call
        with rpc.translated(host=host):
            try:
                send(ctxt, 'external_instance_event', instances=instances, events=events)
            except messaging.MessagingTimeout as exc:
                raise exceptions.NoReply(host=host, reason=f'for {reply_timeout} s') from exc
            except Exception as exc:
                if (error := _remote_error(exc)) is None:
                    raise
                raise exceptions.HostFailed(host=host, error=error) from exc

    def close(self) -> None:
        """Close the connections."""
        self._transport.cleanup()


def _with_options(url: str, options: Mapping[str, str]) -> str:
    parts = urllib.parse.urlsplit(url)
    present = urllib.parse.parse_qs(parts.query)
    more = urllib.parse.urlencode({key: value for key, value in options.items() if key not in present})
    return parts._replace(query='&'.join(filter(None, (parts.query, more)))).geturl()


def _remote_error(exc: Exception) -> str | None:
    """Return the name of the exception in the reply of nova-compute, or None for other exceptions."""
    if isinstance(exc, messaging.RemoteError):
        return str(exc.exc_type)
    # NOTE: oslo.messaging raises built-in exceptions of the other process with their own type, also
    # OSError, with the traceback of the other process in their text.
    return type(exc).__name__ if any(_TRACEBACK in str(arg) for arg in exc.args) else None
