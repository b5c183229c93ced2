"""The results of attempts for held events, as steps of the journal. Pure functions."""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import functools

from external_events_router import events
from external_events_router.journal import entries
from external_events_router.journal import reasons
from external_events_router.resolver import answers as host_answers
from external_events_router.resolver.hold import base
from external_events_router.resolver.hold import redelivery_plan

_ENDS: Mapping[base.State, reasons.Step] = {
    base.State.EXPIRED: reasons.Step.EXPIRED,
    base.State.REFUSED: reasons.Step.REFUSED,
    base.State.GONE: reasons.Step.GONE,
    base.State.DAMAGED: reasons.Step.DAMAGED,
}


def attempts(
    plans: Sequence[redelivery_plan.Plan],
    answers: host_answers.Answers,
    settlements: Sequence[base.Settlement],
    *,
    worker: str,
) -> Iterator[entries.Step]:
    """Return what attempts for held events came to: a step for each host that did not take an
    event, and for each event that ended.

    :param worker: the name of the worker that made them
    """
    for attempted, settlement in zip(plans, settlements, strict=True):
        number = attempted.claim.attempts + 1
        for held in attempted.claim.events:
            targets = attempted.targets.get(held.seq, frozenset())
            step = functools.partial(
                entries.Step, held.event.id, held.event.server_uuid, attempt=number, actor=worker
            )
            if held.seq in settlement.delivered:
                host, answer = _best(held.event, targets, answers)
                handling = None if answer is None else answer.handling
                yield step(reasons.Step.DELIVERED, host=host, handling=handling)
            elif held.seq in settlement.ended:
                state, reason = settlement.ended[held.seq]
                host = _refusing(held.event, targets, answers) if state is base.State.REFUSED else None
                yield step(_ENDS[state], host=host, detail=reason)
            else:
                for host in sorted(targets):
                    received = answers.get((host, held.event.id))
                    if received is not None and received.verdict is not events.Verdict.HANDLED:
                        yield step(
                            reasons.Step.ATTEMPT, host=host, detail=received.reason or received.verdict
                        )


def _best(
    event: events.Event, targets: Collection[str], answers: host_answers.Answers
) -> tuple[str | None, host_answers.Answer | None]:
    """Return the host that handled an event; prefer a host with a waiter or a handler for it."""
    found: tuple[str | None, host_answers.Answer | None] = (None, None)
    for host in sorted(targets):
        answer = answers.get((host, event.id))
        if answer is None or answer.verdict is not events.Verdict.HANDLED:
            continue
        before = None if found[1] is None else found[1].handling
        if found[1] is None or (
            answer.handling is not None and entries.better(before, answer.handling) is answer.handling
        ):
            found = host, answer
    return found


def _refusing(event: events.Event, targets: Collection[str], answers: host_answers.Answers) -> str | None:
    for host in sorted(targets):
        answer = answers.get((host, event.id))
        if answer is not None and answer.verdict is events.Verdict.REFUSED:
            return host
    return None
