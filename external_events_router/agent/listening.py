"""How an agent hears the casts to its host: over RabbitMQ the fast road.

There all hosts of a process share a connection and its thread; over any other
transport each has an RPC server of oslo.messaging. Both take what either sends,
in its order.
"""

from __future__ import annotations

from collections.abc import Callable
import threading
from typing import Protocol

import oslo_messaging

from external_events_router.agent import endpoint
from external_events_router.messaging import rpc
from external_events_router.messaging.amqp import consumer

#: Seconds in which the broker lets a host hear its casts, or will later.
LISTEN_TIMEOUT = 5.0


class Ear(Protocol):
    """Hears the casts to one host."""

    def start(self) -> None:
        """Begin to hear."""
        ...

    def stop(self, timeout: float) -> bool:
        """Hear no more; what was heard has been handed on by then.

        :param timeout: seconds
        :returns: whether that is so, in time
        """
        ...


#: Makes the ear of a host: topic, host, who takes the deliveries.
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
        """:param bindings: keeps the binding of the queue; None: the transport has none"""
        self._bindings = bindings
        self._queue = f'{topic}.{host}'
        target = oslo_messaging.Target(topic=topic, server=host)
        self._server = rpc.get_server(transport, target, [endpoint.AgentEndpoint(receiver)], replies=False)

    def start(self) -> None:
        """See :class:`Ear`. Blocks for as long as the broker is away."""
        # NOTE: one thread, because more would take the deliveries of the
        # host's queue out of their order.
        self._server.start(override_pool_size=1)
        if self._bindings is not None:
            self._bindings.keep_bound(self._queue)

    def stop(self, timeout: float) -> bool:
        """See :class:`Ear`."""
        # NOTE: on a thread of its own, because a listener that tries to
        # connect again does not end before it has.
        thread = threading.Thread(target=self._end, name='stop-listening', daemon=True)
        thread.start()
        thread.join(timeout)
        return not thread.is_alive()

    def _end(self) -> None:
        self._server.stop()
        self._server.wait()


class FastEar:
    """A queue of a consumer that other hosts of the process share."""

    def __init__(
        self, consuming: consumer.Consumer, topic: str, host: str, receiver: endpoint.Receiver
    ) -> None:
        self._consumer = consuming
        self._queue = f'{topic}.{host}'
        self._listener = rpc.listener(endpoint.AgentEndpoint(receiver))

    def start(self) -> None:
        """See :class:`Ear`. Waits for the broker no longer than :data:`LISTEN_TIMEOUT`."""
        self._consumer.listen(self._queue, self._listener).wait(LISTEN_TIMEOUT)

    def stop(self, timeout: float) -> bool:
        """See :class:`Ear`."""
        return self._consumer.cancel(self._queue).wait(timeout)
