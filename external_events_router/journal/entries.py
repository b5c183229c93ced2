"""Entries that the services pass to the journal, and their conversion to rows.

The entries refer to objects of the request, which do not change afterwards: making an entry
costs a request less than a microsecond. The rows are made on the thread of the writer.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import json
import time
from typing import Any
from typing import Protocol

from external_events_router import checks
from external_events_router import context
from external_events_router import events
from external_events_router.db import models
from external_events_router.journal import reasons
from external_events_router.journal import records

#: Columns of the tables in the order of the values of their rows.
COLUMNS: Mapping[str, tuple[str, ...]] = {
    table.__tablename__: tuple(table.__table__.columns.keys())
    for table in (
        models.JournalRequest,
        models.JournalEvent,
        models.JournalEventHost,
        models.JournalStep,
        models.JournalRefusal,
    )
}

#: Table and values of a row.
Row = tuple[str, tuple[Any, ...]]

#: From an instant of ``time.monotonic()`` to microseconds of the database.
Clock = Callable[[float], int]


class Answer(Protocol):
    """The answer of a host for an event: ``answers.Answer`` of the resolver.

    :ivar at: the instant of the answer, of ``time.monotonic()``; None: the host did not answer
    :ivar handling: see ``records.Handling``
    """

    @property
    def at(self) -> float | None: ...

    @property
    def handling(self) -> records.Handling | None: ...


#: Why an event has its code: called with its outcome and the answers of its hosts.
Classify = Callable[[events.Outcome, Mapping[str, Any]], reasons.Reason]


class Entry(Protocol):
    """Records that are written together.

    :ivar seq: the number of the first record; the next records have the next numbers
    :ivar size: number of records
    :ivar since: when the first of them happened, an instant of ``time.monotonic()``
    :ivar until: when the entry was made
    """

    @property
    def size(self) -> int: ...

    @property
    def since(self) -> float: ...

    @property
    def until(self) -> float: ...

    def rows(self, clock: Clock, worker: int, seq: int) -> Iterator[Row]:
        """Return the rows.

        :param worker: number of the incarnation of the worker
        :param seq: number of the first record
        """
        ...


# NOTE: not frozen, which would take several times as long to make. Do not change an object.
@dataclasses.dataclass(slots=True)
class Batch:
    """A batch that was answered.

    :ivar answers: the answers, by host and id of the event
    :ivar classify: states the reason of an outcome
    :ivar problems_only: leave out events that were simply delivered
    """

    ctxt: context.RequestContext
    since: float
    until: float
    outcomes: Sequence[events.Outcome]
    answers: Mapping[tuple[str, str], Answer]
    classify: Classify
    problems_only: bool = False
    replayed: bool = False

    @property
    def size(self) -> int:
        # NOTE: a batch without events has a row, too, which needs a number.
        return max(1, len(self.outcomes))

    def rows(self, clock: Clock, worker: int, seq: int) -> Iterator[Row]:
        """See :class:`Entry`."""
        at = clock(self.since)
        hour, ctxt = at // records.HOUR, self.ctxt
        yield (
            models.JournalRequest.__tablename__,
            (
                at,
                worker,
                seq,
                hour,
                len(self.outcomes),
                _id(ctxt.request_id),
                _id(ctxt.global_request_id),
                _id(ctxt.user_id),
                _id(ctxt.project_id),
                _milliseconds(self.until - self.since),
            ),
        )
        by_event: dict[str, dict[str, Answer]] = {}
        for (host, event_id), answer in self.answers.items():
            by_event.setdefault(event_id, {})[host] = answer
        for position, outcome in enumerate(self.outcomes):
            by_host = by_event.get(outcome.event.id, {})
            reason = self.classify(outcome, by_host)
            if self.problems_only and reason in reasons.ORDINARY:
                continue
            yield from self._event(outcome, by_host, reason, (at, worker, seq + position, hour))

    def _event(
        self,
        outcome: events.Outcome,
        by_host: Mapping[str, Answer],
        reason: reasons.Reason,
        key: tuple[int, int, int, int],
    ) -> Iterator[Row]:
        event, hosts = outcome.event, sorted(by_host)
        handling, answered = None, [answer.at for answer in by_host.values() if answer.at is not None]
        for answer in by_host.values():
            handling = handling if answer.handling is None else better(handling, answer.handling)
        is_complete = bool(by_host) and len(answered) == len(by_host)
        ack_ms = _milliseconds(max(answered) - self.since) if is_complete else None
        yield (
            models.JournalEvent.__tablename__,
            (
                *key,
                event.id,
                event.server_uuid,
                event.name,
                None if event.tag is None else checks.clean_text(event.tag, models.TAG_LENGTH),
                event.status,
                int(outcome.code),
                str(reason),
                _detail(outcome.reason),
                hosts[0] if hosts else None,
                json.dumps(hosts) if len(hosts) > 1 else None,
                ack_ms,
                *_handling(handling),
                int(self.replayed),
            ),
        )
        for host in hosts[1:]:
            yield models.JournalEventHost.__tablename__, (*key[:3], host, key[3])


@dataclasses.dataclass(slots=True)
class Step:
    """What happened to an event after its answer; see ``records.StepRow``."""

    event_id: str
    server_uuid: str
    kind: reasons.Step
    host: str | None = None
    detail: str | None = None
    attempt: int | None = None
    actor: str | None = None
    handling: records.Handling | None = None
    since: float = dataclasses.field(default_factory=time.monotonic)

    @property
    def size(self) -> int:
        return 1

    @property
    def until(self) -> float:
        return self.since

    def rows(self, clock: Clock, worker: int, seq: int) -> Iterator[Row]:
        """See :class:`Entry`."""
        at = clock(self.since)
        yield (
            models.JournalStep.__tablename__,
            (
                at,
                worker,
                seq,
                at // records.HOUR,
                self.event_id,
                self.server_uuid,
                str(self.kind),
                self.host,
                _detail(self.detail),
                self.attempt,
                None if self.actor is None else checks.clean_text(self.actor, models.WORKER_LENGTH),
                *_handling(self.handling),
            ),
        )


@dataclasses.dataclass(slots=True)
class Refusal:
    """A request that was refused; see ``records.RefusalRow``."""

    status: int
    reason: reasons.Refusal
    detail: str
    user_id: str | None = None
    user_name: str | None = None
    project_id: str | None = None
    address: str | None = None
    request_id: str | None = None
    global_request_id: str | None = None
    suppressed: int = 0
    servers: Sequence[str] = ()
    names: Sequence[str] = ()
    since: float = dataclasses.field(default_factory=time.monotonic)

    @property
    def size(self) -> int:
        return 1

    @property
    def until(self) -> float:
        return self.since

    def rows(self, clock: Clock, worker: int, seq: int) -> Iterator[Row]:
        """See :class:`Entry`."""
        at = clock(self.since)
        yield (
            models.JournalRefusal.__tablename__,
            (
                at,
                worker,
                seq,
                at // records.HOUR,
                self.status,
                str(self.reason),
                _detail(self.detail) or '',
                _id(self.user_id),
                _cut(self.user_name, models.DETAIL_LENGTH),
                _id(self.project_id),
                _id(self.address),
                _id(self.request_id),
                _id(self.global_request_id),
                self.suppressed,
                _named(self.servers),
                _named(self.names),
            ),
        )


@dataclasses.dataclass(frozen=True, slots=True)
class Presence:
    """An API process without a resolver of its own, and how far its refused requests were passed on.

    :ivar id: of the process, a negative number, so that no worker has it
    :ivar name: the next process at this place has the same name
    :ivar since: when it started, an instant of ``time.monotonic()``
    :ivar complete_until: all requests that it refused before this instant are in the journal, or a
        resolver has them, which is not complete until then either
    :ivar is_stopped: it refuses no more requests
    """

    id: int
    name: str
    host: str
    pid: int
    record: str
    since: float
    complete_until: float
    is_stopped: bool = False


def better(one: records.Handling | None, other: records.Handling) -> records.Handling:
    """Select one of two reports: prefer the one with a waiter, then the one with a handler."""
    if one is None or (not one.waiter and (other.waiter or one.handler is None)):
        return other
    return one


def _handling(handling: records.Handling | None) -> tuple[object, ...]:
    if handling is None:
        return (None, None, None, None)
    return (int(handling.waiter), handling.wait_ms, _id(handling.handler), handling.handler_ms)


def _milliseconds(seconds: float) -> int:
    return max(0, round(seconds * 1000))


def _id(text: str | None) -> str | None:
    return _cut(text, models.ID_LENGTH)


def _detail(text: str | None) -> str | None:
    return _cut(text, models.DETAIL_LENGTH)


def _cut(text: str | None, length: int) -> str | None:
    return None if text is None else checks.clean_text(text, length)


def _named(texts: Sequence[str]) -> str | None:
    return json.dumps([checks.clean_text(text, 64) for text in texts[: records.MAX_NAMED]]) if texts else None
