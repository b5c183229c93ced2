"""The interface of the hold for the routing of batches: time limits for each call, and lifetimes of events.

A database that hangs delays a batch only until its time limit. ``redelivery`` delivers the held events.
"""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import functools
import logging
import threading
import time

from oslo_config import cfg
from oslo_log import log

from external_events_router import context
from external_events_router import events
from external_events_router import exceptions
from external_events_router import throttled_log
from external_events_router.concurrency import batch_loader
from external_events_router.conf import delivery as delivery_conf
from external_events_router.metrics import recorder
from external_events_router.process import parts
from external_events_router.resolver.hold import base
from external_events_router.resolver.hold import group_commit
from external_events_router.resolver.hold import store
from external_events_router.resolver.host_map import base as host_map_base

LOG = log.getLogger(__name__)

#: Maximum number of queries that hang at the same time, per worker.
THREADS = 8

#: Maximum number of servers with held events that are remembered, for use while the database is unavailable.
REMEMBERED = 10000

#: Seconds until the first retry of an event that was not acknowledged. Its host may only be slow; then
#: its late acknowledgement causes an immediate retry.
FIRST_RETRY = 0.5

NO_HOSTS: frozenset[str] = frozenset()


@dataclasses.dataclass(frozen=True, slots=True)
class Lifetimes:
    """Maximum times for which events are held, in seconds.

    :ivar default: for an event name without its own value
    :ivar by_name: values for event names
    :ivar unassigned: for an event whose server has no host; 0: such events are not held
    """

    default: float = 300.0
    by_name: Mapping[str, float] = dataclasses.field(default_factory=dict)
    unassigned: float = 0.0

    @classmethod
    def from_conf(cls, conf: cfg.ConfigOpts) -> Lifetimes:
        """Read the lifetimes from ``[delivery]``.

        :raises ConfigurationError: a name is not an event name, or a value is not a valid number of seconds
        """
        by_name = {}
        for name, value in conf.delivery.event_ttls.items():
            try:
                by_name[name] = float(value)
                known = name in events.EVENT_TYPES and 0 < by_name[name] <= delivery_conf.LONGEST_TTL
            except ValueError:
                known = False
            if not known:
                raise exceptions.ConfigurationError(
                    option='[delivery] event_ttls',
                    reason=f'{name}:{value} is not an event name and a number of seconds, at most '
                    f'{delivery_conf.LONGEST_TTL:.0f}',
                )
        return cls(conf.delivery.event_ttl, by_name, conf.delivery.hold_unassigned)

    @property
    def longest(self) -> float:
        """Seconds after which no event is useful."""
        return max(self.default, *self.by_name.values()) if self.by_name else self.default

    def of(self, event: events.Event) -> float:
        """Return the lifetime of an event, from its arrival."""
        return self.by_name.get(event.name, self.default)


