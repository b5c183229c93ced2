"""Whether RabbitMQ is available to this process: one log message for all connections.

A process has several direct AMQP connections, and oslo.messaging has one for each RPC server and more
for publishing. When RabbitMQ becomes unavailable, all of them fail. Each connection reports to the
:class:`Availability` of its broker, which logs one WARNING at the first failure, one INFO when all
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

#: Minimum seconds between two WARNINGs about the same fault.
REMINDER = 60.0

#: Seconds for which all connections must have worked, so that the next fault is logged immediately. A
#: broker that closes each new connection immediately is logged only every :data:`REMINDER` seconds.
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
    """A fault that connections report, and that ends when it has ended for all of them. Thread-safe."""

    def __init__(
        self,
        name: str,
        *,
        began: str,
        ended: str,
        changed: Callable[[bool], None] = lambda present: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """:param name: name of the broker
        :param began: WARNING, with ``%s`` for the name, for the time since it began and for the reason
        :param ended: INFO, with ``%s`` for the name and ``%.0f`` for the seconds
        :param changed: called when the fault begins and when it has ended
        """
        self._name = name
        self._began_message = began
        self._ended_message = ended
        self._changed = changed
        self._clock = clock
        # Guards the attributes below. _faulty: connections with the fault; _began, _ended: instants;
        # _not_before: earliest time of the next message; _logged: whether this fault was logged.
        self._lock = threading.Lock()
        self._faulty: weakref.WeakSet[object] = weakref.WeakSet()
        self._present = False
        self._began = 0.0
        self._ended = float('-inf')
        self._not_before = float('-inf')
        self._logged = False

    def was_present(self, since: float) -> bool:
        """Return whether the fault is present, or was present after an instant of the clock."""
        return self._present or self._ended > since

    def add(self, connection: object, reason: str, *, lasting: bool = True) -> None:
        """Record that a connection has the fault.

        :param lasting: for this connection it ends only with :meth:`remove`; False: it ends with the next
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
        """Record that a connection works, or was closed."""
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

    :ivar alarm: the broker blocks publishing connections, because its memory or disk space is low
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
        """Return whether a connection is lost, or was lost at some time after an instant of the clock."""
        return self._loss.was_present(since)

    def lost(self, connection: object, reason: str, *, lasting: bool = True) -> None:
        """Record that a connection is lost, or cannot be opened.

        :param lasting: it is opened again until it works; False: any other connection can show that the
            broker is available
        """
        self.alarm.remove(connection)
        self._loss.add(connection, reason, lasting=lasting)

    def connected(self, connection: object) -> None:
        """Record that a connection works."""
        self._loss.remove(connection)

    def closed(self, connection: object) -> None:
        """Record that this process has closed a connection."""
        self.alarm.remove(connection)
        self._loss.remove(connection)


_lock = threading.Lock()
_of_address: dict[frozenset[str], Availability] = {}


def of(addresses: Iterable[str]) -> Availability:
    """Return the object of this process for a broker.

    NOTE: oslo.messaging creates its connections itself, so the object cannot be passed to them.

    :param addresses: ``host:port`` of each node
    """
    nodes = frozenset(addresses)
    with _lock:
        if nodes not in _of_address:
            _of_address[nodes] = Availability(', '.join(sorted(nodes)))
        return _of_address[nodes]


def any_lost(since: float = math.inf) -> bool:
    """Return whether a broker of this process is unavailable, or was after an instant of ``monotonic()``.

    Failures for this reason need no separate message above DEBUG.
    """
    with _lock:
        return any(each.was_lost(since) for each in _of_address.values())


def level(since: float = math.inf) -> int:
    """Return the level for a message about a failure that an unavailable broker may have caused."""
    return logging.DEBUG if any_lost(since) else logging.WARNING
