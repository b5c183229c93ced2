"""The queues of agents on RabbitMQ: how many consumers they have."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence

from external_events_router.messaging.amqp import broker as brokers
from external_events_router.messaging.amqp import queues


class HostQueues:
    """See ``drivers.base.Queues``."""

    def __init__(self, broker: brokers.Broker, *, topic: str) -> None:
        self._prefix = f'{topic}.'
        self._counts = queues.ConsumerCounts(broker, name='host-liveness')

    def consumers(self, hosts: Sequence[str], *, timeout: float) -> Mapping[str, int | None]:
        """See ``drivers.base.Queues``."""
        counts = self._counts.count([self._prefix + host for host in hosts], timeout=timeout)
        return {queue.removeprefix(self._prefix): number for queue, number in counts.items()}

    def rest(self) -> None:
        """See ``drivers.base.Queues``."""
        self._counts.close_idle()

    def close(self) -> None:
        """See ``drivers.base.Queues``."""
        self._counts.close()
