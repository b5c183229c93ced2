"""Whether RabbitMQ is available to this process: one log message for all connections.

A process has several direct AMQP connections, and oslo.messaging has one for each RPC server and more
for publishing. When RabbitMQ is lost, all of them fail. Each connection reports to the
:class:`Availability` of its broker. This logs one WARNING at the first loss, one INFO when all
connections work again, and a reminder at most every :data:`REMINDER` seconds in between. Messages about
single connections are logged at DEBUG.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
import logging
import math
import threading
import time
import weakref

from oslo_log import log

from external_events_router.metrics import recorder

LOG = log.getLogger(__name__)

#: Seconds between two messages at WARNING about the same loss.
REMINDER = 60.0

#: Seconds for which all connections must have worked, so that the next loss is logged at once. A
#: broker that ends each new connection at once is logged every :data:`REMINDER` seconds only.
STABLE = 5.0

_UNAVAILABLE = (
    'RabbitMQ at %s is unavailable%s: %s. Until it is available, resolvers hold events, an API with [api] '
    'resolver = rpc answers 503, and agents neither receive events nor send acknowledgements. Connections '
    'are tried again every few seconds; check the node with "rabbitmqctl status", and the network'
)
_ALARM = (
    'RabbitMQ at %s accepts no messages%s: %s. Until it does, resolvers hold events and agents keep '
    'acknowledgements. Free memory or disk space of the node: rabbitmqctl status shows its alarms'
)


class Condition:
    """A fault that connections report and that ends when it has ended for all of them. Thread-safe."""

    def __init__(
        self,
        name: str,
        *,
        began: str,
        ended: str,
        changed: Callable[[bool], None] = lambda present: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """:param name: of the broker
        :param began: the WARNING, with ``%s`` for the name, for the time since it began and for the reason
        :param ended: the INFO, with ``%s`` for the name and ``%.0f`` for the seconds
        :param changed: called when the fault begins and when it has ended
        """
        self._name = name
        self._began_message = began
        self._ended_message = ended
        self._changed = changed
        self._clock = clock
        # Guards what follows. _faulty: connections that have the fault; _began, _ended: instants;
        # _not_before: of the next message; _logged: the present fault was logged.
        self._lock = threading.Lock()
        self._faulty: weakref.WeakSet[object] = weakref.WeakSet()
        self._present = False
        self._began = 0.0
        self._ended = float('-inf')
        self._not_before = float('-inf')
        self._logged = False

    def was_present(self, since: float) -> bool:
        """Whether the fault is present, or was present after an instant of the clock."""
        return self._present or self._ended > since

    def add(self, connection: object, reason: str, *, lasting: bool = True) -> None:
        """A connection has the fault.

        :param lasting: it ends for this connection only with :meth:`remove`; else it ends with the next
            success of any connection
        """
        with self._lock:
            now = self._clock()
            if not self._present:
                self._present, self._began = True, now
                self._changed(True)
                if now - self._ended > STABLE:
                    self._not_before = now
            if lasting:
                self._faulty.add(connection)
            if now < self._not_before:
                return
            self._not_before = now + REMINDER
            since = f' since {now - self._began:.0f} s' if self._logged else ''
            self._logged = True
        LOG.warning(self._began_message, self._name, since, reason)

    def remove(self, connection: object) -> None:
        """A connection works, or was closed."""
        if not self._present:
            return
        with self._lock:
            self._faulty.discard(connection)
            if not self._present or self._faulty:
                return
            self._present, self._ended = False, self._clock()
            self._changed(False)
            logged, self._logged = self._logged, False
            seconds = self._ended - self._began
        if logged:
            LOG.info(self._ended_message, self._name, seconds)


class Availability:
    """The state of one broker, as the connections of this process report it. Thread-safe.

    :ivar alarm: the broker blocks connections that publish, because its memory or disk is short
    """

    def __init__(
        self, name: str = 'an unknown address', *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """:param name: addresses of the nodes, for the log"""
        self.alarm = Condition(
            name,
            began=_ALARM,
            ended='RabbitMQ at %s accepts messages again, after %.0f s',
            changed=lambda present: recorder.current().broker_blocked(self, present),
            clock=clock,
        )
        self._loss = Condition(
            name,
            began=_UNAVAILABLE,
            ended='RabbitMQ at %s is available again, after %.0f s',
            changed=lambda present: recorder.current().broker_lost(self, present),
            clock=clock,
        )

    def was_lost(self, since: float) -> bool:
        """Whether a connection does not work, or did not at some time after an instant of the clock."""
        return self._loss.was_present(since)

    def lost(self, connection: object, reason: str, *, lasting: bool = True) -> None:
        """A connection is lost, or cannot be made.

        :param lasting: it is tried again until it works; else any other connection shows that the broker
            is available
        """
        self.alarm.remove(connection)
        self._loss.add(connection, reason, lasting=lasting)

    def connected(self, connection: object) -> None:
        """A connection works."""
        self._loss.remove(connection)

    def closed(self, connection: object) -> None:
        """A connection was ended by this process."""
        self.alarm.remove(connection)
        self._loss.remove(connection)


_lock = threading.Lock()
_of_address: dict[frozenset[str], Availability] = {}


def of(addresses: Iterable[str]) -> Availability:
    """The object of this process for a broker.

    NOTE: oslo.messaging makes its connections itself, so they cannot be passed the object.

    :param addresses: ``host:port`` of each node
    """
    nodes = frozenset(addresses)
    with _lock:
        if nodes not in _of_address:
            _of_address[nodes] = Availability(', '.join(sorted(nodes)))
        return _of_address[nodes]


def any_lost(since: float = math.inf) -> bool:
    """Whether any broker of this process is unavailable, or was so after an instant of ``time.monotonic()``.

    What fails for this reason needs no message of its own above DEBUG.
    """
    with _lock:
        return any(each.was_lost(since) for each in _of_address.values())


def level(since: float = math.inf) -> int:
    """Of a message about something that failed, perhaps because a broker is unavailable."""
    return logging.DEBUG if any_lost(since) else logging.WARNING
