"""Reports hosts and the servers on them to the resolver.

A host is reported at the start, when the source detects a change, and at an interval. An unavailable
resolver delays only the reports. ``sources`` describes the sources.

Each report contains the token that a resolver has sent to the queue of the host, because only the
agent of the host can read it. A host without a valid token is reported again when a token arrives.
"""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Iterable
import dataclasses
import logging
import random
import threading
import time
from typing import Protocol

from external_events_router import context
from external_events_router import exceptions
from external_events_router import throttled_log
from external_events_router.agent import clock
from external_events_router.agent import sources
from external_events_router.messaging.amqp import availability
from external_events_router.metrics import recorder
from external_events_router.process import essential
from external_events_router.resolver import rpcapi

LOG = logging.getLogger(__name__)

#: Seconds between attempts while no resolver accepts a report: the first and the longest pause.
FIRST_PAUSE = 0.5
LONGEST_PAUSE = 30.0

#: Seconds until the next report of a host whose report was refused without a valid token, if no token
#: arrives. Longer than the time in which a resolver sends only one token.
TOKEN_PAUSE = 12.0

#: Number of consecutive refused reports of a host before a log message, and seconds between two log
#: messages about such hosts.
REFUSED = 3
REFUSED_EVERY = 600.0

#: Random part of an interval, in both directions, so that agents that were started together do
#: not always report together.
JITTER = 0.1


_REMEDY = (
    'the resolvers do not update the host map for it. Remove [upgrade_levels] host_map here and agent in the '
    'resolvers, and check that the queue of the host is bound and has a consumer'
)


class ReportClient(Protocol):
    """The used part of ``resolver.rpcapi.HostMapAPI``."""

    def report(
        self,
        ctxt: context.RequestContext,
        host: str,
        server_uuids: Iterable[str] | None,
        token: str = '',
    ) -> rpcapi.Reported:
        """Report a host. The response contains the time of the resolver."""
        ...


@dataclasses.dataclass(slots=True)
class _Host:
    name: str
    source: sources.Source
    due: float
    changed: bool = False
    reported: frozenset[str] | None = None
    ever: bool = False
    refused: int = 0


