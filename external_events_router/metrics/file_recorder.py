"""The recorder that writes to the files of the process."""

from __future__ import annotations

import collections
from collections.abc import Collection
from collections.abc import Hashable
from collections.abc import Iterable
from collections.abc import Mapping
import threading
import time
import weakref

from external_events_router import events
from external_events_router.metrics import catalogue
from external_events_router.metrics import recorder
from external_events_router.metrics import senders
from external_events_router.metrics import values

#: Verdict of an answer to the value of the label ``result``.
_RESULTS = {
    events.Verdict.HANDLED: 'handled',
    events.Verdict.NOT_HERE: 'not_here',
    events.Verdict.REFUSED: 'refused',
}


class FileRecorder(recorder.Recorder):
    """Counts in :class:`values.Values`; each call takes its lock at most twice, for a batch of any size."""

    is_counting = True

    def __init__(self, stored: values.Values, sender_names: senders.Senders) -> None:
        self._stored = stored
        self._senders = sender_names
        # Guards both sets: connections that are lost, and connections that the broker blocks.
        self._lock = threading.Lock()
        self._lost: weakref.WeakSet[Hashable] = weakref.WeakSet()
        self._blocked: weakref.WeakSet[Hashable] = weakref.WeakSet()
        stored.set(catalogue.BROKER_UP, 1.0)

    def close(self) -> None:
        """Close the files; later calls have no effect."""
        self._stored.close()

    def request_ended(self, status: str) -> None:
        number = status[:3] if status[:3] in catalogue.STATUSES else catalogue.OTHER
        self._stored.add([(catalogue.REQUESTS, (number,), 1.0)])

    def batch_answered(
        self, outcomes: Collection[events.Outcome], *, user: str | None, seconds: float
    ) -> None:
        codes = collections.Counter((outcome.event.name, outcome.code) for outcome in outcomes)
        sending = {self._senders.sender_of(name, user) for name in {name for name, _code in codes}}
        changes: list[values.Change] = [
            (catalogue.EVENTS, (name, str(int(code))), float(number))
            for (name, code), number in codes.items()
        ]
        changes += [(catalogue.SENDER_POSTS, (sender,), 1.0) for sender in sending]
        self._stored.add(changes)
        self._stored.observe(catalogue.REQUEST_SECONDS, seconds)
        for sender in sending:
            self._stored.set(catalogue.SENDER_LAST_POST, time.time(), sender)

    def batch_routed(self, outcomes: Collection[events.Outcome], *, seconds: float) -> None:
        # NOTE: the resolver gives a reason with code 200 only for held events.
        delivered = sum(
            outcome.code is events.Code.DELIVERED and outcome.reason is None for outcome in outcomes
        )
        if delivered:
            self._stored.observe(catalogue.DELIVERY_SECONDS, seconds, recorder.DIRECT, number=delivered)

    def hosts_answered(self, answers: Collection[recorder.Answer], *, path: str, seconds: float) -> None:
        if not answers:
            return
        counts = collections.Counter(map(_result, answers))
        self._stored.add(
            (catalogue.DELIVERIES, (path, result), float(number)) for result, number in counts.items()
        )
        self._stored.observe(catalogue.ACK_SECONDS, seconds, path)

    def looked_up(self, result: str, seconds: float) -> None:
        self._stored.add([(catalogue.LOOKUPS_DONE, (result,), 1.0)])
        self._stored.observe(catalogue.LOOKUP_SECONDS, seconds)

    def held(self, number: int, *, stored: bool) -> None:
        self._stored.add([(catalogue.HOLDS_DONE, ('held' if stored else 'failed',), float(number))])

    def redelivered(self, ages: Iterable[float]) -> None:
        seconds = list(ages)
        self._stored.add([(catalogue.ENDED, ('delivered',), float(len(seconds)))])
        self._stored.observe_all(catalogue.DELIVERY_SECONDS, seconds, recorder.HELD)

    def ended(self, states: Iterable[str]) -> None:
        counts = collections.Counter(states)
        self._stored.add((catalogue.ENDED, (state,), float(number)) for state, number in counts.items())

    def breakers_changed(self, *, opened: int = 0, closed: int = 0) -> None:
        self._stored.add(
            [
                (catalogue.BREAKER_CHANGES, ('opened',), float(opened)),
                (catalogue.BREAKER_CHANGES, ('closed',), float(closed)),
            ]
        )

    def hosts_counted(self, *, open_breakers: int, known: int) -> None:
        self._stored.set(catalogue.BREAKERS_OPEN, float(open_breakers))
        self._stored.set(catalogue.HOSTS_KNOWN, float(known))

    def broker_lost(self, connections: Hashable, present: bool) -> None:
        with self._lock:
            first = present and not self._lost
            (self._lost.add if present else self._lost.discard)(connections)
            self._stored.set(catalogue.BROKER_UP, float(not self._lost))
        if first:
            self._stored.add([(catalogue.BROKER_LOSSES, (), 1.0)])

    def broker_blocked(self, connections: Hashable, present: bool) -> None:
        with self._lock:
            (self._blocked.add if present else self._blocked.discard)(connections)
            self._stored.set(catalogue.BROKER_BLOCKED, float(bool(self._blocked)))

    def journal_written(self, rows: int) -> None:
        self._stored.add([(catalogue.JOURNAL_ROWS, (), float(rows))])

    def journal_dropped(self, rows: int) -> None:
        self._stored.add([(catalogue.JOURNAL_DROPPED, (), float(rows))])

    def rejected(self, kind: str) -> None:
        known = kind if kind in catalogue.REJECTED else catalogue.OTHER
        self._stored.add([(catalogue.REJECTED_ITEMS, (known,), 1.0)])

    def agent_delivery_ended(self, results: Mapping[str, int], *, seconds: float) -> None:
        self._stored.add(
            (catalogue.AGENT_EVENTS, (result.replace('-', '_').replace(' ', '_'),), float(number))
            for result, number in results.items()
        )
        self._stored.observe(catalogue.AGENT_SECONDS, seconds)

    def agent_reported(self, *, accepted: bool) -> None:
        self._stored.add([(catalogue.AGENT_REPORTS, ('accepted' if accepted else 'failed',), 1.0)])


def _result(answer: recorder.Answer) -> str:
    if answer.verdict is not None:
        return _RESULTS[answer.verdict]
    return 'no_answer' if answer.asked else 'not_sent'
