"""Predict the answer to an event that is not sent.

Pure: ``predict`` decides on facts that others have collected, in the order in which the
resolver decides. It states what would happen if nothing changes; a host that stops at the
moment of the event is not foreseen.
"""

from __future__ import annotations

import dataclasses
import enum

from external_events_router import events
from external_events_router.journal import reasons


class Breaker(enum.StrEnum):
    """The circuit breaker of a host in a resolver worker."""

    CLOSED = 'closed'
    #: The host did not acknowledge; its events are held until it responds.
    OPEN = 'open'
    #: The queue of the host has no consumer; its events are held until it has one.
    NO_CONSUMER = 'open, no consumer'
    #: No resolver worker answered.
    UNKNOWN = 'unknown'


@dataclasses.dataclass(frozen=True, slots=True)
class Host:
    """A host of the server.

    :ivar cell: the cell in Nova; None without Nova
    :ivar queue: whether its queue exists; None: not known
    :ivar consumers: number of consumers of its queue; None: not known
    :ivar behind: whether it has not acknowledged all held events of the server
    """

    name: str
    cell: str | None = None
    queue: bool | None = None
    consumers: int | None = None
    breaker: Breaker = Breaker.UNKNOWN
    behind: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Facts:
    """The facts about a server.

    :ivar source: the source of the hosts, in words
    :ivar age: seconds since the source changed the entry; None: the source does not record it
    :ivar map_problem: why the host map cannot be read; None if it can be read
    :ivar known: whether the host map knows the server
    :ivar hosts: the hosts of the server
    :ivar held: number of events of the server that are held now
    :ivar hold_problem: why events cannot be held now; None if they can be held
    :ivar broker_problem: why the broker cannot be asked; None if it can, or if this is not necessary
    :ivar breakers_problem: why the circuit breakers are not known; None if they are known
    :ivar holds_unassigned: events are held while their server is on no host
    :ivar confirmed: hosts acknowledge events; else only the broker confirms the message
    """

    source: str
    age: float | None = None
    map_problem: str | None = None
    known: bool = True
    hosts: tuple[Host, ...] = ()
    held: int = 0
    hold_problem: str | None = None
    broker_problem: str | None = None
    breakers_problem: str | None = None
    holds_unassigned: bool = False
    confirmed: bool = True


@dataclasses.dataclass(frozen=True, slots=True)
class Prediction:
    """The expected answer.

    :ivar text: why, in one sentence
    """

    code: events.Code
    reason: reasons.Reason
    text: str


def predict(event: events.Event, facts: Facts) -> Prediction:
    """Return the answer that an event would get."""
    tag = events.tag_problem(event)
    if facts.map_problem is not None and tag is None:
        return _made(
            reasons.Reason.MAP_UNAVAILABLE,
            f'The host map cannot be read ({facts.map_problem}); a resolver that remembers the server still '
            'delivers the event.',
        )
    if facts.map_problem is None and not facts.known:
        return _made(reasons.Reason.UNKNOWN_SERVER, 'The host map does not know the server.')
    if tag is not None:
        return _made(reasons.Reason.BAD_TAG, f'{tag}.')
    if not facts.hosts:
        return _on_no_host(facts)
    waiting = [(host, reason) for host in facts.hosts if (reason := _why_held(host, facts)) is not None]
    if waiting:
        return _held(waiting, facts)
    if not facts.confirmed:
        return _made(
            reasons.Reason.HANDED_TO_BROKER, f'The broker accepts the message for {_named(facts.hosts)}.'
        )
    return _made(reasons.Reason.ACKNOWLEDGED, f'{_named(facts.hosts)} should acknowledge the event.')


def _on_no_host(facts: Facts) -> Prediction:
    if not facts.holds_unassigned:
        return _made(reasons.Reason.NO_HOST, 'The server is on no host.')
    return _held_or_lost(reasons.Reason.HELD_UNASSIGNED, 'The server is on no host', facts)


def _held(waiting: list[tuple[Host, reasons.Reason]], facts: Facts) -> Prediction:
    host, reason = waiting[0]
    return _held_or_lost(reason, f'{host.name}: {_WORDS[reason]}', facts)


def _why_held(host: Host, facts: Facts) -> reasons.Reason | None:
    """Return why an event would be held for a host; None: it would be sent."""
    if host.behind:
        return reasons.Reason.HELD_BEHIND
    if host.breaker is Breaker.NO_CONSUMER or host.queue is False or host.consumers == 0:
        return reasons.Reason.HELD_NO_QUEUE
    if host.breaker is Breaker.OPEN:
        return reasons.Reason.HELD_SILENT_HOST
    if facts.broker_problem is not None:
        return reasons.Reason.HELD_BROKER_UNAVAILABLE
    return None


_WORDS = {
    reasons.Reason.HELD_BEHIND: 'earlier events of the server are held for it, and events keep their order',
    reasons.Reason.HELD_NO_QUEUE: 'its queue does not exist or has no consumer',
    reasons.Reason.HELD_SILENT_HOST: 'its circuit breaker is open, because it did not acknowledge',
    reasons.Reason.HELD_BROKER_UNAVAILABLE: 'the broker does not answer',
}


def _held_or_lost(reason: reasons.Reason, why: str, facts: Facts) -> Prediction:
    """The event is held, if events can be held."""
    if facts.hold_problem is None:
        return _made(reason, f'{why}. The router holds the event until it can be delivered or expires.')
    if reason is reasons.Reason.HELD_UNASSIGNED:
        return _made(reasons.Reason.NO_HOST, f'{why}, and events cannot be held: {facts.hold_problem}.')
    return _made(reasons.Reason.NOT_HELD, f'{why}, and events cannot be held: {facts.hold_problem}.')


def _made(reason: reasons.Reason, text: str) -> Prediction:
    return Prediction(reasons.CODES[reason], reason, text)


def _named(hosts: tuple[Host, ...]) -> str:
    return ' and '.join(host.name for host in hosts)
