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
        # Guards the set: what is asked for and not begun.
        self._lock = threading.Lock()
        self._pending: set[tuple[str, str]] = set()

    def answered(self, host: str) -> None:
        """A host acknowledged in time: ordinary, and so as cheap as can be."""
        if self._breakers.close(host):
            self._later('host', host, tell=True)

    def appeared(self, host: str) -> None:
        """A host has started, has reported, or has acknowledged late."""
        news = self._breakers.close(host)
        self._later('host', host, tell=news)

    def heard_of(self, host: str) -> None:
        """Another worker says that a host is back."""
        self._breakers.close(host)

    def placed(self, server_uuid: str) -> None:
        """A server has come to a host: what was held for want of one is due."""
        self._later('server', server_uuid, tell=False)

    def close(self) -> None:
        """Let go of threads."""
        self._pool.close()

    def _later(self, kind: str, name: str, *, tell: bool) -> None:
        with self._lock:
            if (kind, name) in self._pending:
                return
            self._pending.add((kind, name))
        self._pool.submit(functools.partial(self._bring_forward, kind, name, tell=tell))

    def _bring_forward(self, kind: str, name: str, *, tell: bool) -> None:
        with self._lock:
            self._pending.discard((kind, name))
        try:
            due = self._held.make_due(**{'hosts' if kind == 'host' else 'servers': [name]})
            if due:
                LOG.info('%d servers with held events are due: %s %s is there', due, kind, name)
                self._wake()
            if kind == 'host' and (due or tell):
                self._tell_others(name)
        except exceptions.RouterError as exc:
            # It will be due by itself.
            LOG.warning('Held events are not brought forward for %s %s: %s', kind, name, exc)
        except Exception:  # the outermost frame of this thread's work
            LOG.exception('Held events are not brought forward for %s %s', kind, name)
