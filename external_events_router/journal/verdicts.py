"""One verdict about a server: a value of a closed list, a sentence, and one next step.

Pure functions. ``judge`` groups the events by name and tag, takes the decisive event of each
group, and returns the finding that needs attention most. Only complete records of all
workers prove that an event was never posted.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Mapping
import dataclasses
import enum
import types

from external_events_router.journal import next_steps
from external_events_router.journal import reasons
from external_events_router.journal import records
from external_events_router.journal import timeline

#: Microseconds within which the end of a wait is that of an event which a waiter received: the
#: later event is a copy of it.
SAME_WAIT = 2 * records.SECOND

#: Microseconds after the end of a failed action of Nova in which an event is late for it.
LATE_FOR_ACTION = records.HOUR

#: Events that Nova's actions wait for. Other events have no waiter in nova-compute.
WAITED_FOR = frozenset(
    {'network-vif-plugged', 'network-vif-unplugged', 'accelerator-request-bound', 'volume-reimaged'}
)


class Verdict(enum.StrEnum):
    """What happened, in the order in which a reader needs to know it: the first is the most serious."""

    NOT_HELD = 'not_held'
    REFUSED = 'refused'
    UNKNOWN_SERVER = 'unknown_server'
    NO_HOST = 'no_host'
    HANDLER_FAILED = 'handler_failed'
    EXPIRED = 'expired'
    DROPPED = 'dropped'
    HELD_NO_QUEUE = 'held_no_queue'
    HELD_SILENT_HOST = 'held_silent_host'
    HELD_BROKER_UNAVAILABLE = 'held_broker_unavailable'
    DELIVERED_LATE = 'delivered_late'
    DELIVERED_WITHOUT_WAITER = 'delivered_without_waiter'
    NEVER_POSTED = 'never_posted'
    INCOMPLETE_RECORD = 'incomplete_record'
    HANDED_TO_BROKER = 'handed_to_broker'
    DELIVERED = 'delivered'


_SEVERITY = {verdict: number for number, verdict in enumerate(Verdict)}

#: The exit status of ``explain`` for verdicts other than those of a failed delivery.
EXIT_STATUS: Mapping[Verdict, int] = types.MappingProxyType(
    {
        Verdict.DELIVERED: 0,
        Verdict.HANDED_TO_BROKER: 0,
        Verdict.NEVER_POSTED: 4,
        Verdict.INCOMPLETE_RECORD: 5,
    }
)

#: The exit status for all other verdicts.
NOT_DELIVERED = 3


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    """The result of :func:`judge`.

    :ivar sentence: what happened
    :ivar event_id: the event that it is about; None: no event was posted
    """

    verdict: Verdict
    sentence: str
    next_step: next_steps.NextStep
    event_id: str | None = None

    @property
    def exit_status(self) -> int:
        """The exit status of ``explain``."""
        return EXIT_STATUS.get(self.verdict, NOT_DELIVERED)


def judge(history: timeline.History, site: next_steps.Site) -> Finding:
    """Return the finding about a server that needs attention most.

    :param site: what runs on the hosts
    """
    if not history.events:
        return _without_events(history, site)
    groups: dict[tuple[str, str | None], list[Finding]] = {}
    for event in history.events:
        groups.setdefault((event.name, event.tag), []).append(_of_event(event, history, site))
    decisive = [_decisive(findings, history) for findings in groups.values()]
    return min(decisive, key=lambda finding: _SEVERITY[finding.verdict])


def _decisive(findings: list[Finding], history: timeline.History) -> Finding:
    """Return the finding of the last event, unless the event is a copy of an event that a waiter received."""
    last = findings[-1]
    if last.verdict not in (Verdict.DELIVERED_LATE, Verdict.DELIVERED_WITHOUT_WAITER):
        return last
    events = {event.event_id: event for event in history.events}
    late = events[last.event_id or '']
    end = timeline.wait_end(late.received_at, late.handling)
    for finding in findings[:-1]:
        earlier = events[finding.event_id or '']
        waited = earlier.handling is not None and earlier.handling.waiter
        if waited and end is not None and abs(end - earlier.received_at) <= SAME_WAIT:
            return finding
    return last


def _without_events(history: timeline.History, site: next_steps.Site) -> Finding:
    naming = [each for each in history.refusals if each.is_about(history.server_uuid, history.name)]
    what = _what(history)
    if naming:
        return _refused_request(
            naming[-1], history, f'A request with events for server {history.server_uuid}'
        )
    if history.gaps:
        gap = max(history.gaps, key=lambda each: each.to_at - each.from_at)
        silent = gap.reason is reasons.GapReason.SILENT
        step = next_steps.look_at_worker(gap) if silent else next_steps.look_at_sender(history, site)
        sentence = (
            f'No record of {what} for server {history.server_uuid}, but the journal is incomplete for '
            f'{(gap.to_at - gap.from_at) / records.SECOND:.1f} s of this period: {timeline.GAPS[gap.reason]}'
            f'{f" (worker {gap.worker_name})" if gap.worker_name else ""}.'
        )
        return Finding(Verdict.INCOMPLETE_RECORD, sentence, step)
    if not history.all_refusals:
        sentence = (
            f'No record of {what} for server {history.server_uuid}, but so many requests were refused in '
            'this period that only the newest were read.'
        )
        return Finding(Verdict.INCOMPLETE_RECORD, sentence, next_steps.look_at_sender(history, site))
    if history.refusals:
        return _possible_refusal(history)
    others = _others(history)
    sentence = (
        f'No sender posted {what} for server {history.server_uuid} between {timeline.utc(history.since)} and '
        f'{timeline.utc(history.until)}: the records of all workers are complete.{others}'
    )
    return Finding(Verdict.NEVER_POSTED, sentence, next_steps.look_at_sender(history, site))


def _possible_refusal(history: timeline.History) -> Finding:
    """Return a finding if a refused request may have contained events of the server."""
    unread = [refusal for refusal in history.refusals if not refusal.servers and not refusal.suppressed]
    if unread:
        subject = f'No record of {_what(history)} for server {history.server_uuid}; a request'
        return _refused_request(unread[-1], history, subject)
    refusal = history.refusals[-1]
    why = (
        f'{refusal.suppressed} more refused requests of this sender are not recorded'
        if refusal.suppressed
        else f'the journal names only {len(refusal.servers)} servers of this request'
        if len(refusal.servers) >= records.MAX_NAMED
        else 'not every server in this request is a uuid'
    )
    sentence = (
        f'No record of {_what(history)} for server {history.server_uuid}, but a request of '
        f'{_client(refusal)} was refused with {refusal.status}: {refusal.detail}; {why}.'
    )
    return Finding(Verdict.INCOMPLETE_RECORD, sentence, next_steps.after_refusal(refusal))


def _what(history: timeline.History) -> str:
    if history.name is None and history.port is None:
        return 'an event'
    return timeline.titled(history.name or 'an event', history.port)


def _others(history: timeline.History) -> str:
    """Name in one sentence the events that did arrive for the server."""
    if not history.others:
        return ''
    counts: dict[str, int] = {}
    for event in history.others:
        title = timeline.titled(event.name, event.tag)
        counts[title] = counts.get(title, 0) + 1
    listed = ', '.join(f'{number} x {title}' for title, number in sorted(counts.items())[:5])
    return f' Other events of the server did arrive: {listed}.'


def _refused_request(refusal: records.RefusalRow, history: timeline.History, subject: str) -> Finding:
    if refusal.reason is reasons.Refusal.NOT_ROUTED:
        sentence = f'{subject} did not reach a resolver, and its events were answered 503: {refusal.detail}.'
        return Finding(Verdict.NOT_HELD, sentence, next_steps.start_resolvers())
    sentence = f'{subject} of {_client(refusal)} was refused with {refusal.status}: {refusal.detail}.'
    if history.server_uuid not in refusal.servers:
        sentence += ' The API does not know which servers the request was about.'
    return Finding(Verdict.REFUSED, sentence, next_steps.after_refusal(refusal))


def _client(refusal: records.RefusalRow) -> str:
    sender = refusal.user_name or refusal.user_id or 'a client without a valid token'
    return f'{sender} at {refusal.address}' if refusal.address else sender


def _of_event(event: records.EventRow, history: timeline.History, site: next_steps.Site) -> Finding:
    if event.reason in reasons.HELD:
        return _of_held(event, history, site)
    what = f'{timeline.titled(event.name, event.tag)} for server {event.server_uuid}'
    hosts, detail = _hosts(event), f': {event.detail}' if event.detail else ''
    match event.reason:
        case reasons.Reason.ACKNOWLEDGED:
            return _of_arrival(event, history, site, _Arrival(event.received_at, hosts, event.handling))
        case reasons.Reason.HANDED_TO_BROKER:
            return _of_arrival(
                event, history, site, _Arrival(event.received_at, hosts, None, is_unconfirmed=True)
            )
        case reasons.Reason.BAD_TAG:
            sentence = f'{what} was answered 400{detail}.'
            return Finding(Verdict.REFUSED, sentence, next_steps.correct_sender(event), event.event_id)
        case reasons.Reason.UNKNOWN_SERVER:
            sentence = f'{what} was answered 404, because the host map does not know the server.'
            return Finding(
                Verdict.UNKNOWN_SERVER, sentence, next_steps.show_server(event, site), event.event_id
            )
        case reasons.Reason.NO_HOST | reasons.Reason.NOT_ON_HOST:
            sentence = f'{what} was answered 422{detail or ", because the server is on no host"}.'
            return Finding(Verdict.NO_HOST, sentence, next_steps.show_server(event, site), event.event_id)
        case reasons.Reason.HANDLER_FAILED:
            sentence = f'{what} was answered 500, because a handler failed or refused it{detail}.'
            step = next_steps.search_handler(event, event.hosts, site)
            return Finding(Verdict.HANDLER_FAILED, sentence, step, event.event_id)
    sentence = f'{what} was answered 503 and is lost{detail}.'
    return Finding(Verdict.NOT_HELD, sentence, next_steps.search_resolver(event), event.event_id)


def _of_held(event: records.EventRow, history: timeline.History, site: next_steps.Site) -> Finding:
    """Return the finding about an event that was answered 200 and held."""
    what = f'{timeline.titled(event.name, event.tag)} for server {event.server_uuid}'
    steps = [step for step in history.steps_of(event.event_id) if step.at >= event.received_at]
    last = next((step for step in reversed(steps) if step.kind in reasons.LAST_STEPS), None)
    if last is None or any(step.kind is reasons.Step.HELD and step.at > last.at for step in steps):
        return _still_held(event, steps, history, site)
    why, delay = timeline.why(event), f'{(last.at - event.received_at) / records.SECOND:.1f} s'
    detail = f': {last.detail}' if last.detail else ''
    match last.kind:
        case reasons.Step.DELIVERED:
            where = last.host or _hosts(event)
            arrival = _Arrival(
                last.at, where, last.handling, held=why, is_unconfirmed=site.broker_acknowledges
            )
            return _of_arrival(event, history, site, arrival)
        case reasons.Step.EXPIRED:
            sentence = f'{what} was held ({why}) and expired after {delay}; no host handled it.'
            return Finding(Verdict.EXPIRED, sentence, next_steps.after_expiry(event, site), event.event_id)
        case reasons.Step.REFUSED:
            sentence = f'{what} was held for {delay}; then a handler failed or refused it{detail}.'
            hosts = (last.host,) if last.host else event.hosts
            step = next_steps.search_handler(event, hosts, site)
            return Finding(Verdict.HANDLER_FAILED, sentence, step, event.event_id)
        case reasons.Step.GONE:
            sentence = f'{what} was held ({why}) until the server no longer existed.'
            return Finding(
                Verdict.UNKNOWN_SERVER, sentence, next_steps.show_server(event, site), event.event_id
            )
        case reasons.Step.DROPPED:
            sentence = f'{what} was held ({why}), and {last.actor or "an operator"} dropped it after {delay}.'
            return Finding(Verdict.DROPPED, sentence, next_steps.send_again(event), event.event_id)
    sentence = f'{what} was held, but its stored row could not be read and it is lost{detail}.'
    return Finding(Verdict.NOT_HELD, sentence, next_steps.search_resolver(event), event.event_id)


def _still_held(
    event: records.EventRow,
    steps: Iterable[records.StepRow],
    history: timeline.History,
    site: next_steps.Site,
) -> Finding:
    tried = [step for step in steps if step.kind is reasons.Step.ATTEMPT]
    attempts = f' Last attempt: {tried[-1].detail or "no reason recorded"}.' if tried else ''
    what = f'{timeline.titled(event.name, event.tag)} for server {event.server_uuid}'
    lost = [gap for gap in history.gaps if gap.reason in _LOST and gap.to_at > event.received_at]
    if lost:
        sentence = (
            f'{what} was answered 200 and held: {timeline.why(event)}.{attempts} Its end may not be '
            f'recorded, because the journal is incomplete: {timeline.GAPS[lost[-1].reason]}.'
        )
        return Finding(Verdict.INCOMPLETE_RECORD, sentence, next_steps.list_held(event), event.event_id)
    sentence = f'{what} was answered 200 and is held: {timeline.why(event)}.{attempts}'
    verdict = _HELD.get(_cause(event, history), Verdict.HELD_SILENT_HOST)
    hosts = tuple(sorted({step.host for step in tried if step.host})) or event.hosts
    step = {
        Verdict.HELD_BROKER_UNAVAILABLE: next_steps.check_broker(),
        Verdict.NO_HOST: next_steps.show_server(event, site),
    }.get(verdict) or next_steps.check_host(hosts, site)
    return Finding(verdict, sentence, step, event.event_id)


def _cause(event: records.EventRow, history: timeline.History) -> reasons.Reason:
    """Return why an event is held; for an event behind others, why the last of these is held."""
    if event.reason is not reasons.Reason.HELD_BEHIND:
        return event.reason
    before = [
        other
        for other in (*history.events, *history.others)
        if other.reason in _HELD and other.received_at <= event.received_at
    ]
    return max(before, key=lambda other: other.received_at).reason if before else event.reason


#: Why the last step of an event may be missing.
_LOST = frozenset(
    {
        reasons.GapReason.KILLED,
        reasons.GapReason.SILENT,
        reasons.GapReason.DATABASE,
        reasons.GapReason.QUEUE_FULL,
    }
)

_HELD: Mapping[reasons.Reason, Verdict] = types.MappingProxyType(
    {
        reasons.Reason.HELD_NO_QUEUE: Verdict.HELD_NO_QUEUE,
        reasons.Reason.HELD_SILENT_HOST: Verdict.HELD_SILENT_HOST,
        reasons.Reason.HELD_BROKER_UNAVAILABLE: Verdict.HELD_BROKER_UNAVAILABLE,
        reasons.Reason.HELD_UNASSIGNED: Verdict.NO_HOST,
        reasons.Reason.HELD_MAP_UNAVAILABLE: Verdict.NO_HOST,
        reasons.Reason.HELD_OTHER: Verdict.HELD_SILENT_HOST,
    }
)


@dataclasses.dataclass(frozen=True, slots=True)
class _Arrival:
    """The arrival of an event at its host.

    :ivar held: why it was held before; empty: it was not
    :ivar is_unconfirmed: only the broker has confirmed the message
    """

    at: int
    where: str
    handling: records.Handling | None
    held: str = ''
    is_unconfirmed: bool = False


def _of_arrival(
    event: records.EventRow, history: timeline.History, site: next_steps.Site, arrival: _Arrival
) -> Finding:
    """Return the finding about an event that reached its host: was it in time?"""
    what = f'{timeline.titled(event.name, event.tag)} for server {event.server_uuid}'
    delay = f'{(arrival.at - event.received_at) / records.SECOND:.1f} s'
    after = f' It was held for {delay} ({arrival.held}).' if arrival.held else ''
    timing = _timing(event, history, arrival)
    if timing is not None:
        verdict, sentence = timing
        step = (
            next_steps.check_host(event.hosts, site)
            if arrival.held
            else next_steps.compare_times(event, event.hosts, site)
        )
        return Finding(verdict, f'{what} reached {arrival.where} {sentence}.{after}', step, event.event_id)
    if arrival.is_unconfirmed:
        sentence = (
            f'The broker has {what} in the queue of {arrival.where}; nova-compute does not confirm it.{after}'
        )
        step = next_steps.search_compute(event, event.hosts)
        return Finding(Verdict.HANDED_TO_BROKER, sentence, step, event.event_id)
    report = timeline.handled(arrival.handling)
    sentence = f'{what} was delivered to {arrival.where}{f", {report}" if report else ""}.{after}'
    return Finding(
        Verdict.DELIVERED, sentence, next_steps.search_wait(event, event.hosts, site), event.event_id
    )


def _timing(
    event: records.EventRow, history: timeline.History, arrival: _Arrival
) -> tuple[Verdict, str] | None:
    """Return why an event that arrived did not help its waiter; None: nothing shows that."""
    handling = arrival.handling
    if handling is None:
        return _timing_of_action(event, history, arrival)
    if handling.waiter:
        return None
    end = timeline.wait_end(arrival.at, handling)
    if end is not None:
        return Verdict.DELIVERED_LATE, f'{(arrival.at - end) / records.SECOND:.1f} s after the wait had ended'
    if handling.handler is not None:
        return None
    if arrival.held:
        return Verdict.DELIVERED_LATE, 'when nothing was waiting for it'
    return Verdict.DELIVERED_WITHOUT_WAITER, 'in time, but nothing waited for it and no handler ran'


def _timing_of_action(
    event: records.EventRow, history: timeline.History, arrival: _Arrival
) -> tuple[Verdict, str] | None:
    """Compare an event with the actions of Nova. Only a failed action shows that it was too early or late."""
    if event.name not in WAITED_FOR:
        return None
    failed = [action for action in history.actions if action.error is not None]
    for action in failed:
        if action.finished_at is None:
            continue
        if action.finished_at < arrival.at <= action.finished_at + LATE_FOR_ACTION:
            seconds = (arrival.at - action.finished_at) / records.SECOND
            return Verdict.DELIVERED_LATE, f'{seconds:.1f} s after the action {action.name} had failed'
    for action in failed:
        if action.started_at - LATE_FOR_ACTION <= arrival.at < action.waits_from:
            seconds = (action.waits_from - arrival.at) / records.SECOND
            return (
                Verdict.DELIVERED_WITHOUT_WAITER,
                f'{seconds:.1f} s before the action {action.name}, which failed, began to wait',
            )
    return None


def _hosts(event: records.EventRow) -> str:
    return ' and '.join(event.hosts) or 'no host'