class Hold:
    """The hold, as the routing of batches uses it. Thread-safe."""

    def __init__(self, held: store.HoldStore, *, lifetimes: Lifetimes, timeout: float) -> None:
        """:param timeout: maximum seconds of one query"""
        self.store = held
        self.lifetimes = lifetimes
        self._timeout = timeout
        self._writer = group_commit.GroupCommit(functools.partial(held.hold_all, retry_after=FIRST_RETRY))
        self._questions = batch_loader.BatchLoader(held.servers_among, threads=THREADS, name='held-servers')
        self._not_asked = throttled_log.ThrottledLog(LOG)
        self._not_held = throttled_log.ThrottledLog(LOG)
        # Guards both sets. _known: servers with held events at the last learn(), None before the first.
        # _news: servers whose events were held since learn() started.
        self._lock = threading.Lock()
        self._known: frozenset[str] | None = None
        self._news: set[str] = set()
        self._warm = threading.Event()
        # Instant of time.monotonic() of the last learn() that succeeded.
        self._learned_at: float | None = None

    def query_held_servers(
        self, server_uuids: Collection[str]
    ) -> batch_loader.LoadRequest[host_map_base.HeldServers]:
        """Start the query for servers that have held events; :meth:`held_servers` returns its result."""
        return self._questions.begin(frozenset(server_uuids))

    def held_servers(
        self, query: batch_loader.LoadRequest[host_map_base.HeldServers], *, deadline: float
    ) -> host_map_base.HeldServers:
        """Return the servers of a query that have held events. Later events must wait for these events.

        While the database is unavailable, the result is the last known state, and no host is free. A
        worker that has no state yet returns all servers.

        :param deadline: an instant of ``time.monotonic()``
        """
        server_uuids = query.keys
        end = min(query.began + self._timeout, deadline)
        try:
            found = self._questions.answer(query, timeout=max(0.0, end - time.monotonic()))
        except (exceptions.DatabaseUnavailable, TimeoutError) as exc:
            self._questions.give_up(query)
            self._not_asked.occurred(
                logging.WARNING,
                'Could not query the held events of %d servers: %s; using the last known state',
                len(server_uuids),
                _text(exc),
            )
            return self._last_known(server_uuids)
        except Exception:  # as for an unavailable database; the batch must not fail
            LOG.exception('Could not query held events because of an unexpected error; using the last state')
            self._questions.give_up(query)
            return self._last_known(server_uuids)
        self._not_asked.over('Held events can be queried again')
        return {server: free for server, free in found.items() if server in server_uuids}

    def _last_known(self, server_uuids: frozenset[str]) -> host_map_base.HeldServers:
        with self._lock:
            # NOTE: a worker that replaces a failed worker starts while the machine is busy, and its
            # first query takes long.
            known = server_uuids if self._known is None else self._known
            behind = known.union(self._news).intersection(server_uuids)
        return dict.fromkeys(behind, NO_HOSTS)

    def cancel_query(self, query: batch_loader.LoadRequest[host_map_base.HeldServers]) -> None:
        """End a query whose result is not needed."""
        self._questions.give_up(query)

    def hold(
        self, ctxt: context.RequestContext, items: Sequence[base.Item], *, deadline: float
    ) -> str | None:
        """Hold events. They are durable when this method returns.

        :param deadline: an instant of ``time.monotonic()``
        :returns: None, or the reason why no event was held
        """
        try:
            self._writer.write(base.Request(items, ctxt.to_dict()), deadline=deadline)
        except (exceptions.DatabaseUnavailable, TimeoutError) as exc:
            recorder.current().held(len(items), stored=False)
            self._not_held.occurred(
                logging.ERROR,
                '%d events could not be held: %s; they get 503 and are lost',
                len(items),
                _text(exc),
            )
            return _text(exc)
        except Exception as exc:  # the other events of the batch are delivered
            recorder.current().held(len(items), stored=False)
            LOG.exception(
                '%d events could not be held because of an unexpected error; they get 503 and are lost',
                len(items),
            )
            return f'unexpected {type(exc).__name__}'
        recorder.current().held(len(items), stored=True)
        self._not_held.over('Events are held again')
        with self._lock:
            if len(self._news) < REMEMBERED:
                self._news.update(item.event.server_uuid for item in items)
        return None

    def learn(self) -> None:
        """Remember the servers with held events, and open connections for writing.

        :raises DatabaseUnavailable: the database is unavailable
        """
        with self._lock:
            if self._known is not None:
                self._known |= self._news
                self._news = set()
        known = self.store.servers(REMEMBERED)
        with self._lock:
            self._known = known
        self._learned_at = time.monotonic()
        self.store.warm()
        self._warm.set()

    def wait_until_warm(self, timeout: float) -> bool:
        """Wait until events can be held immediately, which is after the first :meth:`learn`.

        :param timeout: seconds
        :returns: whether events could be held before the timeout
        """
        return self._warm.wait(timeout)

    def status(self) -> parts.Status:
        """Return whether events can be held; see ``process.parts``."""
        failing = self._not_held.is_present or self._not_asked.is_present or not self._warm.is_set()
        since = self._learned_at
        details = {
            'ready': self._warm.is_set(),
            'servers_with_held_events': None if self._known is None else len(self._known),
            'seconds_since_last_query': None if since is None else round(time.monotonic() - since, 1),
            'requests_waiting': self._writer.waiting,
        }
        return parts.Status('hold', parts.State.DEGRADED if failing else parts.State.OK, details)

    def close(self) -> None:
        """End the threads and close the connections."""
        self._writer.close()
        self._questions.close()
        self.store.close()


def _text(exc: Exception) -> str:
    return str(exc) or 'the database did not answer in time'
