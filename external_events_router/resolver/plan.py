"""Pure decisions: which host gets which event of a batch, and what its answers amount to.

No I/O and no time: what it decides on is looked up, cast and awaited elsewhere
(``host_map``, ``dispatch``, ``acks``), and put together in ``router``.
"""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses

from external_events_router import events
from external_events_router.resolver.host_map import base


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done with a batch.

    :ivar decided: position of an event in the batch to its outcome, where no
        host needs to be asked
    :ivar by_host: host to the positions of its events, in the batch's order
    """

    decided: Mapping[int, events.Outcome]
    by_host: Mapping[str, Sequence[int]]


# NOTE: not frozen, which would make one take five times as long; nobody changes it.
@dataclasses.dataclass(slots=True)
class Answer:
    """What became of one event at one host.

    :ivar verdict: the host's own word; None: it said nothing
    :ivar reason: why, in words: the host's, or why it could not be asked
    :ivar asked: false if the broker did not take the message: the missing
        verdict then says nothing about the host
    :ivar at: when the host answered, an instant of ``time.monotonic()``; None: it did not, or
        that is not known
    :ivar handling: what the agent reports in addition; None: nothing
    """

    verdict: events.Verdict | None
    reason: str | None = None
    asked: bool = True
    at: float | None = None
    handling: events.Handling | None = None


def by_host(batch: Mapping[int, events.Event], lookup: base.Lookup) -> Plan:
    """Group events by host; decide what needs no host.

    :param batch: position to event, in the order of the positions

    The order of the checks is Nova's: a server that is not known is 404 before
    its event's tag is looked at, and a bad tag is 400 before a missing host is 422.
    """
    decided: dict[int, events.Outcome] = {}
    positions: dict[str, list[int]] = {}
    for position, event in batch.items():
        outcome = _without_host(event, lookup)
        if outcome is not None:
            decided[position] = outcome
            continue
        for host in lookup.hosts[event.server_uuid]:
            positions.setdefault(host, []).append(position)
    return Plan(decided=decided, by_host=positions)


def _without_host(event: events.Event, lookup: base.Lookup) -> events.Outcome | None:
    problem = events.tag_problem(event)
    if event.server_uuid in lookup.unavailable:
        if problem is not None:
            return events.Outcome(event, events.Code.BAD_TAG, problem)
        return events.Outcome(event, events.Code.UNDELIVERED, lookup.why(event.server_uuid))
    if event.server_uuid not in lookup.hosts:
        return events.Outcome(event, events.Code.NO_SUCH_SERVER, 'no such server')
    if problem is not None:
        return events.Outcome(event, events.Code.BAD_TAG, problem)
    if not lookup.hosts[event.server_uuid]:
        return events.Outcome(event, events.Code.NO_HOST, 'the server is on no host')
    return None


def is_stale(answers: Collection[Answer]) -> bool:
    """Whether every host that was asked says that the server is elsewhere."""
    return all(answer.verdict is events.Verdict.NOT_HERE for answer in answers)


def outcome_of(event: events.Event, answers: Mapping[str, Answer]) -> events.Outcome:
    """One outcome from what the event's hosts answered.

    A host that refused decides (the event was not handled where it should have
    been, and sending it again will not help); then one that said nothing; a
    host where the server is not does not count beside one that handled it.

    :param answers: host to its answer; not empty
    """
    if all(answer.verdict is events.Verdict.HANDLED for answer in answers.values()):
        return events.Outcome(event, events.Code.DELIVERED)
    for host, answer in answers.items():
        if answer.verdict is events.Verdict.REFUSED:
            return events.Outcome(event, events.Code.REFUSED, _at(host, answer))
    for host, answer in answers.items():
        if answer.verdict is None:
            return events.Outcome(event, events.Code.UNDELIVERED, _at(host, answer))
    if is_stale(answers.values()):
        return events.Outcome(event, events.Code.NO_HOST, f'not on {", ".join(answers)}')
    return events.Outcome(event, events.Code.DELIVERED)


def _at(host: str, answer: Answer) -> str:
    return f'{host}: {answer.reason or "no reason given"}'
