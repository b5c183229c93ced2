"""What follows from a sign of life of a host: it is waited for again, and what is held for it goes out.

Signs are its agent's start and reports, and its acknowledgements, late ones
too. Other workers hear of it, because each has breakers of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Collection
import functools
import threading
from typing import Protocol

from oslo_log import log

from external_events_router import exceptions
from external_events_router import pools
from external_events_router.resolver import breaker

LOG = log.getLogger(__name__)


class Held(Protocol):
    """The part of ``hold.store.HoldStore`` that is used here."""

    def make_due(self, *, hosts: Collection[str] = (), servers: Collection[str] = ()) -> int: ...


class Presence:
    """Takes signs of life. Thread-safe; no call waits for a database or a broker."""

    def __init__(
        self,
        breakers: breaker.Breakers,
        held: Held,
        *,
        wake: Callable[[], None],
        tell_others: Callable[[str], None],
    ) -> None:
        """:param wake: called when held events have become due
        :param tell_others: casts to the other workers that a host is back
        """
        self._breakers = breakers
        self._held = held
        self._wake = wake
        self._tell_others = tell_others
        self._pool = pools.DaemonPool(2, 'presence')
        # Guards both below: what is asked for and not begun. Of a host:
        # whether the others are to be told in any case.
        self._lock = threading.Lock()
        self._hosts: dict[str, bool] = {}
        self._servers: set[str] = set()

    def answered(self, host: str) -> None:
        """A host acknowledged in time: ordinary, and so as cheap as can be."""
        if self._breakers.close(host):
            self._flush(host, tell=True)

    def appeared(self, host: str) -> None:
        """A host has started, has reported, or has acknowledged late."""
        news = self._breakers.close(host)
        self._flush(host, tell=news)

    def heard_of(self, host: str) -> None:
        """Another worker says that a host is back."""
        self._breakers.close(host)

    def placed(self, server_uuids: Collection[str]) -> None:
        """Servers have come to a host: what was held for want of one is due."""
        with self._lock:
            begun = not self._servers
            self._servers.update(server_uuids)
        if begun and server_uuids:
            self._pool.submit(self._flush_servers)

    def close(self) -> None:
        """Let go of threads."""
        self._pool.close()

    def _flush(self, host: str, *, tell: bool) -> None:
        with self._lock:
            begun = host not in self._hosts
            self._hosts[host] = tell or self._hosts.get(host, False)
        if begun:
            self._pool.submit(functools.partial(self._flush_host, host))

    def _flush_host(self, host: str) -> None:
        with self._lock:
            tell = self._hosts.pop(host)
        due = self._bring_forward(f'host {host}', hosts=[host])
        if due or tell:
            try:
                self._tell_others(host)
            except exceptions.RouterError as exc:
                # They will see for themselves.
                LOG.warning('Other workers are not told that host %s is there: %s', host, exc)
            except Exception:  # the outermost frame of this thread's work
                LOG.exception('Other workers are not told that host %s is there', host)

    def _flush_servers(self) -> None:
        with self._lock:
            servers, self._servers = self._servers, set()
        self._bring_forward(f'{len(servers)} servers', servers=servers)

    def _bring_forward(
        self, what: str, *, hosts: Collection[str] = (), servers: Collection[str] = ()
    ) -> bool:
        try:
            due = self._held.make_due(hosts=hosts, servers=servers)
        except exceptions.RouterError as exc:
            # It will be due by itself.
            LOG.warning('Held events are not brought forward for %s: %s', what, exc)
            return False
        except Exception:  # the outermost frame of this thread's work
            LOG.exception('Held events are not brought forward for %s', what)
            return False
        if due:
            LOG.info('%d servers with held events are due: %s found', due, what)
            self._wake()
        return bool(due)
