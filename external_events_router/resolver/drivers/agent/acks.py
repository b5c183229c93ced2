"""The acknowledgements of agents: each goes to the round that waits for it.

A :class:`Collector` per resolver worker knows every delivery in flight; the endpoint of the acknowledgement
topic feeds it. Nothing is sent or decided here.
"""

from __future__ import annotations

import collections
from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
import contextlib
import threading
import time

from oslo_log import log

from external_events_router import events
from external_events_router import rejected
from external_events_router.resolver.drivers import base
from external_events_router.resolver.drivers import rounds

LOG = log.getLogger(__name__)

#: Why no host has an answer that is waited for while there is no connection.
CONNECTION_LOST = 'the connection to the broker was lost'

#: Deliveries without an acknowledgement in time that are remembered. They are few, unless
#: hosts do not respond, and then a late acknowledgement of any of them shows that its host does again.
MAX_ENDED = 50_000


class Collector:
    """Brings acknowledgements to who waits for them. Thread-safe."""

    def __init__(self) -> None:
        # Guards both below. The table: delivery id to the host that has it and who
        # waits. _problem: why no acknowledgement can arrive, while none can.
        self._lock = threading.Lock()
        self._problem: str | None = None
        self._waiting: dict[str, tuple[str, rounds.AckRound]] = {}
        # Guarded, too: deliveries that were not acknowledged in time, and their hosts. Only
        # the host of one of these gives a sign of life when it acknowledges late.
        self._ended: collections.OrderedDict[str, str] = collections.OrderedDict()

    @contextlib.contextmanager
    def expect(self, deliveries: Mapping[str, events.Delivery]) -> Iterator[rounds.AckRound]:
        """Register deliveries, to be cast within the block; forget them after it.

        While no acknowledgement can arrive, what is yielded is abandoned already.

        :param deliveries: host to what it will be sent
        """
        waiting = rounds.AckRound(
            (host, event.id) for host, delivery in deliveries.items() for event in delivery.events
        )
        with self._lock:
            if self._problem is not None:
                waiting.abandon(self._problem)
            for host, delivery in deliveries.items():
                self._waiting[delivery.id] = (host, waiting)
        try:
            yield waiting
        finally:
            with self._lock:
                for delivery in deliveries.values():
                    del self._waiting[delivery.id]
            self._remember(deliveries, waiting.silent())

    def overdue(self, age: float) -> list[str]:
        """Hosts that have not answered a delivery for so many seconds."""
        if not self._waiting:
            return []
        before = time.monotonic() - age
        hosts = {}
        with self._lock:
            # NOTE: in the order in which the waits began.
            for host, waiting in self._waiting.values():
                if waiting.began > before:
                    break
                hosts[host] = waiting
        return [host for host, waiting in hosts.items() if waiting.misses(host)]

    def in_flight(self) -> list[str]:
        """Hosts with a delivery that is waited for."""
        with self._lock:
            return list(dict.fromkeys(host for host, _waiting in self._waiting.values()))

    def fail(self, hosts: Collection[str], reason: str, *, age: float = 0.0) -> None:
        """Have nobody wait any longer for some hosts.

        :param hosts: best a set
        :param age: seconds; only for waits that began that long ago
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
        """Whether acknowledgements can arrive, as far as is known."""
        return self._problem is None

    def connected(self) -> None:
        """Acknowledgements can arrive."""
        with self._lock:
            self._problem = None

    def disconnected(self, reason: str) -> None:
        """No acknowledgement can arrive until :meth:`connected`: fail all rounds in flight, and each new one.

        Those that arrive afterwards are late ones, and still show that their hosts are there.
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
        """Take an acknowledgement from the wire.

        It counts for the host that the delivery was sent to. A late one has no effect on its
        events, but it shows that its host is there.

        :param sender: the host that it claims to come from; another one than the delivery's
            is refused. None: an agent of version 1.0, which does not say; only the id, which
            nobody can guess, shows that it had the delivery
        :param observer: is notified of what it shows of the host
        """
        with self._lock:
            host, waiting = self._waiting.get(delivery_id, (None, None))
            if host is None:
                host = self._ended.get(delivery_id)
        if host is None:
            # Ordinary: meant for a worker of this name that is no more, or very late.
            LOG.debug('Nobody waits for delivery %s; its acknowledgement is dropped', delivery_id)
        elif sender is not None and sender != host:
            problem = f'it is dropped, because the delivery was sent to host {host}'
            rejected.ALL.note('acknowledgement of another host', problem, sender, source=sender)
        else:
            if waiting is not None:
                if observer is not None:
                    observer.heard(host, waiting.began)
                waiting.acknowledge(host, results)
            if observer is not None and (waiting is None or waiting.abandoned):
                observer.late(host)

    def _remember(self, deliveries: Mapping[str, events.Delivery], silent: Iterable[str]) -> None:
        """Keep the deliveries that were not acknowledged, the newest :data:`MAX_ENDED`."""
        with self._lock:
            for host in silent:
                self._ended[deliveries[host].id] = host
            while len(self._ended) > MAX_ENDED:
                self._ended.popitem(last=False)
