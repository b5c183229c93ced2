"""All records of one server in one period, put together from a few reads.

The reads are in ``reads``; ``verdicts`` decides about the meaning of the records.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Sequence
import dataclasses
from typing import Protocol

from external_events_router.journal import reads
from external_events_router.journal import reasons
from external_events_router.journal import records
from external_events_router.journal import timeline

#: Events of a server, steps, and refusals that are read at most, the newest ones.
MAX_EVENTS = 500
MAX_STEPS = 2000
MAX_REFUSALS = 1000

#: Refusals of requests whose servers are not known that are shown at most, the newest ones.
MAX_UNNAMED = 10

#: Microseconds at the end of a period that workers may not have written yet: the period then
#: ends where they have. A worker writes the end of a request up to ``[delivery] ack_timeout``
#: after its arrival.
NOT_YET = 90 * records.SECOND

#: Refusals before the body of the request was read, so that its servers are not known.
_UNREAD = frozenset(
    {
        reasons.Refusal.NOT_AUTHENTICATED,
        reasons.Refusal.NOT_PERMITTED,
        reasons.Refusal.TOO_LARGE,
        reasons.Refusal.OVERLOADED,
        reasons.Refusal.KEYSTONE_UNAVAILABLE,
    }
)

#: Returns the parts of a period for which records may be missing.
Gaps = Callable[[int, int], Sequence[records.Gap]]


class Reader(Protocol):
    """The part of ``reads.Reader`` that is used here."""

    def now(self) -> int: ...

    def events(
        self, selection: reads.Selection, period: reads.Period, *, limit: int = ...
    ) -> list[records.EventRow]: ...

    def steps(
        self, selection: reads.Selection, period: reads.Period, *, limit: int = ...
    ) -> list[records.StepRow]: ...

    def refusals(
        self, period: reads.Period, *, request_id: str | None = ..., limit: int = ...
    ) -> list[records.RefusalRow]: ...


@dataclasses.dataclass(frozen=True, slots=True)
class Question:
    """A question about a server.

    :ivar since: microseconds since the epoch by the clock of the database; likewise ``until``
    :ivar port: the tag of the events; None: any
    :ivar name: of the events; None: any
    """

    server_uuid: str
    since: int
    until: int
    port: str | None = None
    name: str | None = None

    def meant(self, event: records.EventRow) -> bool:
        """Whether an event of the server is one of those asked for."""
        return self.port in (None, event.tag) and self.name in (None, event.name)


def history(
    reader: Reader,
    gaps: Gaps,
    question: Question,
    *,
    actions: Sequence[timeline.ServerAction] = (),
    warnings: Sequence[str] = (),
) -> timeline.History:
    """Read all records that concern a question.

    :param actions: of the server, from Nova
    :param warnings: what could not be read before, in words
    :raises DatabaseUnavailable: the journal cannot be read
    """
    server = question.server_uuid
    until, missing = _without_the_last_moments(gaps(question.since, question.until), question)
    period = reads.Period(question.since, question.until, newest_first=True)
    events = reader.events(reads.Selection(server_uuid=server), period, limit=MAX_EVENTS)[::-1]
    meant = tuple(event for event in events if question.meant(event))
    # NOTE: a step may be later than the period in which its event arrived.
    of_server = reads.Period(question.since, max(reader.now(), question.until), newest_first=True)
    steps = (
        reader.steps(reads.Selection(server_uuid=server), of_server, limit=MAX_STEPS)[::-1] if meant else []
    )
    notes = list(warnings)
    if len(events) == MAX_EVENTS:
        notes.append(
            f'The server has more than {MAX_EVENTS} events in this period; only the newest are shown.'
        )
    return timeline.History(
        server_uuid=server,
        since=question.since,
        until=until,
        port=question.port,
        name=question.name,
        events=meant,
        others=tuple(event for event in events if not question.meant(event)),
        steps=tuple(_of_events(steps, {event.event_id for event in meant})),
        refusals=tuple(_relevant(reader.refusals(period, limit=MAX_REFUSALS)[::-1], question, bool(meant))),
        actions=tuple(actions),
        gaps=tuple(missing),
        warnings=tuple(notes),
    )


def _without_the_last_moments(
    gaps: Sequence[records.Gap], question: Question
) -> tuple[int, list[records.Gap]]:
    """End the period where all running workers have written their records, if that is just before its end."""
    earliest = max(question.until - NOT_YET, (question.since + question.until) // 2)
    last = [
        gap.from_at
        for gap in gaps
        if gap.reason is reasons.GapReason.NOT_WRITTEN_YET and gap.from_at >= earliest
    ]
    end = min(last, default=question.until)
    return end, [gap for gap in gaps if gap.from_at < end]


def _of_events(steps: Sequence[records.StepRow], event_ids: Collection[str]) -> list[records.StepRow]:
    return [step for step in steps if step.event_id in event_ids]


def _relevant(
    refusals: Sequence[records.RefusalRow], question: Question, has_events: bool
) -> list[records.RefusalRow]:
    """Refusals of requests that name the server, or may have named it."""
    naming = [refusal for refusal in refusals if _names(refusal, question)]
    if has_events or naming:
        return naming
    return [refusal for refusal in refusals if refusal.reason in _UNREAD and not refusal.servers][
        -MAX_UNNAMED:
    ]


def _names(refusal: records.RefusalRow, question: Question) -> bool:
    named = question.server_uuid in refusal.servers
    return named and (question.name is None or not refusal.names or question.name in refusal.names)
