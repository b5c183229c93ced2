"""What follows from a sign of life of a host: it is waited for again, and what is held for it goes out.

Signs are its agent's start and reports, its acknowledgements, late ones too, and a
consumer on its queue. Other workers are told, because each has breakers of its own; they
are also told which hosts do not respond. Thousands of hosts may come back at the same
time, so what is to be done for a host is gathered while the last of its kind is being
done, and done together.
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

#: Hosts or servers that are dealt with at once, at most.
TOGETHER = 1000


class Held(Protocol):
    """The part of ``hold.store.HoldStore`` that is used here."""

    def make_due(self, *, hosts: Collection[str] = (), servers: Collection[str] = ()) -> int: ...


class Peers(Protocol):
    """The part of ``rpcapi.PeerAPI`` that is used here, with a context."""

    def hosts_are_back(self, hosts: Sequence[str]) -> None: ...

    def hosts_are_silent(self, hosts: Sequence[str], *, unconsumed: bool) -> None: ...


class HostRecovery:
    """Takes signs of life. Thread-safe; no call waits for a database or a broker."""

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
        self._pool = bounded_pool.BoundedPool(5, 'presence')
        # Host to whether the others are to be told in any case; servers; hosts that another
        # worker has heard; host to whether nobody consumes from its queue; hosts that are back.
        self._hosts: _Gathered[bool] = _Gathered(self._pool, self._flush_hosts)
        self._servers: _Gathered[None] = _Gathered(self._pool, self._flush_servers)
        self._heard: _Gathered[None] = _Gathered(self._pool, self._flush_heard)
        self._silent: _Gathered[bool] = _Gathered(self._pool, self._tell_silent)
        self._back: _Gathered[None] = _Gathered(self._pool, self._tell_back)
        self._not_due = throttled_log.ThrottledLog(LOG)
        self._not_told = throttled_log.ThrottledLog(LOG)
        self._responding = throttled_log.Summary(
            LOG,
            logging.INFO,
            one='Host %s responds again; its held events are due',
            many='%d hosts respond again, for example %s; their held events are due',
        )

    def answered(self, host: str) -> None:
        """A host acknowledged in time: ordinary, and so as cheap as can be."""
        if self._breakers.close(host):
            self._responding.add([host])
            self._hosts.add({host: True})

    def appeared(self, host: str) -> None:
        """A host has started, has reported, has acknowledged late, or consumes from its queue."""
        news = self._breakers.close(host)
        if news:
            self._responding.add([host])
        self._hosts.add({host: news})

    def heard_of(self, hosts: Collection[str]) -> None:
        """Another worker says that hosts are back.

        NOTE: the other worker has made their servers due, but this one may have claimed some of them
        since, and may have put them off for the want of a consumer, before it heard of the hosts.
        """
        self._heard.add(dict.fromkeys(host for host in hosts if self._breakers.close(host)))

    def placed(self, server_uuids: Collection[str]) -> None:
        """Servers have come to a host: what was held for want of one is due."""
        self._servers.add(dict.fromkeys(server_uuids))

    def tell_silent(self, hosts: Collection[str], *, unconsumed: bool) -> None:
        """Tell the other workers that hosts do not respond.

        :param unconsumed: nobody consumes from their queues
        """
        self._silent.add(dict.fromkeys(hosts, unconsumed))

    def flush_log(self, *, now: bool = False) -> None:
        """Write the messages that are due; see ``throttled_log.Summary``."""
        self._responding.flush(now=now)

    def close(self) -> None:
        """Let go of threads."""
        self._pool.close()
        self.flush_log(now=True)

    def _flush_hosts(self, hosts: Mapping[str, bool]) -> None:
        # NOTE: first, because it takes seconds to make the servers of many hosts due, and a
        # worker that has not heard of the hosts puts these servers off.
        self._back.add({host: None for host, news in hosts.items() if news})
        if self._bring_forward(f'{len(hosts)} hosts', hosts=list(hosts)):
            self._back.add({host: None for host, news in hosts.items() if not news})

    def _flush_heard(self, hosts: Mapping[str, None]) -> None:
        self._bring_forward(f'{len(hosts)} hosts', hosts=list(hosts))

    def _flush_servers(self, servers: Mapping[str, None]) -> None:
        self._bring_forward(f'{len(servers)} servers', servers=list(servers))

    def _tell_back(self, hosts: Mapping[str, None]) -> None:
        self._tell(functools.partial(self._peers.hosts_are_back, list(hosts)))

    def _tell_silent(self, hosts: Mapping[str, bool]) -> None:
        for kind in (True, False):
            chosen = [host for host, unconsumed in hosts.items() if unconsumed is kind]
            if chosen:
                self._tell(functools.partial(self._peers.hosts_are_silent, chosen, unconsumed=kind))

    def _tell(self, cast: Callable[[], None]) -> None:
        try:
            cast()
        except exceptions.RouterError as exc:
            # They will see for themselves.
            self._not_told.occurred(
                availability.level(), 'Other resolver workers are not told which hosts respond: %s', exc
            )
        except Exception:  # the outermost frame of this thread's work
            LOG.exception('Other resolver workers are not told which hosts respond')
        else:
            self._not_told.over('Other resolver workers are told again which hosts respond')

    def _bring_forward(
        self, what: str, *, hosts: Collection[str] = (), servers: Collection[str] = ()
    ) -> bool:
        try:
            due = self._held.make_due(hosts=hosts, servers=servers)
        except exceptions.RouterError as exc:
            # It will be due by itself.
            self._not_due.occurred(
                logging.WARNING, 'Held events are not brought forward for %s: %s', what, exc
            )
            return False
        except Exception:  # the outermost frame of this thread's work
            LOG.exception('Held events are not brought forward for %s', what)
            return False
        self._not_due.over('Held events are brought forward again')
        if due:
            LOG.debug('%d servers with held events are due: %s found', due, what)
            self._wake()
        return bool(due)


class _Gathered(Generic[T]):
    """Items for a job, which is run for all that came since it was begun last. Thread-safe."""

    def __init__(self, pool: bounded_pool.BoundedPool, job: Callable[[Mapping[str, T]], None]) -> None:
        self._pool = pool
        self._job = job
        # Guards both below.
        self._lock = threading.Lock()
        self._items: dict[str, T] = {}
        self._running = False

    def add(self, items: Mapping[str, T]) -> None:
        """Have the job done for some items; of two values of an item the greater counts."""
        if not items:
            return
        with self._lock:
            for key, value in items.items():
                self._items[key] = self._items.get(key) or value
            begun, self._running = not self._running, True
        if begun:
            self._pool.submit(self._run)

    def _run(self) -> None:
        while taken := self._take():
            self._job(taken)

    def _take(self) -> dict[str, T]:
        with self._lock:
            taken = {key: self._items.pop(key) for key in list(self._items)[:TOGETHER]}
            self._running = bool(taken)
            return taken
