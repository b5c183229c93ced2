"""Casts to nova-compute. Its other half is Nova's."""

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

#: What the text of a remote error has in it, whose class is one of Python's own.
_TRACEBACK = 'Traceback (most recent call last)'


class ComputeAPI:
    """Client of the computes of one cell, on a transport of its own. Thread-safe."""

    def __init__(self, conf: cfg.ConfigOpts, cell: cells.Cell) -> None:
        """Connects at its first use.

        :raises ConfigurationError: the cell's transport URL cannot be used
        """
        source = f'transport_url of {cell}'
        if not cell.transport:
            # NOTE: oslo.messaging would take the broker of ``[DEFAULT] transport_url``.
            raise exceptions.ConfigurationError(option=source, reason='is empty in the cell mapping')
        try:
            url = _with_options(cell.transport, conf.nova.messaging_options)
            self._transport = rpc.get_transport_at(conf, url, source=source)
        except exceptions.ConfigurationError:
            raise
        except Exception as exc:
            # NOTE: not the error's own text, which may hold the URL's password.
            raise exceptions.ConfigurationError(
                option=source, reason=f'no transport can be made from this URL ({type(exc).__name__})'
            ) from exc
        target = messaging.Target(exchange=conf.nova.control_exchange)
        self._client = rpc.get_client(
            self._transport, target, routed=True, serializer=messaging.NoOpSerializer()
        )

    def external_instance_event(
        self,
        ctxt: Mapping[str, Any],
        host: str,
        speech: versions.RpcVersion,
        *,
        instances: Sequence[Mapping[str, Any]],
        events: Sequence[Mapping[str, Any]],
        reply_timeout: float | None = None,
    ) -> None:
        """Send events to a host.

        Without a timeout it returns when the broker has confirmed that it put the
        message into the host's queue, which says nothing about the compute behind
        it; with one, when the compute has handled all of them.

        :param ctxt: as Nova has it
        :param host: Nova's name of it
        :param instances: Nova's objects, one for each server of the events
        :param events: Nova's objects, in the order in which they are handled
        :param reply_timeout: seconds that the compute may take to reply; None:
            it is not asked to
        :raises HostUnreachable: the host has no queue
        :raises BrokerUnavailable: the broker did not take the message
        :raises NoReply: the compute did not reply in time
        :raises HostFailed: it replied with an error; what comes after the event
            that made it was not handled
        """
        client = self._client.prepare(
            topic=speech.topic, server=host, version=speech.version, timeout=reply_timeout
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
        """Let go of connections."""
        self._transport.cleanup()


def _with_options(url: str, options: Mapping[str, str]) -> str:
    parts = urllib.parse.urlsplit(url)
    said = urllib.parse.parse_qs(parts.query)
    more = urllib.parse.urlencode({key: value for key, value in options.items() if key not in said})
    return parts._replace(query='&'.join(filter(None, (parts.query, more)))).geturl()


def _remote_error(exc: Exception) -> str | None:
    """The name of the error that a compute replied with, or None if it is one of ours."""
    if isinstance(exc, messaging.RemoteError):
        return str(exc.exc_type)
    # NOTE: oslo.messaging rebuilds Python's own errors, an OSError too, as what
    # they were, with the other side's traceback in their text.
    return type(exc).__name__ if any(_TRACEBACK in str(arg) for arg in exc.args) else None
