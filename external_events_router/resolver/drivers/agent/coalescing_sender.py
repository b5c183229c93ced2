"""Casts all deliveries of a batch at the same time, with one message in flight per host.

Deliveries for a host wait while a message to this host is in flight, and go together in the next message.
There is no timer: without a message in flight, a delivery is sent immediately.

Each message has exactly one result, whatever exceptions occur. After it the next message to the host is sent.
"""

from __future__ import annotations

import collections
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
import dataclasses
import logging
import threading
import time
from typing import Protocol

from external_events_router import context
from external_events_router import events
from external_events_router import exceptions
from external_events_router import settling
from external_events_router.agent import rpcapi
from external_events_router.messaging import transport as transports

LOG = logging.getLogger(__name__)

#: Maximum number of events in one message, unless a single delivery has more.
MAX_EVENTS = 1000


class Sender(Protocol):
    """The used part of ``agent.rpcapi.AgentAPI``."""

    def cast(self, casts: Sequence[rpcapi.Cast], done: transports.Done, *, until: float) -> None: ...


@dataclasses.dataclass(slots=True, eq=False)
class _Entry:
    """A delivery that waits or is in flight.

    :ivar until: an instant of ``time.monotonic()``
    :ivar cast: the message that contains it; None: it waits
    """

    ctxt: context.RequestContext
    delivery: events.Delivery
    on_failure: Callable[[str, exceptions.RouterError], None]
    until: float
    cast: rpcapi.Cast | None = None


class Casts:
    """The casts of one call of :meth:`CoalescingSender.cast`."""

    def __init__(self, entries: Mapping[str, _Entry]) -> None:
        self._entries = entries

    def unsent(self) -> list[str]:
        """Return the hosts to which nothing was sent."""
        return [host for host, entry in self._entries.items() if entry.cast is None or not entry.cast.is_sent]