class Reporter:
    """Reports the hosts of one process, one after the other, on one thread."""

    def __init__(
        self, client: ReportClient, resolver_clock: clock.ResolverClock, *, interval: float = 60.0
    ) -> None:
        """Create a reporter.

        :param resolver_clock: receives the time of the resolver
        :param interval: seconds between two reports of a host
        """
        self._client = client
        self._clock = resolver_clock
        self._interval = interval
        # Guards the attributes below.
        self._wake = threading.Condition()
        self._hosts: dict[str, _Host] = {}
        # NOTE: a token may arrive before its host is added.
        self._tokens: dict[str, str] = {}
        self._not_before = 0.0
        self._failures = 0
        self._logged = False
        self._stopping = False
        self._refusals = throttled_log.Summary(
            LOG,
            logging.WARNING,
            one='The reports of host %s are refused, because it has no valid token: ' + _REMEDY,
            many='The reports of %d hosts, for example %s, are refused, because they have no valid token: '
            + _REMEDY,
            every=REFUSED_EVERY,
        )
        self._thread = essential.EssentialThread(
            self._serve, name='reports', is_stopped=lambda: self._stopping
        )

    def start(self) -> None:
        """Start to report."""
        self._thread.start()

    def add(self, host: str, source: sources.Source) -> None:
        """Report a host from now on; the first report follows immediately."""
        with self._wake:
            self._hosts[host] = _Host(host, source, due=time.monotonic())
            self._wake.notify()

    def remove(self, host: str) -> None:
        """Stop reporting a host."""
        with self._wake:
            self._hosts.pop(host, None)
            self._tokens.pop(host, None)

    def changed(self, host: str) -> None:
        """Report a host now, if its servers have changed since the last report."""
        with self._wake:
            if (entry := self._hosts.get(host)) is not None:
                entry.changed = True
                self._wake.notify()

    def take_token(self, host: str, token: str) -> None:
        """Store the token for the next reports of a host. If its last report was refused, report it now."""
        with self._wake:
            self._tokens[host] = token
            entry = self._hosts.get(host)
            if entry is not None and entry.refused:
                entry.due = time.monotonic()
                self._wake.notify()

    def stop(self) -> None:
        """Stop after the current report; does not wait for it."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        self._refusals.flush(now=True)

    def _serve(self) -> None:
        while (entry := self._next()) is not None:
            try:
                self._visit(entry)
            except Exception:
                # The outermost loop of the thread: continue with the other hosts.
                LOG.exception('Could not report host %s; trying again at the next interval', entry.name)
                self._plan(entry, self._interval)

    def _next(self) -> _Host | None:
        """Wait until a host is due, and return it."""
        with self._wake:
            while not self._stopping:
                now = time.monotonic()
                first = min(self._hosts.values(), key=_due, default=None)
                at = None if first is None else max(_due(first), self._not_before)
                if first is not None and at is not None and at <= now:
                    return first
                self._wake.wait(None if at is None else at - now)
            return None

    def _visit(self, entry: _Host) -> None:
        with self._wake:
            only_changed = entry.changed and entry.due > time.monotonic()
            entry.changed = False
        servers = _ask(entry)
        if only_changed and entry.ever and servers == entry.reported:
            return
        token = self._tokens.get(entry.name, '')
        began = time.monotonic()
        try:
            answer = self._report(entry.name, servers, token)
        except exceptions.RouterError as exc:
            self._failed(entry, exc, began=began)
        else:
            self._answered(entry, servers, token, answer)

    def _report(self, host: str, servers: frozenset[str] | None, token: str) -> rpcapi.Reported:
        asked = self._clock.start_reading()
        answer = self._client.report(context.for_service(), host, servers, token)
        self._clock.note(answer.now, asked=asked)
        return answer

    def _answered(
        self, entry: _Host, servers: frozenset[str] | None, token: str, answer: rpcapi.Reported
    ) -> None:
        if self._logged:
            LOG.info('The resolver accepts reports again')
        self._failures, self._logged = 0, False
        if answer.proof_needed:
            self._refused(entry, token)
            return
        recorder.current().agent_reported(accepted=True)
        LOG.debug('Host %s reported: %s', entry.name, 'servers unknown' if servers is None else len(servers))
        entry.ever, entry.reported, entry.refused = True, servers, 0
        self._plan(entry, self._interval)

    def _refused(self, entry: _Host, token: str) -> None:
        recorder.current().agent_reported(accepted=False)
        LOG.debug('The report of host %s was refused: it needs a token', entry.name)
        entry.ever = False
        self._plan(entry, TOKEN_PAUSE)
        with self._wake:
            entry.refused += 1
            if self._tokens.get(entry.name, '') != token:
                # A token arrived before the response.
                entry.due = time.monotonic()
        if entry.refused >= REFUSED:
            self._refusals.add([entry.name])
            self._refusals.flush()

    def _failed(self, entry: _Host, error: exceptions.RouterError, *, began: float) -> None:
        recorder.current().agent_reported(accepted=False)
        # The resolver or the broker has failed, so all hosts wait.
        pause = min(FIRST_PAUSE * 2 ** min(self._failures, 16), LONGEST_PAUSE)
        if not self._logged:
            # NOTE: the connections log an unavailable broker, once for all hosts.
            level = availability.level(began)
            LOG.log(level, 'Could not report host %s: %s; trying again', entry.name, error)
            self._logged = level >= logging.WARNING
        self._failures += 1
        with self._wake:
            self._not_before = time.monotonic() + pause * random.uniform(0.5, 1)  # noqa: S311
            entry.due = self._not_before

    def _plan(self, entry: _Host, interval: float) -> None:
        with self._wake:
            entry.due = time.monotonic() + interval * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311


def _due(entry: _Host) -> float:
    return 0.0 if entry.changed else entry.due


def _ask(entry: _Host) -> frozenset[str] | None:
    servers: Collection[str] | None = entry.source.servers(entry.name)
    return None if servers is None else frozenset(servers)
