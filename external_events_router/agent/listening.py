"""Receives the casts to a host: with RabbitMQ over direct AMQP, otherwise through oslo.messaging.

With direct AMQP all hosts of a process share a connection and its thread. With oslo.messaging each
host has its own RPC server. Both receive the casts of both kinds of sender, in their order.
"""

from __future__ import annotations

from collections.abc import Callable
import threading
from typing import Protocol

import oslo_messaging

from external_events_router.agent import endpoint
from external_events_router.messaging import rpc
from external_events_router.messaging.amqp import consumer

#: Maximum seconds to wait until the broker delivers the casts of a host. Later it continues to try.
LISTEN_TIMEOUT = 5.0


class Ear(Protocol):
    """Receives the casts to one host."""

    def start(self) -> None:
        """Start to receive."""
        ...

    def stop(self, timeout: float) -> bool:
        """Stop to receive. Casts that were received before have been passed to the receiver.

        :param timeout: seconds
        :returns: whether it stopped in time
        """
        ...


#: Creates the listener of a host. Arguments: topic, host, receiver of the deliveries.
MakeEar = Callable[[str, str, endpoint.Receiver], Ear]


class PlainEar:
    """An RPC server of oslo.messaging."""

    def __init__(
        self,
        transport: oslo_messaging.RPCTransport,
        bindings: consumer.Consumer | None,
        topic: str,
        host: str,
        receiver: endpoint.Receiver,
    ) -> None:
        """:param bindings: keeps the queue bound; None: the transport has no bindings"""
        self._bindings = bindings
        self._queue = f'{topic}.{host}'
        target = oslo_messaging.Target(topic=topic, server=host)
        self._server = rpc.get_server(transport, target, [endpoint.AgentEndpoint(receiver)], replies=False)

    def start(self) -> None:
        """See :class:`Ear`. Blocks while the broker is unavailable."""
        # NOTE: with more than one thread, the deliveries in the queue of the host would be processed
        # out of order.
        self._server.start(override_pool_size=1)
        if self._bindings is not None:
            self._bindings.keep_bound(self._queue)

    def stop(self, timeout: float) -> bool:
        """See :class:`Ear`."""
        # NOTE: on a separate thread, because a listener that tries to reconnect does not end before
        # it is connected.
        thread = threading.Thread(target=self._end, name='stop-listening', daemon=True)
        thread.start()
        thread.join(timeout)
        return not thread.is_alive()

    def _end(self) -> None:
        self._server.stop()
        self._server.wait()


class FastEar:
    """A queue of a consumer that the hosts of the process share."""

    def __init__(
        self, consuming: consumer.Consumer, topic: str, host: str, receiver: endpoint.Receiver
    ) -> None:
        self._consumer = consuming
        self._queue = f'{topic}.{host}'
        self._listener = rpc.listener(endpoint.AgentEndpoint(receiver))

    def start(self) -> None:
        """See :class:`Ear`. Waits for the broker for at most :data:`LISTEN_TIMEOUT`."""
        self._consumer.listen(self._queue, self._listener).wait(LISTEN_TIMEOUT)

    def stop(self, timeout: float) -> bool:
        """See :class:`Ear`."""
        return self._consumer.cancel(self._queue).wait(timeout)
