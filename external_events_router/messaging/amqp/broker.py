"""Where a RabbitMQ is, how to log in, and how queues are declared there."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import random
import ssl
import time
from typing import Any

import kombu.connection
import kombu.exceptions

from external_events_router import exceptions
from external_events_router.messaging.amqp import availability as availabilities

#: Seconds for a connection and its login, all nodes of a cluster together.
CONNECT_TIMEOUT = 5.0

#: Seconds that one read or write on a connection may block before it counts as broken.
IO_TIMEOUT = 5.0

DEFAULT_PORT = 5672


@dataclasses.dataclass(frozen=True, slots=True)
class Node:
    """One node of a cluster, and who we are there.

    :ivar password: is shown nowhere
    """

    host: str
    port: int
    username: str
    password: str = dataclasses.field(repr=False)

    def __str__(self) -> str:
        return f'{self.host}:{self.port}'


@dataclasses.dataclass(frozen=True, slots=True)
class Broker:
    """A RabbitMQ, as ``[DEFAULT] transport_url`` and ``[oslo_messaging_rabbit]`` describe it.

    :ivar nodes: tried in a random order
    :ivar exchange: the topic exchange that all messages go to
    :ivar durable: exchange and queues outlive a restart of the broker
    :ivar auto_delete: they end with their last user
    :ivar queue_arguments: of every queue
    :ivar heartbeat: seconds of silence after which either end takes the other for dead; 0: never
    :ivar tls: what ``kombu.Connection`` takes as ``ssl``
    :ivar failed_at: node to the instant of ``time.monotonic()`` of its last failure, if that was its last
        attempt; of all connections that share this description
    :ivar availability: gets the state of all connections of this process, and logs it once
    """

    nodes: Sequence[Node]
    virtual_host: str
    exchange: str
    durable: bool = False
    auto_delete: bool = False
    queue_arguments: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    heartbeat: float = 60.0
    login_method: str = 'AMQPLAIN'
    tls: Mapping[str, Any] | bool = False
    failed_at: dict[Node, float] = dataclasses.field(default_factory=dict, compare=False, repr=False)
    availability: availabilities.Availability = dataclasses.field(
        default_factory=availabilities.Availability, compare=False, repr=False
    )

    def connect(
        self,
        *,
        name: str = '',
        timeout: float = CONNECT_TIMEOUT,
        on_blocked: Callable[[str], None] | None = None,
        on_unblocked: Callable[[], None] | None = None,
    ) -> Any:
        """A connection of py-amqp to the first node that lets us in.

        :param name: what the broker's own tools show
        :param timeout: seconds for all nodes together
        :param on_blocked: called when the broker takes no more, with what it says
        :raises BrokerUnavailable: none does, with what each said, without secrets
        """
        deadline = time.monotonic() + timeout
        problems = []
        nodes = self._in_order()
        for number, node in enumerate(nodes):
            # NOTE: a node that accepts connections and says nothing must leave time for the next.
            left = (deadline - time.monotonic()) / (len(nodes) - number)
            if left <= 0:
                break
            options: dict[str, Any] = {
                'client_properties': {
                    'connection_name': name,
                    'capabilities': {
                        'authentication_failure_close': True,
                        'connection.blocked': True,
                        'consumer_cancel_notify': True,
                    },
                },
                'on_blocked': on_blocked,
                'on_unblocked': on_unblocked,
            }
            try:
                made = self._login(node, options, timeout=left)
            except exceptions.BrokerUnavailable as exc:
                self.failed_at[node] = time.monotonic()
                problems.append(f'{node}: {exc.kwargs["reason"]}')
            else:
                self.failed_at.pop(node, None)
                return made
        raise exceptions.BrokerUnavailable(reason='; '.join(problems) or 'its URL names no host')

    def _in_order(self) -> list[Node]:
        """Nodes that did not fail at last in a random order, then the others, the longest ago first."""
        nodes = random.sample(self.nodes, len(self.nodes))
        return sorted(nodes, key=lambda node: self.failed_at.get(node, 0.0))

    def _login(self, node: Node, options: Mapping[str, Any], *, timeout: float) -> Any:
        connection: Any = kombu.connection.Connection(  # type: ignore[no-untyped-call]
            hostname=node.host,
            port=node.port,
            userid=node.username,
            password=node.password,
            virtual_host=self.virtual_host,
            ssl=self._tls_for(node),
            login_method=self.login_method,
            heartbeat=self.heartbeat,
            connect_timeout=timeout,
            transport_options=options,
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
            connection.release()
            said = str(exc).replace(node.password or '\0', '***')
            raise exceptions.BrokerUnavailable(reason=said or type(exc).__name__) from exc
        made = connection.connection
        made.transport.sock.settimeout(IO_TIMEOUT)
        return made

    def _tls_for(self, node: Node) -> Mapping[str, Any] | bool:
        if isinstance(self.tls, bool):
            return self.tls
        if self.tls.get('cert_reqs') == ssl.CERT_NONE:
            return self.tls
        return {**self.tls, 'server_hostname': node.host}
