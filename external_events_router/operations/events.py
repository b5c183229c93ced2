"""Events of the journal: filters, lists in pages, the history of one event, and new events."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
import dataclasses
import itertools
import time
from typing import Any

from external_events_router import checks
from external_events_router import events
from external_events_router import exceptions
from external_events_router.journal import completeness
from external_events_router.journal import explain
from external_events_router.journal import reads
from external_events_router.journal import records
from external_events_router.journal import states
from external_events_router.journal import timeline
from external_events_router.operations import journal
from external_events_router.operations import times
from external_events_router.resolver.host_map import base

#: Default period of a list.
SINCE = '1h'

#: Events that are read at a time, and steps of one event.
PAGE = 500
STEPS = 1000

#: Seconds between two reads of ``follow``, and how far back it reads at least and at most: to the time
#: until which all workers have written their rows.
POLL = 1.0
OVERLAP = 15.0
LONGEST_OVERLAP = 600.0

#: Maximum number of rows of one read of ``follow``, and of one page of a list.
BURST = 20_000
MOST_READ = 5000

#: Maximum age, in microseconds, of events that ``wait_for_new`` returns.
LONGEST_FOLLOW = 3600 * records.SECOND

#: An event and its state.
Found = tuple[records.EventRow, states.State]


@dataclasses.dataclass(frozen=True, slots=True)
class Filter:
    """Which events: those for which everything that is set holds. The names are those of all clients.

    :ivar port: the tag of the event, for network events the port
    :ivar request: the id of the request, of the sender or of the router
    :ivar sender: the id of the user
    :ivar host: the server was on this host
    """

    server: str | None = None
    port: str | None = None
    request: str | None = None
    sender: str | None = None
    host: str | None = None
    code: frozenset[int] = frozenset()
    name: frozenset[str] = frozenset()
    state: states.State | None = None

    def selection(self) -> reads.Selection:
        """Return the filter for the reader.

        :raises InvalidArgument: a value is not valid
        """
        unknown = self.name - events.EVENT_TYPES.keys()
        if unknown:
            raise exceptions.InvalidArgument(
                f'no event has the name {min(unknown)!r}; the names are {", ".join(events.EVENT_TYPES)}'
            )
        return reads.Selection(
            server_uuid=None if self.server is None else base.server_uuid(self.server),
            host=self.host,
            tag=self.port,
            request_id=self.request,
            user_id=self.sender,
            codes=self.code or None,
            names=self.name or None,
        )

    def matches(self, reader: reads.Reader) -> Matches:
        """Return the events that match.

        :raises InvalidArgument: a value is not valid
        """
        return Matches(reader, self.selection(), self.state)


class Matches:
    """The events that some filters select, with their states."""

    def __init__(
        self, reader: reads.Reader, selection: reads.Selection, state: states.State | None = None
    ) -> None:
        """:param state: only events in this state"""
        self.reader = reader
        self._state = state
        chosen = None if state is None else states.REASONS[state]
        self._selection = dataclasses.replace(selection, reasons=chosen)

    def of(self, period: reads.Period, *, page: int = PAGE, most: int | None = None) -> Iterator[Found]:
        """Return the events of a period, in its order.

        :param page: events that are read at a time
        :param most: events at most; None: all
        """
        return itertools.islice(self._of(period, page), most)

    def page(
        self, period: reads.Period, *, limit: int, most_read: int = MOST_READ
    ) -> tuple[list[Found], reads.Key | None]:
        """Return some events of a period, in its order.

        :param limit: number of events at most
        :param most_read: rows that are read at most, because a filter on the state reads many rows that do
            not match; then the page has fewer events
        :returns: the events, and the position after which the next page begins; None: this is the last page
        """
        found: list[Found] = []
        read = 0
        while read < most_read:
            size = min(PAGE, limit + 1, most_read - read)
            rows = self.reader.events(self._selection, period, limit=size)
            for event in rows:
                state = self.state_of(event)
                if self._state in (None, state):
                    if len(found) == limit:
                        return found, key(found[-1][0])
                    found.append((event, state))
            if len(rows) < size:
                return found, None
            read += len(rows)
            period = dataclasses.replace(period, after=key(rows[-1]))
        return found, period.after

    def _of(self, period: reads.Period, page: int) -> Iterator[Found]:
        while True:
            found = self.reader.events(self._selection, period, limit=page)
            for event in found:
                state = self.state_of(event)
                if self._state in (None, state):
                    yield event, state
            if len(found) < page:
                return
            period = reads.Period(period.since, period.until, key(found[-1]), period.newest_first)

    def state_of(self, event: records.EventRow) -> states.State:
        """Return the state of an event now."""
        state = states.state(event, ())
        if state is not states.State.HELD:
            return state
        later = reads.Period(event.received_at, self.reader.now(), newest_first=True)
        # NOTE: without attempts, of which an event can have hundreds, the newest step decides.
        deciding = reads.Selection(event_id=event.event_id, kinds=states.DECIDING)
        return states.state(event, self.reader.steps(deciding, later, limit=1))


def history(
    rows: journal.Journal, event_id: str, *, keep: float
) -> tuple[list[records.EventRow], list[timeline.Entry]]:
    """Return each time that an event was posted, and everything that happened to it.

    :param keep: seconds before now that are searched
    :raises NoSuchEvent: the journal does not contain the event
    :raises DatabaseUnavailable: the journal cannot be read
    """
    now = rows.reader.now()
    period = reads.Period(max(0, now - times.microseconds(keep)), now)
    chosen = reads.Selection(event_id=event_id)
    posted = rows.reader.events(chosen, period)
    if not posted:
        raise exceptions.NoSuchEvent(event_id=event_id)
    steps = _steps(rows.reader, chosen, period)
    found = timeline.History(
        posted[0].server_uuid, period.since, now, events=tuple(posted), steps=tuple(steps)
    )
    return posted, timeline.build(found)


def _steps(
    reader: reads.Reader, selection: reads.Selection, period: reads.Period
) -> Iterator[records.StepRow]:
    """Yield all steps of an event."""
    while True:
        found = reader.steps(selection, period, limit=STEPS)
        yield from found
        if len(found) < STEPS:
            return
        period = dataclasses.replace(period, after=(found[-1].at, found[-1].worker, found[-1].seq))


def follow(
    matches: Matches,
    since: int,
    end: float | None,
    *,
    written_until: Callable[[], int | None] = lambda: None,
) -> Iterator[Found]:
    """Yield new events as they are written, each once.

    :param since: microseconds since the epoch
    :param end: an instant of ``time.monotonic()``; None: never
    :param written_until: returns until when all workers have written their rows; None: no worker runs
    """
    seen: dict[reads.Key, None] = {}
    while True:
        now = matches.reader.now()
        again = now - times.microseconds(OVERLAP)
        if (written := written_until()) is not None:
            again = max(now - times.microseconds(LONGEST_OVERLAP), min(again, written))
        for event, state in matches.of(reads.Period(since, now), page=BURST):
            if key(event) not in seen:
                if event.received_at >= again:
                    seen[key(event)] = None
                yield event, state
        # NOTE: workers write their rows at different times, so the last seconds are read again.
        since = max(since, again)
        seen = {each: None for each in seen if each[0] >= since}
        left = POLL if end is None else min(POLL, end - time.monotonic())
        if left <= 0:
            return
        time.sleep(left)


def wait_for_new(
    rows: journal.Journal, matches: Matches, after: reads.Key | None, *, limit: int, end: float
) -> tuple[list[Found], reads.Key]:
    """Wait until new events match, and return each of them once, in the order of their arrival.

    An event is returned when all running workers have written the records up to its arrival, or after
    :data:`OVERLAP` seconds.

    :param after: position of the previous call; None: begin now, and return no events
    :param limit: number of events at most
    :param end: an instant of ``time.monotonic()`` at which to return without events
    :returns: the events, and the position for the next call
    """
    while True:
        horizon = _written_until(rows)
        if after is None:
            return [], (horizon, 0, 0)
        since = max(after[0], rows.reader.now() - LONGEST_FOLLOW)
        found, next_after = matches.page(reads.Period(since, horizon - 1, after), limit=limit)
        # NOTE: all events before the horizon are known, and no worker has the number 0.
        reached = next_after or max(after, (horizon, 0, 0))
        left = end - time.monotonic()
        if found or left <= 0:
            return found, reached
        after = reached
        if next_after is None:
            time.sleep(min(POLL, left))


def instant(seconds: float) -> float:
    """Return the instant of ``time.monotonic()`` after so many seconds."""
    return time.monotonic() + seconds


def _written_until(rows: journal.Journal) -> int:
    """Return the time before which all running workers have written their records, in microseconds."""
    now = rows.reader.now()
    earliest = now - times.microseconds(OVERLAP)
    running = [
        worker.written_until
        for worker in completeness.workers(rows.database, earliest, now)
        if worker.stopped_at is None and worker.record != 'none'
    ]
    return max(earliest, min([now, *running]))


def key(event: records.EventRow) -> reads.Key:
    """Return the position of an event in a list."""
    return event.received_at, event.worker, event.seq


def marker(event: records.EventRow) -> str:
    """Return the text that continues a list after an event."""
    return '-'.join(map(str, key(event)))


def parse_marker(text: str) -> reads.Key:
    """Return the position of a marker.

    :raises InvalidArgument: the text is not a marker
    """
    parts = text.split('-')
    if len(parts) != 3 or not all(part.isascii() and part.isdigit() and len(part) < 19 for part in parts):
        raise exceptions.InvalidArgument(f'{checks.shown(text)} is not a marker of a list of events')
    at, worker, seq = map(int, parts)
    return at, worker, seq


def document(event: records.EventRow, state: states.State) -> dict[str, Any]:
    """Return an event as plain data; the time is ISO 8601 in UTC."""
    request = event.request
    return {
        'time': timeline.utc(event.received_at),
        'event': event.event_id,
        'name': event.name,
        'tag': event.tag,
        'server': event.server_uuid,
        'code': event.code,
        'state': str(state),
        'hosts': list(event.hosts),
        'status': event.status,
        'reason': str(event.reason),
        'detail': event.detail,
        'ack_ms': event.ack_ms,
        'sender': request.user_id if request else None,
        'project': request.project_id if request else None,
        'request': request.request_id if request else None,
        'sender_request': request.global_request_id if request else None,
        'replayed': event.replayed,
        'marker': marker(event),
    }


def entries(history: Sequence[timeline.Entry]) -> list[dict[str, Any]]:
    """Return the entries of the history of an event as plain data."""
    return [
        {
            'seconds': explain.relative(entry.at, history[0].at),
            'time': timeline.utc(entry.at),
            'kind': str(entry.kind),
            'host': entry.host,
            'what_happened': entry.text,
        }
        for entry in history
    ]
