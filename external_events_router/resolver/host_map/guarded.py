"""Adds time limits and a cache to a host map.

A look-up always ends in time. While the database is unavailable, servers that were looked up before
keep their last known hosts. The sources of the hosts are in the other modules of this package (see ``base``).
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Mapping
import contextlib
import dataclasses
import functools
import logging
import threading
import time

from oslo_log import log

from external_events_router import exceptions
from external_events_router import rejected
from external_events_router import throttled_log
from external_events_router.concurrency import batch_loader
from external_events_router.concurrency import bounded_store
from external_events_router.concurrency import pause
from external_events_router.metrics import recorder
from external_events_router.process import parts
from external_events_router.resolver.host_map import base

LOG = log.getLogger(__name__)

#: Maximum number of look-ups of a worker that hang at the same time.
THREADS = 8

#: Part of the timeout after which a look-up ends, if the hosts of all servers are in the cache.
FIRST_TRY_TIMEOUT_SHARE = 1 / 3

#: Part of the timeout in which a map with several sources has to answer.
SOURCES_TIMEOUT_SHARE = 2 / 3


class GuardedHostMap:
    """A host map with a timeout and a cache. It combines the look-ups of several batches. Thread-safe."""

    def __init__(
        self,
        inner: base.HostMap,
        *,
        timeout: float = 1.5,
        remembered: int = 100_000,
        threads: int = THREADS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """:param timeout: maximum seconds of one look-up
        :param remembered: maximum number of cached servers; the least recently used are removed
        :param threads: maximum number of look-ups that hang at the same time
        """
        self._inner = inner
        # NOTE: computed once, because isinstance() with a protocol takes as long as a look-up.
        self._partial = inner if isinstance(inner, base.PartialHostMap) else None
        self._detailed = inner if isinstance(inner, base.DetailedHostMap) else None
        self._timeout = timeout
        self._memory = _Memory(remembered)
        self._questions = batch_loader.BatchLoader(self._fetch, threads=threads, name='host-map')
        self._pause = pause.Pause(clock)
        self._failing = throttled_log.ThrottledLog(LOG)
        # Instant of time.monotonic() of the last look-up that succeeded.
        self._answered_at: float | None = None

    @property
    def includes_held_servers(self) -> bool:
        """Whether look-ups return the servers that have held events, unless they fail."""
        return self._detailed is not None and self._detailed.includes_held_servers

    def lookup(self, server_uuids: Collection[str], *, timeout: float | None = None) -> base.Lookup:
        """Look up the servers of a batch, within the timeout of the map and the given timeout.

        If the source fails or does not answer in time, servers that were looked up before keep their
        last known hosts, and other servers are unavailable. After three consecutive failures,
        batches do not wait for the source: one look-up per second tries it until it answers.

        :param server_uuids: canonical uuids
        :param timeout: seconds; None: only the timeout of the map
        """
        return self.begin(server_uuids, timeout=timeout).result()

    def begin(
        self,
        server_uuids: Collection[str],
        *,
        timeout: float | None = None,
        then: Callable[[base.Lookup | None], None] | None = None,
    ) -> PendingLookup:
        """Begin a look-up, without waiting; :meth:`PendingLookup.result` has to follow.

        :param then: called once on the thread of the query: with the result if the source has answered, or
            with None; not if the result is known at once, nor after :meth:`PendingLookup.result`. It must
            not block
        """
        wanted = frozenset(server_uuids)
        if not wanted:
            return PendingLookup(lambda: base.Lookup({}), is_ready=True)
        if not self._pause.admits():
            found = self._memory.recall(wanted, reason='the host map failed just now')
            return PendingLookup(functools.partial(_Report().once, found), is_ready=True)
        seconds = self._timeout if timeout is None else max(0.0, min(timeout, self._timeout))
        report = _Report()
        callback = None if then is None else functools.partial(self._call, wanted, then, report)
        question = self._questions.begin(wanted, callback)
        return PendingLookup(
            lambda: report.once(self._wait(wanted, question, seconds)),
            functools.partial(self._questions.wait_until, question),
        )

    def _call(
        self,
        wanted: frozenset[str],
        then: Callable[[base.Lookup | None], None],
        report: _Report,
        found: base.Lookup | None,
    ) -> None:
        then(None if found is None else report.once(self._found(wanted, found)))

    def _wait(
        self, wanted: frozenset[str], question: batch_loader.LoadRequest[base.Lookup], seconds: float
    ) -> base.Lookup:
        try:
            found = self._answer(wanted, question, seconds)
        except exceptions.DatabaseRefused as exc:
            # NOTE: the error concerns only these servers; the map can look up other servers.
            rejected.ALL.note('server uuid', f'the map cannot be asked about it ({exc})', sorted(wanted)[:3])
            return self._memory.recall(wanted, reason=str(exc))
        except (exceptions.DatabaseUnavailable, TimeoutError) as exc:
            reason = str(exc) or f'the host map did not answer within {seconds:.3g} s'
            # NOTE: if the batch had little time left, a timeout does not show a failure of the source.
            if seconds == self._timeout or isinstance(exc, exceptions.DatabaseUnavailable):
                self._pause.failed()
            self._failing.occurred(
                logging.WARNING,
                'Could not look up the hosts of %d servers: %s; using their last known hosts, other servers '
                'get 503',
                len(wanted),
                reason,
            )
            return self._memory.recall(wanted, reason=reason)
        except Exception as exc:  # as for an unavailable source; the batch must not fail
            self._pause.failed()
            LOG.exception('The host map failed unexpectedly; using the last known hosts of its servers')
            return self._memory.recall(wanted, reason=f'unexpected {type(exc).__name__} of the host map')
        if found is None:
            return self._memory.recall(wanted, reason='the host map is slow')
        return self._found(wanted, found)

    def _found(self, wanted: frozenset[str], found: base.Lookup) -> base.Lookup:
        self._pause.succeeded()
        self._answered_at = time.monotonic()
        self._failing.over('The hosts of servers can be looked up again')
        return self._completed(found.only(wanted))

    def status(self) -> parts.Status:
        """Return whether look-ups succeed; see ``process.parts``."""
        failing = self._failing.is_present
        since = self._answered_at
        details = {
            'seconds_since_last_answer': None if since is None else round(time.monotonic() - since, 1),
            'servers_in_memory': len(self._memory),
        }
        state = parts.State.DEGRADED if failing else parts.State.OK
        return parts.Status(type(self._inner).__name__, state, details)

    def hosts_of(self, server_uuids: Collection[str]) -> base.Hosts:
        """Look up servers in the source, without timeout and cache.

        :raises DatabaseUnavailable: the source is unavailable
        """
        return self._inner.hosts_of(server_uuids)

    def assign(self, server_uuid: str, host: str) -> None:
        """See :class:`base.WritableHostMap`."""
        self._writable().assign(server_uuid, host)
        self._memory.add(frozenset({base.server_uuid(server_uuid)}), host)

    def unassign(self, server_uuid: str, host: str) -> None:
        """See :class:`base.WritableHostMap`."""
        self._writable().unassign(server_uuid, host)
        self._memory.remove(frozenset({base.server_uuid(server_uuid)}), host)

    def forget(self, server_uuid: str) -> None:
        """See :class:`base.WritableHostMap`."""
        self._writable().forget(server_uuid)
        self._memory.forget(base.server_uuid(server_uuid))

    def report(self, host: str, server_uuids: Collection[str]) -> base.Change:
        """See :class:`base.WritableHostMap`."""
        change = self._writable().report(host, server_uuids)
        self._memory.add(change.gained, host)
        self._memory.remove(change.lost, host)
        return change

    def warm(self) -> None:
        """Connect to the sources in advance, if there are several."""
        if self._partial is not None:
            self._partial.warm()

    def check(self) -> None:
        """Check that the source can be used.

        :raises ConfigurationError: with the name of the option that is not valid
        """
        self._inner.check()

    def close(self) -> None:
        """End the threads, and close the connections."""
        self._questions.close()
        self._inner.close()

    def _completed(self, found: base.Lookup) -> base.Lookup:
        """Add the last known hosts of servers whose source is unavailable."""
        if not found.unavailable:
            return found
        known = self._memory.recall(found.unavailable, reason=found.reason or '')
        return dataclasses.replace(
            found,
            hosts={**found.hosts, **known.hosts},
            unavailable=known.unavailable,
            remembered=known.remembered,
        )

    def _answer(
        self, wanted: frozenset[str], question: batch_loader.LoadRequest[base.Lookup], seconds: float
    ) -> base.Lookup | None:
        """Wait for the source; None: it is slow, and the hosts of all servers are in the cache.

        :raises TimeoutError: it did not answer in time
        :raises DatabaseUnavailable: it is unavailable
        """
        deadline = question.began + seconds
        first = deadline - seconds * (1 - FIRST_TRY_TIMEOUT_SHARE) - time.monotonic()
        try:
            try:
                return self._questions.answer(question, timeout=max(0.0, first))
            except TimeoutError:
                # NOTE: a map with several sources reports its slow sources itself, in time.
                if self._partial is None and self._memory.knows(wanted):
                    return None
            # Uncached servers get 503 without the source, so wait until the timeout.
            return self._questions.answer(question, timeout=max(0.0, deadline - time.monotonic()))
        finally:
            self._questions.give_up(question)

    def _fetch(self, wanted: frozenset[str]) -> base.Lookup:
        # NOTE: answers that arrive after the timeout are cached, too.
        epoch = self._memory.epoch
        if self._detailed is not None:
            found = self._detailed.look_up(wanted, timeout=self._timeout * SOURCES_TIMEOUT_SHARE)
        else:
            found = base.Lookup(self._inner.hosts_of(wanted))
        self._memory.learn(wanted - found.unavailable, found.hosts, epoch=epoch)
        return found

    def _writable(self) -> base.WritableHostMap:
        if not isinstance(self._inner, base.WritableHostMap):
            raise exceptions.ReadOnlyHostMap(reason=f'{type(self._inner).__name__} only reads')
        return self._inner


def _result(found: base.Lookup) -> str:
    """Return the result of a look-up for the metrics."""
    if found.unavailable:
        return 'failed'
    return 'cached' if found.remembered else 'complete'


class _Report:
    """Reports a look-up to the metrics once, whichever thread has its result first."""

    def __init__(self) -> None:
        # NOTE: to take the only item is one step of the interpreter.
        self._began = [time.monotonic()]

    def once(self, found: base.Lookup) -> base.Lookup:
        """Report the result of the look-up, and return it."""
        with contextlib.suppress(IndexError):
            recorder.current().looked_up(_result(found), time.monotonic() - self._began.pop())
        return found


class PendingLookup:
    """A look-up that was begun.

    :ivar is_ready: :meth:`result` does not wait
    """

    def __init__(
        self,
        result: Callable[[], base.Lookup],
        wait_until: Callable[[float], bool] = lambda _deadline: True,
        *,
        is_ready: bool = False,
    ) -> None:
        self.is_ready = is_ready
        self._result = result
        self._wait_until = wait_until

    def wait_until(self, deadline: float) -> bool:
        """Wait for the source, before :meth:`result`.

        :param deadline: instant of ``time.monotonic()``
        :returns: whether the source has answered or failed
        """
        return self._wait_until(deadline)

    def result(self) -> base.Lookup:
        """Return the result, as :meth:`GuardedHostMap.lookup` does, within the time from its begin."""
        return self._result()


class _Memory:
    """The cache with the hosts of the most recently looked up servers."""

    def __init__(self, size: int) -> None:
        # Guards everything below.
        self._lock = threading.Lock()
        self._hosts: bounded_store.BoundedStore[str, tuple[str, ...]] = bounded_store.BoundedStore(size)
        self._epoch = 0

    def __len__(self) -> int:
        return len(self._hosts)

    @property
    def epoch(self) -> int:
        """A number that changes with every write of this process."""
        with self._lock:
            return self._epoch

    def learn(self, wanted: frozenset[str], hosts: base.Hosts, *, epoch: int) -> None:
        """Cache an answer of the source, unless this process has changed the map since ``epoch``."""
        with self._lock:
            if epoch != self._epoch:
                return
            for server in wanted:
                if server in hosts:
                    self._hosts.add(server, hosts[server])
                else:
                    self._hosts.remove(server)

    def knows(self, wanted: frozenset[str]) -> bool:
        """Return whether all of the servers were looked up before."""
        with self._lock:
            return wanted <= self._hosts.keys()

    def recall(self, wanted: frozenset[str], *, reason: str) -> base.Lookup:
        """Return the cached hosts of servers."""
        with self._lock:
            found: Mapping[str, tuple[str, ...]] = {
                server: hosts for server in wanted if (hosts := self._hosts.get(server, use=True)) is not None
            }
        unavailable = wanted - found.keys()
        return base.Lookup(found, unavailable, reason if unavailable else None, remembered=frozenset(found))

    def add(self, servers: frozenset[str], host: str) -> None:
        """Add a host to the known hosts of servers."""
        self._rewrite(servers, lambda hosts: tuple(sorted({*hosts, host})))

    def remove(self, servers: frozenset[str], host: str) -> None:
        """Remove a host from the known hosts of servers."""
        self._rewrite(servers, lambda hosts: tuple(one for one in hosts if one != host))

    def forget(self, server: str) -> None:
        """Remove a server that was deleted."""
        with self._lock:
            self._epoch += 1
            self._hosts.remove(server)

    def _rewrite(self, servers: frozenset[str], change: Callable[[tuple[str, ...]], tuple[str, ...]]) -> None:
        # A server that was never looked up stays out: its other hosts are not known.
        with self._lock:
            self._epoch += bool(servers)
            for server in servers:
                if (hosts := self._hosts.get(server)) is not None:
                    self._hosts.replace(server, change(hosts))
