"""Between the way of a batch and the store: a bound on every wait, and the policy of what is held how long.

A database that hangs costs a batch no more than the time it was given. What is
held is delivered by the ``courier``.
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
from external_events_router.resolver.hold import base
from external_events_router.resolver.hold import group_commit
from external_events_router.resolver.hold import store
from external_events_router.resolver.host_map import base as host_map_base

LOG = log.getLogger(__name__)

#: Questions that may hang at the same time, per worker.
THREADS = 8

#: Servers with something held that are known by heart, for when the database is away.
REMEMBERED = 10000

#: Seconds until the first attempt for an event that was not acknowledged: its
#: host may just be slow, and its late acknowledgement brings the attempt forward.
FIRST_RETRY = 0.5

NO_HOSTS: frozenset[str] = frozenset()


@dataclasses.dataclass(frozen=True, slots=True)
class Lifetimes:
    """How long an event is worth anything, in seconds.

    :ivar default: of an event whose name has none of its own
    :ivar by_name: event name to its own
    :ivar unassigned: how long an event waits for a server that is on no host
        to be put on one; 0: not at all
    """

    default: float = 300.0
    by_name: Mapping[str, float] = dataclasses.field(default_factory=dict)
    unassigned: float = 0.0

    @classmethod
    def from_conf(cls, conf: cfg.ConfigOpts) -> Lifetimes:
        """What ``[delivery]`` says.

        :raises ConfigurationError: a name is no event's, or its value no number of seconds
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
                    reason=f'{name}:{value} is not the name of an event and a number of seconds, at most '
                    f'{delivery_conf.LONGEST_TTL:.0f}',
                )
        return cls(conf.delivery.event_ttl, by_name, conf.delivery.hold_unassigned)

    def of(self, event: events.Event) -> float:
        """Of an event, from when it came."""
        return self.by_name.get(event.name, self.default)


class Hold:
    """The hold, as the way of a batch uses it. Thread-safe."""

    def __init__(self, held: store.HoldStore, *, lifetimes: Lifetimes, timeout: float) -> None:
        """:param timeout: seconds that one question may take"""
        self.store = held
        self.lifetimes = lifetimes
        self._timeout = timeout
        self._writer = group_commit.GroupCommit(functools.partial(held.hold_all, retry_after=FIRST_RETRY))
        self._questions = batch_loader.BatchLoader(held.servers_among, threads=THREADS, name='held-servers')
        self._not_asked = throttled_log.ThrottledLog(LOG)
        self._not_held = throttled_log.ThrottledLog(LOG)
        self._holding = throttled_log.ThrottledLog(LOG)
        # Guards both sets; the second is what was held since learning began. The
        # first is None until something was learned.
        self._lock = threading.Lock()
        self._known: frozenset[str] | None = None
        self._news: set[str] = set()
        self._warm = threading.Event()

    def query_held_servers(
        self, server_uuids: Collection[str]
    ) -> batch_loader.LoadRequest[host_map_base.HeldServers]:
        """Begin the query for servers that have held events; :meth:`held_servers` returns its result."""
        return self._questions.begin(frozenset(server_uuids))

    def held_servers(
        self, query: batch_loader.LoadRequest[host_map_base.HeldServers], *, deadline: float
    ) -> host_map_base.HeldServers:
        """The servers of a query that have held events, so that later events must wait behind these.

        While the database is away: as far as this worker knows, and no host is free then.
        One that has not learned anything yet takes every server for one of them.

        :param deadline: an instant of ``time.monotonic()``
        """
        server_uuids = query.keys
        try:
            found = self._questions.answer(
                query, timeout=max(0.0, min(self._timeout, deadline - time.monotonic()))
            )
        except (exceptions.DatabaseUnavailable, TimeoutError) as exc:
            self._questions.give_up(query)
            self._not_asked.occurred(
                logging.WARNING,
                'Not known whether %d servers have held events: %s',
                len(server_uuids),
                _text(exc),
            )
            with self._lock:
                # NOTE: a worker that takes a dead one's place starts while the
                # machine is busy with that, and its first question takes long.
                known = server_uuids if self._known is None else self._known
                behind = known.union(self._news).intersection(server_uuids)
            return dict.fromkeys(behind, NO_HOSTS)
        self._not_asked.over('It is known again which servers have held events')
        return {server: free for server, free in found.items() if server in server_uuids}

    def hold(
        self, ctxt: context.RequestContext, items: Sequence[base.Item], *, deadline: float
    ) -> str | None:
        """Hold events, durably when it returns.

        :param deadline: an instant of ``time.monotonic()``
        :returns: None, or why nothing was held
        """
        try:
            self._writer.write(base.Request(items, ctxt.to_dict()), deadline=deadline)
        except (exceptions.DatabaseUnavailable, TimeoutError) as exc:
            recorder.current().held(len(items), stored=False)
            self._not_held.occurred(logging.ERROR, '%d events could not be held: %s', len(items), _text(exc))
            return _text(exc)
        recorder.current().held(len(items), stored=True)
        self._not_held.over('Events are held again')
        self._holding.occurred(
            logging.INFO, 'Holding %d events of a batch, the first because %s', len(items), items[0].reason
        )
        with self._lock:
            if len(self._news) < REMEMBERED:
                self._news.update(item.event.server_uuid for item in items)
        return None

    def learn(self) -> None:
        """Learn by heart which servers have something held, and have connections for writing open.

        :raises DatabaseUnavailable: the database cannot be asked
        """
        with self._lock:
            if self._known is not None:
                self._known |= self._news
                self._news = set()
        known = self.store.servers(REMEMBERED)
        with self._lock:
            self._known = known
        self.store.warm()
        self._warm.set()

    def wait_until_warm(self, timeout: float) -> bool:
        """Wait until the first events could be held at once: :meth:`learn` has succeeded.

        :param timeout: seconds
        :returns: whether it has
        """
        return self._warm.wait(timeout)

    def close(self) -> None:
        """Let go of threads and connections."""
        self._writer.close()
        self._questions.close()
        self.store.close()


def _text(exc: Exception) -> str:
    return str(exc) or 'the database did not answer in time'