class CoalescingSender:
    """Sends casts, combined per host. Thread-safe; one per resolver worker."""

    def __init__(
        self,
        sender: Sender,
        *,
        together: bool = True,
        run_soon: Callable[[Callable[[], None]], None] = lambda send: send(),
    ) -> None:
        """:param together: whether deliveries to a host may share a message
        :param run_soon: calls a function at once, or soon on another thread; all deliveries that are cast
            until then are sent together
        """
        self._sender = sender
        self._together = together
        self._run_soon = run_soon
        # Guards _new: hosts and their deliveries that were cast since the last call of _send_new; and
        # _waiting: host with a message in flight, to the deliveries that wait for the end of this message.
        self._lock = threading.Lock()
        self._new: list[tuple[str, _Entry]] = []
        self._waiting: dict[str, list[_Entry]] = {}
        # Messages that this thread still has to send: see _send.
        self._local = threading.local()

    @contextlib.contextmanager
    def cast(
        self,
        ctxt: context.RequestContext,
        deliveries: Mapping[str, events.Delivery],
        *,
        on_failure: Callable[[str, exceptions.RouterError], None],
        until: float,
    ) -> Iterator[Casts]:
        """Start a cast to each host. At the end of the block, withdraw casts that have not started.

        Does not wait. A failure for one host is reported immediately and does not affect others.

        :param deliveries: host to its delivery
        :param on_failure: called with the host and the error, usually from another thread
        :param until: an instant of ``time.monotonic()`` after which no cast starts
        """
        entries = {host: _Entry(ctxt, delivery, on_failure, until) for host, delivery in deliveries.items()}
        with self._lock:
            first = not self._new
            self._new += entries.items()
        if first and entries:
            self._run_soon(self._send_new)
        try:
            yield Casts(entries)
        finally:
            self._withdraw(entries)

    def _send_new(self) -> None:
        """Send the deliveries since the last call, except to hosts with a message in flight."""
        late: dict[str, list[_Entry]] = {}
        with self._lock:
            new, self._new = self._new, []
            if self._together:
                idle = dict.fromkeys(host for host, _entry in new if host not in self._waiting)
                for host, entry in new:
                    self._waiting.setdefault(host, []).append(entry)
                taken = {host: self._take(host, late=late.setdefault(host, [])) for host in idle}
                messages = [{host: entries for host, entries in taken.items() if entries}]
            else:
                for host, _entry in new:
                    self._waiting.setdefault(host, [])
                messages = [{host: [entry]} for host, entry in new]
        for host, entries in late.items():
            for entry in entries:
                _fail(entry, host, exceptions.BrokerUnavailable(reason='not sent in time'))
        for by_host in messages:
            self._send(by_host)

    def _send(self, by_host: Mapping[str, Sequence[_Entry]]) -> None:
        """Send messages, and messages that must follow when one of them ends meanwhile.

        NOTE: otherwise a message that fails immediately would cause a nested call for each waiting
        message, until the stack is full.
        """
        if not by_host:
            return
        queue: collections.deque[Mapping[str, Sequence[_Entry]]] | None
        queue = getattr(self._local, 'queue', None)
        if queue is not None:
            queue.append(by_host)
            return
        queue = self._local.queue = collections.deque([by_host])
        try:
            while queue:
                self._send_now(queue.popleft())
        finally:
            self._local.queue = None

    def _send_now(self, by_host: Mapping[str, Sequence[_Entry]]) -> None:
        sent = list(by_host.items())

        def done(index: int, error: exceptions.RouterError | None) -> None:
            host, entries = sent[index]
            if error is not None:
                for entry in entries:
                    _fail(entry, host, error)
            self._follow(host)

        once: settling.Once[exceptions.RouterError] = settling.Once(len(sent), done)
        try:
            casts = [
                rpcapi.Cast(host, [(entry.ctxt, entry.delivery) for entry in entries])
                for host, entries in sent
            ]
            for cast, (_host, entries) in zip(casts, sent, strict=True):
                for entry in entries:
                    entry.cast = cast
            until = max(entry.until for entries in by_host.values() for entry in entries)
            self._sender.cast(casts, once.settle, until=until)
        except Exception as exc:  # the waiting batches must be informed
            LOG.exception('Could not send deliveries; their events are held')
            once.settle_rest(exceptions.BrokerUnavailable(reason=f'unexpected {type(exc).__name__}'))

    def _follow(self, host: str) -> None:
        """Send the deliveries that wait for a host, after its message has a result."""
        late: list[_Entry] = []
        with self._lock:
            taken = self._take(host, late=late)
        for entry in late:
            _fail(entry, host, exceptions.BrokerUnavailable(reason='not sent in time'))
        if taken:
            self._send({host: taken})

    def _take(self, host: str, *, late: list[_Entry]) -> list[_Entry]:
        """Take the deliveries of the next message to a host; none: the host is idle.

        Call it with the lock held.

        :param late: gets the deliveries that are too late to be sent
        """
        now, taken, events_taken = time.monotonic(), list[_Entry](), 0
        waiting = self._waiting.get(host, [])
        while waiting and (not taken or events_taken + len(waiting[0].delivery.events) <= MAX_EVENTS):
            entry = waiting.pop(0)
            if entry.until > now:
                taken.append(entry)
                events_taken += len(entry.delivery.events)
            else:
                late.append(entry)
        if not taken:
            self._waiting.pop(host, None)
        return taken

    def _withdraw(self, entries: Mapping[str, _Entry]) -> None:
        with self._lock:
            if self._new:
                withdrawn = set(map(id, entries.values()))
                self._new = [new for new in self._new if id(new[1]) not in withdrawn]
            for host, entry in entries.items():
                waiting = self._waiting.get(host)
                if waiting and entry in waiting:
                    waiting.remove(entry)


def _fail(entry: _Entry, host: str, error: exceptions.RouterError) -> None:
    try:
        entry.on_failure(host, error)
    except Exception:  # continue with the other batches
        LOG.exception('A callback failed after host %s could not be reached; continuing', host)
