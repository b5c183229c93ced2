"""All records of one server in one period, put together from a few reads.

The reads are in ``reads``; ``verdicts`` decides about the meaning of the records.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Iterator
from collections.abc import Sequence
import dataclasses
from typing import Protocol

from external_events_router.journal import reads
from external_events_router.journal import reasons
from external_events_router.journal import records
from external_events_router.journal import timeline

#: Maximum number of events of a server, of steps, and of refusals. The newest are read.
MAX_EVENTS = 500
MAX_STEPS = 2000
MAX_REFUSALS = 1000

#: Maximum number of shown refusals of requests whose servers are not all known. The newest are shown.
MAX_UNNAMED = 10

#: Microseconds at the end of a period that workers may not have written yet: the period then
#: ends where they have. A worker writes the end of a request up to ``[delivery] ack_timeout``
#: after its arrival.
NOT_YET = 90 * records.SECOND

#: Microseconds for which an API records nothing more about a sender after too many refusals.
LIMITED = 60 * records.SECOND

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
    :ivar name: the name of the events; None: any
    """

    server_uuid: str
    since: int
    until: int
    port: str | None = None
    name: str | None = None

    def matches(self, event: records.EventRow) -> bool:
        """Return whether an event of the server matches the question."""
        return reads.stored_tag(self.port) in (None, event.tag) and self.name in (None, event.name)


def history(
    reader: Reader,
    gaps: Gaps,
    question: Question,
    *,
    actions: Sequence[timeline.ServerAction] = (),
    warnings: Sequence[str] = (),
) -> timeline.History:
    """Read all records that concern a question.

    :param actions: the actions of the server, from Nova
    :param warnings: sentences about data that could not be read before
    :raises DatabaseUnavailable: the journal cannot be read
    """
    server = question.server_uuid
    until, missing = _without_the_last_moments(gaps(question.since, question.until), question)
    events = _events(reader, question)
    if not events:
        # NOTE: retention may have deleted events after the first question for gaps.
        until, missing = _without_the_last_moments(gaps(question.since, question.until), question, until)
        if until < question.until:
            seconds = (question.until - until) / records.SECOND
            warnings = (*warnings, f'Workers have not written the last {seconds:.0f} s of this period yet.')
    steps = _steps(reader, question) if events else []
    refusals = _refusals(reader, question)
    return timeline.History(
        server_uuid=server,
        since=question.since,
        until=until,
        port=question.port,
        name=question.name,
        events=tuple(events),
        others=tuple(_others(reader, question)),
        steps=tuple(_of_events(steps, {event.event_id for event in events})),
        refusals=tuple(_relevant(refusals, question, bool(events))),
        actions=tuple(actions),
        gaps=tuple(missing),
        warnings=(*warnings, *_limits(events, steps, refusals)),
        all_refusals=len(refusals) < MAX_REFUSALS,
    )


def _events(reader: Reader, question: Question) -> list[records.EventRow]:
    """Return the newest events that are asked for, in the order of their times."""
    chosen = reads.Selection(
        server_uuid=question.server_uuid,
        tag=question.port,
        names=None if question.name is None else frozenset({question.name}),
    )
    period = reads.Period(question.since, question.until, newest_first=True)
    return reader.events(chosen, period, limit=MAX_EVENTS)[::-1]


def _others(reader: Reader, question: Question) -> list[records.EventRow]:
    """Return the newest events of the server that are not asked for."""
    if question.port is None and question.name is None:
        return []
    period = reads.Period(question.since, question.until, newest_first=True)
    found = reader.events(reads.Selection(server_uuid=question.server_uuid), period, limit=MAX_EVENTS)
    return [event for event in found[::-1] if not question.matches(event)]


def _steps(reader: Reader, question: Question) -> list[records.StepRow]:
    """Return the newest steps of all events of the server."""
    # NOTE: a step may be later than the period in which its event arrived.
    period = reads.Period(question.since, max(reader.now(), question.until), newest_first=True)
    return reader.steps(reads.Selection(server_uuid=question.server_uuid), period, limit=MAX_STEPS)[::-1]


def _refusals(reader: Reader, question: Question) -> list[records.RefusalRow]:
    """Return the newest refusals of the period, and of the minute before it."""
    period = reads.Period(question.since - LIMITED, question.until, newest_first=True)
    return reader.refusals(period, limit=MAX_REFUSALS)[::-1]


def _limits(
    events: Sequence[records.EventRow],
    steps: Sequence[records.StepRow],
    refusals: Sequence[records.RefusalRow],
) -> Iterator[str]:
    """Describe the limits that the reads reached."""
    if len(events) == MAX_EVENTS:
        yield f'The server has more than {MAX_EVENTS} events in this period; only the newest are shown.'
    if len(steps) == MAX_STEPS:
        yield f'The events of the server have more than {MAX_STEPS} steps; only the newest were read.'
    if len(refusals) == MAX_REFUSALS:
        yield (
            f'More than {MAX_REFUSALS} requests were refused in this period; only the newest were read. '
            'Use a shorter period.'
        )


def _without_the_last_moments(
    gaps: Sequence[records.Gap], question: Question, most: int | None = None
) -> tuple[int, list[records.Gap]]:
    """End the period where all running workers have written their records, if that is just before its end.

    :param most: the latest end
    """
    earliest = max(question.until - NOT_YET, (question.since + question.until) // 2)
    last = [
        gap.from_at
        for gap in gaps
        if gap.reason is reasons.GapReason.NOT_WRITTEN_YET and gap.from_at >= earliest
    ]
    end = min([*last, question.until if most is None else most])
    return end, [gap for gap in gaps if gap.from_at < end]


def _of_events(steps: Sequence[records.StepRow], event_ids: Collection[str]) -> list[records.StepRow]:
    return [step for step in steps if step.event_id in event_ids]


def _relevant(
    refusals: Sequence[records.RefusalRow], question: Question, has_events: bool
) -> list[records.RefusalRow]:
    """Return refusals of requests that name the server, or may have named it."""
    within = [refusal for refusal in refusals if refusal.at >= question.since]
    naming = [refusal for refusal in within if refusal.is_about(question.server_uuid, question.name)]
    if has_events or naming:
        return naming
    # NOTE: a refusal before the period may state that further ones are not recorded.
    limited = [refusal for refusal in refusals if refusal.at < question.since and refusal.suppressed]
    return [*limited, *(refusal for refusal in within if not refusal.states_all_servers)][-MAX_UNNAMED:]
