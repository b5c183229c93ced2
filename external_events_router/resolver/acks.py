"""Waiting for the acknowledgements of hosts.

A :class:`Collector` per resolver worker knows every delivery that is waited
for; the RPC server of the acknowledgement topic feeds it. Nothing is sent here
(see ``dispatch``) and nothing is decided (see ``plan``).
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
import contextlib
import threading
import time

from oslo_log import log

from external_events_router import events
from external_events_router.resolver import plan

LOG = log.getLogger(__name__)

#: What each host said of each event that it was sent: host and event id to answer.
Answers = dict[tuple[str, str], plan.Answer]

#: Why a host has no answer, where nothing else is known.
NO_ACK = 'no acknowledgement in time'


class Waiting:
    """The answers to the deliveries of one round: asked for at once, awaited together.

    :ivar began: when, by ``time.monotonic()``
    """

    def __init__(self, deliveries: Mapping[str, events.Delivery]) -> None:
        """:param deliveries: host to what it was sent"""
        self.began = time.monotonic()
        # Let go of when nothing is missing any more: an event of threading's takes
        # four times as long to wait for.
        self._settled = threading.Lock()
        self._settled.acquire()
        # Guards what follows.
        self._lock = threading.Lock()
        self._missing = {
            (host, event.id) for host, delivery in deliveries.items() for event in delivery.events
        }
        self._answers: Answers = {}
        if not self._missing:
            self._settled.release()

    def acknowledge(self, host: str, results: Iterable[events.Result]) -> None:
        """Take a host's word on some events; a second word on the same event is ignored."""
        said: Answers = {}
        for result in results:
            said.setdefault((host, result.event_id), plan.Answer(result.verdict, result.reason))
        self._settle(said)

    def fail(self, host: str, reason: str) -> None:
        """Wait no longer for a host that could not be asked."""
        with self._lock:
            unheard = [key for key in self._missing if key[0] == host]
        self._settle(dict.fromkeys(unheard, plan.Answer(None, reason)))

    def wait(self, deadline: float) -> Answers:
        """Return when every host has answered for every event, or at the deadline.

        :param deadline: an instant of ``time.monotonic()``
        :returns: what is known of each by then
        """
        if self._settled.acquire(timeout=max(0.0, deadline - time.monotonic())):
            self._settled.release()
        with self._lock:
            return {**self._answers, **dict.fromkeys(self._missing, plan.Answer(None, NO_ACK))}

    def _settle(self, answers: Answers) -> None:
        with self._lock:
            waited = bool(self._missing)
            for key, answer in answers.items():
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
        """:param late: called with the host of an acknowledgement that nobody waits for
        :param heard: called with the host of one that somebody waits for, and since when
        """
        self._late = late
        self._heard = heard
        # Guards the table: delivery id to the host that has it and who waits.
        self._lock = threading.Lock()
        self._waiting: dict[str, tuple[str, Waiting]] = {}

    @contextlib.contextmanager
    def expect(self, deliveries: Mapping[str, events.Delivery]) -> Iterator[Waiting]:
        """Register deliveries, to be cast within the block; forget them after it.

        :param deliveries: host to what it will be sent
        """
        waiting = Waiting(deliveries)
        with self._lock:
            for host, delivery in deliveries.items():
                self._waiting[delivery.id] = (host, waiting)
        try:
            yield waiting
        finally:
            with self._lock:
                for delivery in deliveries.values():
                    del self._waiting[delivery.id]

    def acknowledge(
        self, delivery_id: str, results: Iterable[events.Result], *, sender: str | None = None
    ) -> None:
        """Take an acknowledgement from the wire.

        One that nobody waits for is dropped, but it shows that its host is there.

        :param sender: the host, where it says so
        """
        with self._lock:
            host, waiting = self._waiting.get(delivery_id, (None, None))
        if host is None or waiting is None:
            # Ordinary: late, or meant for a worker of this name that is no more.
            LOG.debug('Nobody waits for delivery %s; its acknowledgement is dropped', delivery_id)
            if sender is not None:
                self._late(sender)
            return
        self._heard(host, waiting.began)
        waiting.acknowledge(host, results)
