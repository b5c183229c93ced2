"""Handles hosts that respond again: closes their breakers, and schedules their held events for a retry.

A host responds if its agent starts or reports, if it acknowledges a delivery, also too late, or if its
queue has a consumer again. Each worker has its own breakers, so the other workers are informed. They
are also informed about hosts that do not respond. Thousands of hosts may respond again at the same time,
so the work for several hosts is collected while the previous work of the same kind is running, and done
together.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Mapping
from collections.abc import Sequence
import functools
import logging
import threading
from typing import Generic
from typing import Protocol
from typing import TypeVar

from oslo_log import log

from external_events_router import exceptions
from external_events_router import throttled_log
from external_events_router.concurrency import bounded_pool
from external_events_router.messaging.amqp import availability
from external_events_router.resolver.health import circuit_breaker

LOG = log.getLogger(__name__)

T = TypeVar('T')

#: Maximum number of hosts or servers that are handled together.
TOGETHER = 1000


class Held(Protocol):
    """The used part of ``hold.store.HoldStore``."""

    def make_due(self, *, hosts: Collection[str] = (), servers: Collection[str] = ()) -> int: ...


class Peers(Protocol):
    """The used part of ``rpcapi.PeerAPI``."""

    def hosts_are_back(self, hosts: Sequence[str]) -> None: ...

    def hosts_are_silent(self, hosts: Sequence[str], *, unconsumed: bool) -> None: ...


class HostRecovery:
    """Handles responses of hosts. Thread-safe; no method waits for a database or a broker."""

    def __init__(
        self,
        breakers: circuit_breaker.CircuitBreakers,
        held: Held,
        *,
        wake: Callable[[], None],
        peers: Peers,
    ) -> None:
        """:param wake: called when held events have become due
        :param peers: casts to the other workers
        """
        self._breakers = breakers
        self._held = held
        self._wake = wake
        self._peers = peers
        self._pool = bounded_pool.BoundedPool(5, 'host-recovery')
        # _hosts: host to whether the other workers must be informed in any case. _from_peers: hosts that
        # respond to another worker. _silent: host to whether its queue has no consumer. _back: hosts that
        # respond again.
        self._hosts: _Gathered[bool] = _Gathered(self._pool, self._flush_hosts)
        self._servers: _Gathered[None] = _Gathered(self._pool, self._flush_servers)
        self._from_peers: _Gathered[None] = _Gathered(self._pool, self._flush_from_peers)
        self._silent: _Gathered[bool] = _Gathered(self._pool, self._inform_of_silent)
        self._back: _Gathered[None] = _Gathered(self._pool, self._inform_of_responding)
        self._not_due = throttled_log.ThrottledLog(LOG)
        self._inform_log = throttled_log.ThrottledLog(LOG)
        self._responding = throttled_log.Summary(
            LOG,
            logging.INFO,
            one='Host %s responds again; its held events are due',
            many='%d hosts respond again, for example %s; their held events are due',
        )

    def answered(self, host: str) -> None:
        """Handle a host that has acknowledged in time. This is the normal case and must be fast."""
        if self._breakers.close(host):
            self._responding.add([host])
            self._hosts.add({host: True})

    def appeared(self, host: str) -> None:
        """Handle a host that has started, has reported, has acknowledged late, or consumes from its queue."""
        news = self._breakers.close(host)
        if news:
            self._responding.add([host])
        self._hosts.add({host: news})

    def responses_announced(self, hosts: Collection[str]) -> None:
        """Handle a message of another worker that hosts respond again.

        NOTE: the other worker has scheduled their servers for a retry. But this worker may have claimed
        some of them since, and postponed them because of a missing consumer, before this message arrived.
        """
        self._from_peers.add(dict.fromkeys(host for host in hosts if self._breakers.close(host)))

    def placed(self, server_uuids: Collection[str]) -> None:
        """Handle servers that were assigned to a host: their events that were held without a host are due."""
        self._servers.add(dict.fromkeys(server_uuids))

    def announce_silent(self, hosts: Collection[str], *, unconsumed: bool) -> None:
        """Inform the other workers that hosts do not respond.

        :param unconsumed: their queues have no consumer
        """
        self._silent.add(dict.fromkeys(hosts, unconsumed))

    def flush_log(self, *, now: bool = False) -> None:
        """Write the log messages that are due; see ``throttled_log.Summary``."""
        self._responding.flush(now=now)

    def close(self) -> None:
        """End the threads."""
        self._pool.close()
        self.flush_log(now=True)

    def _flush_hosts(self, hosts: Mapping[str, bool]) -> None:
        # NOTE: first, because scheduling the servers of many hosts takes seconds, and a worker that is not
        # informed yet would postpone these servers.
        self._back.add({host: None for host, news in hosts.items() if news})
        if self._make_due(f'{len(hosts)} hosts', hosts=list(hosts)):
            self._back.add({host: None for host, news in hosts.items() if not news})

    def _flush_from_peers(self, hosts: Mapping[str, None]) -> None:
        self._make_due(f'{len(hosts)} hosts', hosts=list(hosts))

    def _flush_servers(self, servers: Mapping[str, None]) -> None:
        self._make_due(f'{len(servers)} servers', servers=list(servers))

    def _inform_of_responding(self, hosts: Mapping[str, None]) -> None:
        self._inform_peers(functools.partial(self._peers.hosts_are_back, list(hosts)))

    def _inform_of_silent(self, hosts: Mapping[str, bool]) -> None:
        for kind in (True, False):
            chosen = [host for host, unconsumed in hosts.items() if unconsumed is kind]
            if chosen:
                self._inform_peers(functools.partial(self._peers.hosts_are_silent, chosen, unconsumed=kind))

    def _inform_peers(self, cast: Callable[[], None]) -> None:
        try:
            cast()
        except exceptions.RouterError as exc:
            # The other workers detect it themselves.
            self._inform_log.occurred(
                availability.level(),
                'Could not inform other resolver workers which hosts respond: %s',
                exc,
            )
        except Exception:  # the outermost frame of this thread's work
            LOG.exception('Could not inform other resolver workers which hosts respond')
        else:
            self._inform_log.over('Other resolver workers are informed again which hosts respond')

    def _make_due(self, what: str, *, hosts: Collection[str] = (), servers: Collection[str] = ()) -> bool:
        try:
            due = self._held.make_due(hosts=hosts, servers=servers)
        except exceptions.RouterError as exc:
            # The events are retried later in any case.
            self._not_due.occurred(
                logging.WARNING,
                'Could not schedule an immediate retry of held events for %s: %s; they are retried later',
                what,
                exc,
            )
            return False
        except Exception:  # the outermost frame of this thread's work
            LOG.exception('Could not schedule an immediate retry of held events for %s', what)
            return False
        self._not_due.over('Held events are scheduled again when their hosts respond')
        if due:
            LOG.debug('Retrying the held events of %d servers now, because %s respond', due, what)
            self._wake()
        return bool(due)


class _Gathered(Generic[T]):
    """Collects items for a job that handles all items since its last start. Thread-safe."""

    def __init__(self, pool: bounded_pool.BoundedPool, job: Callable[[Mapping[str, T]], None]) -> None:
        self._pool = pool
        self._job = job
        # Guards both attributes below.
        self._lock = threading.Lock()
        self._items: dict[str, T] = {}
        self._running = False

    def add(self, items: Mapping[str, T]) -> None:
        """Run the job for these items. If an item has two values, a true value is kept."""
        if not items:
            return
        with self._lock:
            for key, value in items.items():
                self._items[key] = self._items.get(key) or value
            begun, self._running = not self._running, True
        if begun:
            self._start()

    def _start(self) -> None:
        try:
            self._pool.submit(self._run)
        except RuntimeError as exc:
            # NOTE: the items stay, and the next call tries again.
            LOG.error('A thread that handles responding hosts cannot be started: %s', exc)
            with self._lock:
                self._running = False

    def _run(self) -> None:
        while taken := self._take():
            try:
                self._job(taken)
            except Exception:  # the other items must not stay
                LOG.exception('Could not handle %d hosts or servers; continuing', len(taken))

    def _take(self) -> dict[str, T]:
        with self._lock:
            taken = {key: self._items.pop(key) for key in list(self._items)[:TOGETHER]}
            self._running = bool(taken)
            return taken
