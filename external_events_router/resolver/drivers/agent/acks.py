"""Passes the acknowledgements of agents to the rounds that wait for them.

Each resolver worker has one :class:`Collector`, which knows all deliveries in flight. The endpoint of the
acknowledgement topic calls it. This module sends nothing and decides nothing.
"""

from __future__ import annotations

import collections
from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Mapping
import dataclasses
import threading
import time

from oslo_log import log

from external_events_router import events
from external_events_router import rejected
from external_events_router.concurrency import signal
from external_events_router.resolver import answers as host_answers
from external_events_router.resolver.drivers import base
from external_events_router.resolver.drivers import rounds

LOG = log.getLogger(__name__)

#: Reason for missing answers while there is no connection.
CONNECTION_LOST = 'the connection to the broker was lost'

#: Maximum number of remembered deliveries that were not acknowledged in time. A late acknowledgement of
#: such a delivery shows that its host responds again. There are few, unless hosts do not respond.
MAX_ENDED = 50_000

#: Events of such a delivery whose servers are remembered, for the journal.
MAX_SERVERS = 20


@dataclasses.dataclass(frozen=True, slots=True)
class _Ended:
    """A delivery that was not acknowledged in time.

    :ivar servers: ids and servers of its first events
    """

    host: str
    servers: tuple[tuple[str, str], ...]

    def of_servers(self, results: Iterable[events.Result]) -> list[tuple[str, events.Result]]:
        """Return results with the servers of their events."""
        servers = dict(self.servers)
        return [(servers[result.event_id], result) for result in results if result.event_id in servers]


class Collector:
    """Passes acknowledgements to the rounds that wait for them. Thread-safe."""

    def __init__(self) -> None:
        # Guards the attributes below. _waiting: delivery id to its host and its round. _problem: why
        # acknowledgements cannot arrive; None if they can.
        self._lock = threading.Lock()
        self._problem: str | None = None
        self._waiting: dict[str, tuple[str, rounds.AckRound]] = {}
        # Also guarded: deliveries that were not acknowledged in time, and their hosts. Only for these, a
        # late acknowledgement shows that the host responds.
        self._ended: collections.OrderedDict[str, _Ended] = collections.OrderedDict()

    def begin(
        self, deliveries: Mapping[str, events.Delivery], *, settled: signal.Signal | None = None
    ) -> rounds.AckRound:
        """Register deliveries, to be cast after that; :meth:`end` has to follow.

        While no acknowledgement can arrive, the round is abandoned already.

        :param deliveries: host to its delivery
        :param settled: see :class:`rounds.AckRound`
        """
        waiting = rounds.AckRound(
            ((host, event.id) for host, delivery in deliveries.items() for event in delivery.events),
            settled=settled,
        )
        with self._lock:
            if self._problem is not None:
                waiting.abandon(self._problem)
            for host, delivery in deliveries.items():
                self._waiting[delivery.id] = (host, waiting)
        return waiting

    def end(
        self, deliveries: Mapping[str, events.Delivery], waiting: rounds.AckRound
    ) -> host_answers.Answers:
        """End the waits for deliveries. Each acknowledgement after that is late.

        :returns: the answers of the round, see :meth:`rounds.AckRound.close`
        """
        with self._lock:
            for delivery in deliveries.values():
                del self._waiting[delivery.id]
            answers = waiting.close()
            self._remember(deliveries, waiting.silent())
        return answers

    def overdue(self, age: float) -> list[str]:
        """Return the hosts that have not answered a delivery for this number of seconds."""
        if not self._waiting:
            return []
        before = time.monotonic() - age
        hosts = {}
        with self._lock:
            # NOTE: the table has the order in which the waits started.
            for host, waiting in self._waiting.values():
                if waiting.began > before:
                    break
                hosts[host] = waiting
        return [host for host, waiting in hosts.items() if waiting.misses(host)]

    def in_flight(self) -> list[str]:
        """Return the hosts with a delivery in flight."""
        with self._lock:
            return list(dict.fromkeys(host for host, _waiting in self._waiting.values()))

    def fail(self, hosts: Collection[str], reason: str, *, age: float = 0.0) -> None:
        """End the waits for some hosts.

        :param hosts: preferably a set
        :param age: only waits that started at least this number of seconds ago
        """
        before = time.monotonic() - age
        with self._lock:
            chosen = {
                id(waiting): waiting
                for host, waiting in self._waiting.values()
                if waiting.began <= before and host in hosts
            }
        for waiting in chosen.values():
            waiting.fail_hosts(hosts, reason)

    def is_connected(self) -> bool:
        """Return whether acknowledgements can arrive, as far as is known."""
        return self._problem is None

    def connected(self) -> None:
        """Record that acknowledgements can arrive."""
        with self._lock:
            self._problem = None

    def disconnected(self, reason: str) -> None:
        """Record that no acknowledgement can arrive until :meth:`connected`. All rounds in flight fail.

        New rounds fail, too. Acknowledgements that arrive later still show that their hosts respond.
        """
        with self._lock:
            self._problem = f'{CONNECTION_LOST}: {reason}'
            in_flight = {id(waiting): waiting for _host, waiting in self._waiting.values()}
        for waiting in in_flight.values():
            waiting.abandon(self._problem)

    def acknowledge(
        self,
        delivery_id: str,
        results: Iterable[events.Result],
        *,
        sender: str | None = None,
        observer: base.HostObserver | None = None,
    ) -> None:
        """Handle a received acknowledgement.

        It counts for the host of the delivery. A late acknowledgement does not change the results of its
        events, but shows that the host responds.

        :param sender: host in the acknowledgement; it is refused if this is not the host of the delivery.
            None: an agent of version 1.0, which does not send it; then only the secret id proves that it
            has received the delivery
        :param observer: informed about the host
        """
        with self._lock:
            host, waiting = self._waiting.get(delivery_id, (None, None))
            ended = self._ended.get(delivery_id) if host is None else None
        if ended is not None:
            host = ended.host
        if host is None:
            # Normal: for an earlier worker with this name, or very late.
            LOG.debug('No batch waits for delivery %s; its acknowledgement is dropped', delivery_id)
        elif sender is not None and sender != host:
            problem = f'it is dropped, because the delivery was sent to host {host}'
            rejected.ALL.note('acknowledgement of another host', problem, sender, source=sender)
        else:
            if waiting is not None and observer is not None:
                _tell(observer.responded, host, waiting.began)
            in_time = waiting is not None and waiting.acknowledge(host, results) and not waiting.abandoned
            if observer is not None and not in_time:
                if ended is None:
                    # NOTE: the round may have ended meanwhile.
                    with self._lock:
                        ended = self._ended.get(delivery_id)
                _tell(observer.late, host, () if ended is None else ended.of_servers(results))

    def _remember(self, deliveries: Mapping[str, events.Delivery], silent: Iterable[str]) -> None:
        """Remember deliveries that were not acknowledged, up to :data:`MAX_ENDED` of the newest.

        Called with the lock held.
        """
        for host in silent:
            delivery = deliveries[host]
            servers = tuple((event.id, event.server_uuid) for event in delivery.events[:MAX_SERVERS])
            self._ended[delivery.id] = _Ended(host, servers)
        while len(self._ended) > MAX_ENDED:
            self._ended.popitem(last=False)


def _tell(observe: Callable[..., None], *arguments: object) -> None:
    """Inform the observer; an error must not affect the other acknowledgements of a message."""
    try:
        observe(*arguments)
    except Exception:
        LOG.exception('Could not handle what an acknowledgement shows about its host; continuing')
