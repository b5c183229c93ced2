"""Address of RabbitMQ, login, and options for declaring queues."""

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
from external_events_router.messaging.amqp import py_amqp
from external_events_router.messaging.amqp import refusals

#: Maximum seconds for a connection and its login, for all nodes of a cluster together.
CONNECT_TIMEOUT = 5.0

#: Maximum seconds of one read or write on a connection; after it the connection counts as broken.
IO_TIMEOUT = 5.0

DEFAULT_PORT = 5672


@dataclasses.dataclass(frozen=True, slots=True)
class Node:
    """One node of a cluster, and the user for the login.

    :ivar password: not part of ``repr()``
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

    :ivar nodes: they are tried in random order
    :ivar exchange: topic exchange of all messages
    :ivar durable: exchange and queues survive a restart of the broker
    :ivar auto_delete: they are deleted with their last user
    :ivar queue_arguments: arguments of every queue
    :ivar heartbeat: seconds without data after which both ends treat the connection as broken; 0: never
    :ivar tls: argument ``ssl`` of ``kombu.Connection``
    :ivar failed_at: node to the instant of ``time.monotonic()`` of its last failure, if its last attempt
        failed; shared by all connections with this description
    :ivar availability: receives the state of all connections of this process, and logs it once
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
        """Return a connection of py-amqp to the first node that accepts it.

        :param name: name of the connection in the tools of the broker
        :param timeout: seconds for all nodes together
        :param on_blocked: called with the reason when the broker accepts no more messages
        :raises BrokerUnavailable: no node accepts it, with the reason for each node, without passwords
        """
        deadline = time.monotonic() + timeout
        problems = []
        nodes = self._in_order()
        for number, node in enumerate(nodes):
            # NOTE: a node that accepts connections but does not answer must leave time for the next node.
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
        raise exceptions.BrokerUnavailable(reason='; '.join(problems) or 'its URL contains no host')

    def _in_order(self) -> list[Node]:
        """Return working nodes in random order, then failed nodes, the oldest failure first."""
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
            reason = refusals.describe(exc, user=node.username, virtual_host=self.virtual_host)
            reason = reason.replace(node.password or '\0', '***')
            raise exceptions.BrokerUnavailable(reason=reason) from exc
        made = connection.connection
        py_amqp.socket_of(made).settimeout(IO_TIMEOUT)
        return made

    def _tls_for(self, node: Node) -> Mapping[str, Any] | bool:
        if isinstance(self.tls, bool):
            return self.tls
        if self.tls.get('cert_reqs') == ssl.CERT_NONE:
            return self.tls
        return {**self.tls, 'server_hostname': node.host}
