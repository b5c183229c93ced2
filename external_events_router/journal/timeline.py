"""The ordered list of all records of a server in a period.

Pure functions: ``history`` is read elsewhere, and ``verdicts`` judges it.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
import dataclasses
import datetime
import enum
import types

from external_events_router.journal import reasons
from external_events_router.journal import records

#: Microseconds of a millisecond.
MILLISECOND = 1000


@dataclasses.dataclass(frozen=True, slots=True)
class ServerAction:
    """An action of a user or of Nova on the server: a boot, a migration, a resize.

    All times are microseconds since the epoch.

    :ivar started_at: when Nova's API began
    :ivar wait_started_at: when the compute host began, which waits for events; None: not known
    :ivar finished_at: None: it runs, or Nova did not record its end
    :ivar error: None: it has not failed
    """

    name: str
    request_id: str
    started_at: int
    wait_started_at: int | None = None
    finished_at: int | None = None
    error: str | None = None
    host: str | None = None

    @property
    def waits_from(self) -> int:
        """The best known start of the wait."""
        return self.started_at if self.wait_started_at is None else self.wait_started_at


@dataclasses.dataclass(frozen=True, slots=True)
class History:
    """All records of one server in one period.

    :ivar since: microseconds since the epoch; likewise ``until``
    :ivar port: selects the events with this tag; None: all
    :ivar name: selects the events with this name; None: all
    :ivar events: the selected events, in the order of their times
    :ivar others: the other events of the server
    :ivar steps: the steps of ``events``
    :ivar refusals: requests that name the server, and requests whose servers are not all known
    :ivar actions: the actions of the server, from Nova
    :ivar gaps: periods for which records may be missing; empty: the record is complete
    :ivar warnings: sentences about data that could not be read
    :ivar all_refusals: whether all refused requests of the period were read
    """

    server_uuid: str
    since: int
    until: int
    port: str | None = None
    name: str | None = None
    events: tuple[records.EventRow, ...] = ()
    others: tuple[records.EventRow, ...] = ()
    steps: tuple[records.StepRow, ...] = ()
    refusals: tuple[records.RefusalRow, ...] = ()
    actions: tuple[ServerAction, ...] = ()
    gaps: tuple[records.Gap, ...] = ()
    warnings: tuple[str, ...] = ()
    all_refusals: bool = True

    def steps_of(self, event_id: str) -> list[records.StepRow]:
        """Return the later steps of one event, in the order of their times."""
        found = [step for step in self.steps if step.event_id == event_id]
        return sorted(found, key=lambda step: (step.at, step.worker, step.seq))


class Kind(enum.StrEnum):
    """The kind of an entry of the timeline."""

    ACTION = 'action'
    WAIT = 'wait'
    RECEIVED = 'received'
    ANSWERED = 'answered'
    ACKNOWLEDGED = 'acknowledged'
    STEP = 'step'
    REFUSED = 'refused'
    GAP = 'gap'


#: Why records of a period are missing, in words.
GAPS: Mapping[reasons.GapReason, str] = types.MappingProxyType(
    {
        reasons.GapReason.QUEUE_FULL: 'the database was too slow, and the queue of the writer was full',
        reasons.GapReason.DATABASE: 'the database did not accept the records',
        reasons.GapReason.KILLED: 'a worker was killed before it had written its records',
        reasons.GapReason.NOT_WRITTEN_YET: 'a worker has not written its latest records yet',
        reasons.GapReason.SILENT: 'a worker was killed, or it cannot reach the database of the journal',
        reasons.GapReason.NO_WORKER: 'no worker was running, so no request was accepted',
        reasons.GapReason.NOT_RECORDED: '[journal] record is not all',
        reasons.GapReason.DELETED: 'the records have been deleted, see [journal] keep and max_rows',
        reasons.GapReason.NOT_ROUTED: 'the API did not reach a resolver that records its refusals',
    }
)

#: How the detail of a held event begins.
_HELD = 'held: '

#: The order of entries with the same time.
_ORDER = {kind: number for number, kind in enumerate(Kind)}


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """One line.

    :ivar at: microseconds since the epoch
    :ivar what: the event with its tag, the action, or the request
    :ivar text: what happened
    """

    at: int
    kind: Kind
    what: str
    text: str
    host: str | None = None
    event_id: str | None = None


def build(history: History) -> list[Entry]:
    """Return the entries of a history in the order of their times."""
    entries = [*_of_actions(history.actions), *_of_refusals(history.refusals), *_of_gaps(history.gaps)]
    for event in history.events:
        entries += _of_event(event)
        entries += _of_steps(event, history.steps_of(event.event_id))
    unique = dict.fromkeys(entries)
    return sorted(unique, key=lambda entry: (entry.at, _ORDER[entry.kind]))


def origin(history: History) -> int | None:
    """Return the first start of a wait that is known, or None.

    :returns: microseconds since the epoch, to which the other times are relative
    """
    starts = [start for event in history.events if (start := wait_start(event.received_at, event.handling))]
    starts += [start for step in history.steps if (start := wait_start(step.at, step.handling))]
    if not starts:
        starts = [action.waits_from for action in history.actions]
    return min(starts, default=None)


def wait_start(at: int, handling: records.Handling | None) -> int | None:
    """Return when the wait for an event began that a waiter received.

    :param at: when the event arrived, microseconds since the epoch
    """
    if handling is None or not handling.waiter or handling.wait_ms is None:
        return None
    return at - handling.wait_ms * MILLISECOND


def wait_end(at: int, handling: records.Handling | None) -> int | None:
    """Return when the last wait for an event ended that no waiter received; None: no wait is known.

    :param at: when the event arrived, microseconds since the epoch
    """
    if handling is None or handling.waiter or handling.wait_ms is None or handling.wait_ms >= 0:
        return None
    return at + handling.wait_ms * MILLISECOND


def titled(name: str, tag: str | None) -> str:
    """Return an event in a line: its name, and its tag if it has one."""
    return name if tag is None else f'{name} ({tag})'


def why(event: records.EventRow) -> str:
    """Return why an event has its code, in words, as far as the reasons are recorded."""
    return (event.detail or '').removeprefix(_HELD) or event.reason


def handled(handling: records.Handling | None) -> str:
    """Return the report of the agent in words; empty: it reported nothing."""
    if handling is None:
        return ''
    if handling.waiter:
        waited = '' if handling.wait_ms is None else f' that had waited for {_seconds(handling.wait_ms)}'
        text = f'received by a waiter{waited}'
    elif handling.wait_ms is not None and handling.wait_ms < 0:
        text = f'without a waiter: the last wait for it ended {_seconds(-handling.wait_ms)} before'
    else:
        text = 'without a waiter'
    if handling.handler is None:
        return text
    took = '' if handling.handler_ms is None else f' for {handling.handler_ms} ms'
    return f'{text}, handler {handling.handler} ran{took}'


def utc(microseconds: int) -> str:
    """Return a time as ISO 8601 in UTC, with milliseconds."""
    at = datetime.datetime.fromtimestamp(microseconds / records.SECOND, datetime.UTC)
    return f'{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03d}Z'


def _of_event(event: records.EventRow) -> Iterator[Entry]:
    what = titled(event.name, event.tag)
    start = wait_start(event.received_at, event.handling)
    if start is not None:
        yield Entry(start, Kind.WAIT, what, 'the wait for the event began', _one(event.hosts), event.event_id)
    end = wait_end(event.received_at, event.handling)
    if end is not None:
        yield Entry(end, Kind.WAIT, what, 'a wait for the event ended', _one(event.hosts), event.event_id)
    yield Entry(event.received_at, Kind.RECEIVED, what, _received(event), None, event.event_id)
    if event.ack_ms is not None:
        at = event.received_at + event.ack_ms * MILLISECOND
        text = f'acknowledged after {event.ack_ms} ms'
        report = handled(event.handling)
        text = f'{text}, {report}' if report else text
        yield Entry(at, Kind.ACKNOWLEDGED, what, text, ', '.join(event.hosts) or None, event.event_id)
    answered_at = event.received_at + (event.request.duration_ms if event.request else 0) * MILLISECOND
    yield Entry(
        answered_at, Kind.ANSWERED, what, _answered(event), ', '.join(event.hosts) or None, event.event_id
    )


def _received(event: records.EventRow) -> str:
    text = 'sent again by an operator' if event.replayed else 'received'
    request = event.request
    if request is None:
        return text
    sender = f' from user {request.user_id}' if request.user_id else ''
    ids = ' '.join(each for each in (request.global_request_id, request.request_id) if each)
    return f'{text}{sender}, status {event.status}' + (f', request {ids}' if ids else '')


def _answered(event: records.EventRow) -> str:
    detail = f': {why(event)}' if event.detail else ''
    return f'code {event.code}, {event.reason}{detail}'


def _of_steps(event: records.EventRow, steps: Iterable[records.StepRow]) -> Iterator[Entry]:
    what = titled(event.name, event.tag)
    for step in steps:
        start = wait_start(step.at, step.handling)
        if start is not None:
            yield Entry(start, Kind.WAIT, what, 'the wait for the event began', step.host, event.event_id)
        number = '' if step.attempt is None else f' {step.attempt}'
        detail = ', '.join(each for each in (step.detail or '', handled(step.handling)) if each)
        by = f' by {step.actor}' if step.kind in _BY_OPERATOR and step.actor else ''
        text = f'{step.kind}{number}{by}' + (f': {detail}' if detail else '')
        yield Entry(step.at, Kind.STEP, what, text, step.host, event.event_id)


_BY_OPERATOR = frozenset({reasons.Step.HELD, reasons.Step.DROPPED, reasons.Step.REPLAYED})


def _of_refusals(refusals: Iterable[records.RefusalRow]) -> Iterator[Entry]:
    for refusal in refusals:
        sender = refusal.user_name or refusal.user_id or 'a client without a valid token'
        address = f' at {refusal.address}' if refusal.address else ''
        more = f' (and {refusal.suppressed} more without a record)' if refusal.suppressed else ''
        text = f'{refusal.status} to {sender}{address}: {refusal.detail}{more}'
        yield Entry(refusal.at, Kind.REFUSED, ', '.join(refusal.names) or 'request', text)


def _of_gaps(gaps: Iterable[records.Gap]) -> Iterator[Entry]:
    for gap in gaps:
        lost = '' if gap.missing is None else f'{gap.missing} records are missing, '
        until = _seconds((gap.to_at - gap.from_at) // MILLISECOND)
        yield Entry(
            gap.from_at,
            Kind.GAP,
            'journal',
            f'{lost}incomplete for {until}: {GAPS[gap.reason]}',
            gap.worker_name,
        )


def _of_actions(actions: Iterable[ServerAction]) -> Iterator[Entry]:
    for action in actions:
        yield Entry(action.started_at, Kind.ACTION, action.name, f'started, request {action.request_id}')
        if action.wait_started_at is not None:
            yield Entry(action.wait_started_at, Kind.ACTION, action.name, 'started on the host', action.host)
        if action.finished_at is not None:
            text = 'finished' if action.error is None else f'failed: {action.error}'
            yield Entry(action.finished_at, Kind.ACTION, action.name, text, action.host)


def _one(hosts: tuple[str, ...]) -> str | None:
    return hosts[0] if len(hosts) == 1 else None


def _seconds(milliseconds: int) -> str:
    return f'{milliseconds / 1000:.3f} s'
