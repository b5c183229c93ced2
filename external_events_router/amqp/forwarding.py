"""Forwards messages from exchanges that agents publish to, to the exchange of all topics.

An agent has permission to publish to its own exchanges only. From each of these,
RabbitMQ forwards the messages with certain routing keys, so an agent reaches no
other topic, whatever it binds and publishes. Permissions on routing keys alone do
not have this effect: a user who may create an exchange can bind it to another one,
and RabbitMQ checks no routing keys there.
"""

from __future__ import annotations

from collections.abc import Mapping
import dataclasses
import time

from external_events_router.amqp import broker as brokers
from external_events_router.amqp import frames
from external_events_router.amqp import link as links
from external_events_router.amqp import publisher

#: Seconds until the bindings are declared again: somebody may have deleted an exchange.
INTERVAL = 20.0


class Forwarding:
    """Keeps the exchanges and their bindings declared, on a connection of its own."""

    def __init__(self, broker: brokers.Broker, keys: Mapping[str, str]) -> None:
        """:param broker: names the exchange of all topics
        :param keys: name of each exchange for agents, to the routing key of the messages that it forwards
        """
        self._broker = broker
        self._keys = keys
        self._link = links.Link(broker, self, name='forwarding')
        self._due = 0.0

    def start(self) -> None:
        """Connect, in the background."""
        self._link.start()

    def stop(self, timeout: float) -> None:
        """Disconnect; the bindings stay.

        :param timeout: seconds
        """
        self._link.stop(timeout)

    def connected(self, link: links.Link) -> None:
        """Declare all, on the link's thread."""
        self._declare()

    def arrived(self, arrival: frames.Arrival) -> None:
        """Nothing comes that this connection asked for."""

    def turn(self) -> None:
        """Declare all again after the interval, on the link's thread."""
        if time.monotonic() >= self._due:
            self._declare()

    def lost(self, reason: str) -> None:
        """The next connection declares all again."""

    def _declare(self) -> None:
        broker = self._broker
        for name in (broker.exchange, *self._keys):
            publisher.declare_exchange(self._link, dataclasses.replace(broker, exchange=name))
        for name, key in self._keys.items():
            self._link.channel.exchange_bind(broker.exchange, name, routing_key=key)
        self._due = time.monotonic() + INTERVAL
