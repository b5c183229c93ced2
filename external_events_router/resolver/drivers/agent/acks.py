"""Waiting for the acknowledgements of hosts.

A :class:`Collector` per resolver worker knows every delivery that is waited
for; the RPC server of the acknowledgement topic feeds it. Nothing is sent here
(see ``dispatch``) and nothing is decided (see ``answers``).
"""

from __future__ import annotations

import collections
from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
import contextlib
import threading
import time

from oslo_log import log

from external_events_router import events
from external_events_router import exceptions
from external_events_router import rejected
from external_events_router.resolver import answers

LOG = log.getLogger(__name__)

#: Why no host has an answer that is waited for while there is no connection.
CONNECTION_LOST = 'the connection to the broker was lost'
#: Deliveries without an acknowledgement in time that are remembered. They are few, unless
#: hosts are away, and then a late acknowledgement of any of them shows that its host is back.
MAX_ENDED = 50_000


class AckRound:
    """The answers to the deliveries of one round: asked for at once, awaited together.

    :ivar began: when, by ``time.monotonic()``
    :ivar abandoned: acknowledgements can no longer arrive, so nothing is waited for
    """

    def __init__(self, deliveries: Mapping[str, events.Delivery]) -> None:
        """:param deliveries: host to what it was sent"""
        self.began = time.monotonic()
        self.abandoned = False
        # Let go of when nothing is missing any more: an event of threading's takes
        # four times as long to wait for.
        self._settled = threading.Lock()
        self._settled.acquire()
        # Guards what follows.
        self._lock = threading.Lock()
        self._missing = {
            (host, event.id) for host, delivery in deliveries.items() for event in delivery.events
        }
        self._answers: answers.Answers = {}
        # Hosts that were not waited for to the end.
        self._failed: frozenset[str] = frozenset()
        if not self._missing:
            self._settled.release()

    def acknowledge(self, host: str, results: Iterable[events.Result]) -> None:
        """Take a host's word on some events; a second word on the same event is ignored."""
        said: answers.Answers = {}
        now = time.monotonic()
        for result in results:
            answer = answers.Answer(result.verdict, result.reason, at=now, handling=result.handling)
            said.setdefault((host, result.event_id), answer)
        self._settle(said)

    def fail(self, host: str, reason: str, *, asked: bool = True) -> None:
        """Wait no longer for a host.

        :param asked: false if the broker did not take the message, see ``answers.Answer``
        """
        self.fail_hosts({host}, reason, asked=asked)

    def fail_hosts(self, hosts: Collection[str], reason: str, *, asked: bool = True) -> None:
        """Wait no longer for some hosts; see :meth:`fail`."""
        with self._lock:
            unheard = [key for key in self._missing if key[0] in hosts]
            self._failed |= {host for host, _event_id in unheard}
        self._settle(dict.fromkeys(unheard, answers.Answer(None, reason, asked)))

    def misses(self, host: str) -> bool:
        """Whether something that was sent to a host is not answered yet."""
        with self._lock:
            return any(key[0] == host for key in self._missing)

    def cast_failed(self, host: str, error: exceptions.RouterError) -> None:
        """Wait no longer for a host, because the cast to it failed."""
        ours = (exceptions.BrokerUnavailable, exceptions.Unsendable)
        self.fail(host, str(error), asked=not isinstance(error, ours))

    def abandon(self, reason: str) -> None:
        """Stop waiting for all hosts, because missing acknowledgements cannot arrive."""
        self.abandoned = True
        with self._lock:
            unheard = list(self._missing)
            self._failed |= {host for host, _event_id in unheard}
        self._settle(dict.fromkeys(unheard, answers.Answer(None, reason, asked=False)))

    def wait(self, deadline: float) -> answers.Answers:
        """Return when every host has answered for every event, or at the deadline.

        :param deadline: an instant of ``time.monotonic()``
        :returns: what is known of each by then
        """
        if self._settled.acquire(timeout=max(0.0, deadline - time.monotonic())):
            self._settled.release()
        with self._lock:
            return {**self._answers, **dict.fromkeys(self._missing, answers.Answer(None, answers.NO_ACK))}

    def silent(self) -> frozenset[str]:
        """The hosts that have not acknowledged all of their events."""
        with self._lock:
            if not self._failed and not self._missing:
                return frozenset()
            return self._failed.union(host for host, _event_id in self._missing)

    def _settle(self, told: answers.Answers) -> None:
        with self._lock:
            waited = bool(self._missing)
            for key, answer in told.items():
                if key in self._missing:
                    self._missing.remove(key)
                    self._answers[key] = answer
            if waited and not self._missing:
                self._settled.release()


class Collector:
    """Brings acknowledgements to who waits for them. Thread-safe."""

    def __init__(
        self,
        *,
        late: Callable[[str], None] = lambda host: None,
        heard: Callable[[str, float], None] = lambda host, began: None,
    ) -> None:
        """:param late: called with the host of a delivery that is acknowledged after its round
        :param heard: called with the host of one that somebody waits for, and since when
        """
        self._late = late
        self._heard = heard
        # Guards both below. The table: delivery id to the host that has it and who
        # waits. _problem: why no acknowledgement can arrive, while none can.
        self._lock = threading.Lock()
        self._problem: str | None = None
        self._waiting: dict[str, tuple[str, AckRound]] = {}
        # Guarded, too: deliveries that were not acknowledged in time, and their hosts. Only
        # the host of one of these gives a sign of life when it acknowledges late.
        self._ended: collections.OrderedDict[str, str] = collections.OrderedDict()

    @contextlib.contextmanager
    def expect(self, deliveries: Mapping[str, events.Delivery]) -> Iterator[AckRound]:
        """Register deliveries, to be cast within the block; forget them after it.

        While no acknowledgement can arrive, what is yielded is abandoned already.

        :param deliveries: host to what it will be sent
        """
        waiting = AckRound(deliveries)
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
        self, delivery_id: str, results: Iterable[events.Result], *, sender: str | None = None
    ) -> None:
        """Take an acknowledgement from the wire.

        It counts for the host that the delivery was sent to. A late one has no effect on its
        events, but it shows that its host is there.

        :param sender: the host that it claims to come from; another one than the delivery's
            is refused. None: an agent of version 1.0, which does not say; only the id, which
            nobody can guess, shows that it had the delivery
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
        elif waiting is None:
            self._late(host)
        else:
            self._heard(host, waiting.began)
            waiting.acknowledge(host, results)
            if waiting.abandoned:
                self._late(host)

    def _remember(self, deliveries: Mapping[str, events.Delivery], silent: Iterable[str]) -> None:
        """Keep the deliveries that were not acknowledged, the newest :data:`MAX_ENDED`."""
        with self._lock:
            for host in silent:
                self._ended[deliveries[host].id] = host
            while len(self._ended) > MAX_ENDED:
                self._ended.popitem(last=False)
