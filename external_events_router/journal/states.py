"""The state of an event: one word for lists and filters."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Mapping
import enum
import types

from external_events_router.journal import reasons
from external_events_router.journal import records


class State(enum.StrEnum):
    """The state of an event."""

    #: All hosts have it.
    DELIVERED = 'delivered'
    #: It was answered 200, and the router tries to deliver it.
    HELD = 'held'
    #: Its deadline passed while it was held.
    EXPIRED = 'expired'
    #: A handler on a host failed or refused it.
    REFUSED = 'refused'
    #: Its server no longer existed while it was held.
    GONE = 'gone'
    #: The row of the held event cannot be read.
    DAMAGED = 'damaged'
    #: An operator dropped it.
    DROPPED = 'dropped'
    #: It was answered with another code than 200 and 500.
    FAILED = 'failed'


_OF_STEPS: Mapping[reasons.Step, State] = types.MappingProxyType(
    {
        reasons.Step.HELD: State.HELD,
        reasons.Step.DELIVERED: State.DELIVERED,
        reasons.Step.EXPIRED: State.EXPIRED,
        reasons.Step.REFUSED: State.REFUSED,
        reasons.Step.GONE: State.GONE,
        reasons.Step.DAMAGED: State.DAMAGED,
        reasons.Step.DROPPED: State.DROPPED,
    }
)

#: The steps that change the state of an event.
DECIDING = frozenset(_OF_STEPS)

_FAILED = frozenset(reasons.Reason) - reasons.ORDINARY - reasons.HELD - {reasons.Reason.HANDLER_FAILED}

#: The reasons that an event of a state can have, so that a filter can use an index.
REASONS: Mapping[State, frozenset[reasons.Reason]] = types.MappingProxyType(
    {
        State.DELIVERED: reasons.ORDINARY | reasons.HELD,
        State.HELD: reasons.HELD,
        State.EXPIRED: reasons.HELD,
        State.REFUSED: reasons.HELD | {reasons.Reason.HANDLER_FAILED},
        State.GONE: reasons.HELD,
        State.DAMAGED: reasons.HELD,
        State.DROPPED: reasons.HELD,
        State.FAILED: _FAILED,
    }
)


def state(event: records.EventRow, steps: Iterable[records.StepRow]) -> State:
    """Return the state of an event.

    :param steps: the steps of the event, in the order of their times
    """
    if event.reason in reasons.ORDINARY:
        return State.DELIVERED
    if event.reason is reasons.Reason.HANDLER_FAILED:
        return State.REFUSED
    if event.reason not in reasons.HELD:
        return State.FAILED
    found = State.HELD
    for step in steps:
        if step.at >= event.received_at:
            found = _OF_STEPS.get(step.kind, found)
    return found
