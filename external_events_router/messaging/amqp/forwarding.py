"""Forwards messages from the exchanges of agents to the exchange of all topics.

An agent has permission to publish only to its own exchanges. From each of these, RabbitMQ
forwards the messages with certain routing keys. So an agent cannot reach other topics, whatever it
binds and publishes. Permissions on routing keys alone do not have this effect: a user who may create
an exchange can bind it to another exchange, and RabbitMQ does not check routing keys in this case.

No call waits for the broker: the declarations use ``declaring``. A refused declaration does not close the
connection, and a declaration without an answer closes it after :data:`ANSWER_TIMEOUT`. No message is
published or consumed on this connection, so none can be lost with it.
"""

from __future__ import annotations

from collections.abc import Mapping
import functools
import logging
import time

from oslo_log import log

from external_events_router import exceptions
from external_events_router import throttled_log
from external_events_router.messaging.amqp import broker as brokers
from external_events_router.messaging.amqp import connection as links
from external_events_router.messaging.amqp import declaring
from external_events_router.messaging.amqp import frames

LOG = log.getLogger(__name__)

#: Seconds until the bindings are declared again, because an exchange may have been deleted.
INTERVAL = 20.0

#: Maximum seconds for the answers to all declarations of one interval.
ANSWER_TIMEOUT = 5.0

#: Minimum seconds between two log messages about the same refusal.
REMINDER = 60.0

_DECLARING = 2


class Forwarding:
    """Keeps the exchanges and their bindings declared, on a separate connection."""

    def __init__(self, broker: brokers.Broker, keys: Mapping[str, str]) -> None:
        """:param broker: contains the exchange of all topics
        :param keys: name of each exchange for agents, to the routing key of the messages that it forwards
        """
        self._broker = broker
        self._keys = keys
        self._refused = {name: throttled_log.ThrottledLog(LOG, every=REMINDER) for name in keys}
        self._link = links.Connection(broker, self, name='forwarding')
        # The following attributes are used on the thread of the connection. _unanswered: exchanges whose
        # declarations are not finished; _asked, _due: instants of time.monotonic().
        self._declarer: declaring.Declarer | None = None
        self._unanswered: set[str] = set()
        self._asked = 0.0
        self._due = 0.0

    def start(self) -> None:
        """Connect in the background."""
        self._link.start()

    def stop(self, timeout: float) -> None:
        """Disconnect. The bindings stay on the broker.

        :param timeout: seconds
        """
        self._link.stop(timeout)

    def connected(self, link: links.Connection) -> None:
        """Start again on a new connection, on the thread of the connection."""
        self._declarer = declaring.Declarer(_DECLARING, link.write)
        self._unanswered.clear()
        self._due = 0.0

    def arrived(self, arrival: frames.Arrival) -> None:
        """Handle the answer to a declaration, on the thread of the connection."""
        if (
            isinstance(arrival, frames.Answered | frames.Declared | frames.Closed)
            and arrival.channel == _DECLARING
            and self._declarer is not None
        ):
            self._declarer.arrived(arrival)

    def on_ready(self) -> None:
        """Declare everything again after the interval, on the thread of the connection.

        :raises BrokerUnavailable: the broker does not answer
        """
        now = time.monotonic()
        if self._unanswered:
            if now >= self._asked + ANSWER_TIMEOUT:
                raise exceptions.BrokerUnavailable(
                    reason=f'no answer to a declaration in {ANSWER_TIMEOUT:.0f} s'
                )
        elif now >= self._due and self._declarer is not None:
            self._asked, self._due = now, now + INTERVAL
            self._unanswered.update(self._keys)
            for name, key in self._keys.items():
                procedure = declaring.bind_exchange(self._broker, name, key)
                self._declarer.run(procedure, functools.partial(self._declared, name))

    def lost(self, reason: str) -> None:
        """Handle the loss of the connection. The next connection declares everything again."""
        self._declarer = None

    def _declared(self, name: str, _result: str | None, refused: declaring.Refused | None) -> None:
        self._unanswered.discard(name)
        if refused is None:
            self._refused[name].over('Messages of agents from exchange %s are forwarded again', name)
            return
        self._refused[name].occurred(
            logging.WARNING,
            'The broker refuses to forward messages from exchange %s to exchange %s, so reports or '
            'acknowledgements of agents may not arrive: %s. Check the permissions of this user: '
            'external-events-manage broker permissions --role resolver shows them',
            name,
            self._broker.exchange,
            refused.text[:300],
        )
