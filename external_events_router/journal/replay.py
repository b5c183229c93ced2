"""Decides which recorded events an operator can send again, and in which batches.

Pure functions. An event keeps its id, so a running agent ignores it, and an agent that lost its
memory handles it.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
import dataclasses

from external_events_router import context
from external_events_router import events
from external_events_router.journal import records
from external_events_router.journal import states

#: Maximum number of events of one request to a resolver.
MAX_BATCH = 100


@dataclasses.dataclass(frozen=True, slots=True)
class Selected:
    """Recorded events, each once, in the order in which they arrived.

    :ivar due: can be sent again
    :ivar late: past their deadline
    :ivar held: the router tries to deliver them
    """

    due: tuple[records.EventRow, ...] = ()
    late: tuple[records.EventRow, ...] = ()
    held: tuple[records.EventRow, ...] = ()

    def counts(self) -> list[tuple[str, int, int, int]]:
        """For each name: the number of events that are due, late, and held."""
        groups = (self.due, self.late, self.held)
        names = sorted({event.name for group in groups for event in group})
        return [
            (name, *(sum(event.name == name for event in group) for group in groups))  # type: ignore[misc]
            for name in names
        ]


def select(
    found: Iterable[tuple[records.EventRow, states.State]],
    *,
    now: int,
    since: int,
    lifetime: Callable[[events.Event], float],
) -> Selected:
    """Sort recorded events by whether they can be sent again.

    The deadline of an event counts from its first arrival, also if the sender or an operator sent it
    again.

    :param found: events in the order in which they arrived, from the longest lifetime before ``since``
    :param now: microseconds since the epoch
    :param since: select events that a sender posted after this time, microseconds since the epoch
    :param lifetime: seconds for which an event is useful, from its arrival
    """
    first: dict[str, records.EventRow] = {}
    chosen, are_held = set(), set()
    for event, state in found:
        if state is states.State.HELD:
            are_held.add(event.event_id)
        if not event.replayed:
            first.setdefault(event.event_id, event)
            if event.received_at >= since:
                chosen.add(event.event_id)
    due: list[records.EventRow] = []
    late: list[records.EventRow] = []
    held: list[records.EventRow] = []
    for event_id, event in first.items():
        if event_id in chosen:
            is_due = now < deadline(event, lifetime)
            group = held if event_id in are_held else due if is_due else late
            group.append(event)
    return Selected(tuple(due), tuple(late), tuple(held))


def deadline(row: records.EventRow, lifetime: Callable[[events.Event], float]) -> int:
    """Return the time from which an event is too late, microseconds since the epoch.

    :param row: the first arrival of the event
    """
    return row.received_at + round(lifetime(event_of(row)) * records.SECOND)


def batches(
    chosen: Iterable[records.EventRow],
) -> Iterator[tuple[context.RequestContext, list[events.Event]]]:
    """Return the events in their order, those of one request together, with the context of the request."""
    batch: list[events.Event] = []
    request: records.RequestRow | None = None
    for event in chosen:
        if batch and (event.request != request or len(batch) == MAX_BATCH):
            yield _context(request), batch
            batch = []
        request = event.request
        batch.append(event_of(event))
    if batch:
        yield _context(request), batch


def event_of(row: records.EventRow) -> events.Event:
    """Return the event as it was posted."""
    return events.Event(row.name, row.server_uuid, row.tag, row.status, row.event_id)


def _context(request: records.RequestRow | None) -> context.RequestContext:
    if request is None:
        return context.for_service()
    return context.RequestContext(
        request_id=request.request_id,
        global_request_id=request.global_request_id,
        user_id=request.user_id,
        project_id=request.project_id,
        overwrite=False,
    )
