"""Data of the hold that its modules pass to each other."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import enum
from typing import Any

from external_events_router import events


class State(enum.StrEnum):
    """The state of an event of the hold.

    ``held``: it waits for its hosts. The other states are ends without all acknowledgements: its
    deadline has passed, a host has refused it, its server does not exist any longer, or its row cannot
    be read.
    """

    HELD = 'held'
    EXPIRED = 'expired'
    REFUSED = 'refused'
    GONE = 'gone'
    DAMAGED = 'damaged'


@dataclasses.dataclass(frozen=True, slots=True)
class Item:
    """An event to be held.

    :ivar event: the event
    :ivar ttl: seconds until its deadline, from now
    :ivar hosts: the known hosts that have to acknowledge it
    :ivar acknowledged: hosts that have already acknowledged it
    :ivar reason: why it is held
    """

    event: events.Event
    ttl: float
    hosts: tuple[str, ...] = ()
    acknowledged: frozenset[str] = frozenset()
    reason: str = ''


@dataclasses.dataclass(frozen=True, slots=True)
class Request:
    """Events of one request that are held together.

    :ivar items: in the order in which the events of a server have to be delivered
    :ivar context: context of the request, as a dict
    """

    items: Sequence[Item]
    context: Mapping[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Held:
    """A held event that is claimed for an attempt.

    :ivar seq: identifies its row; also the order of the events of a server
    :ivar context: request ids and caller, as the dict of the request context
    :ivar remaining: seconds until its deadline, from the claim; negative after the deadline
    :ivar acknowledged: hosts that have acknowledged it
    :ivar age: seconds for which it had been held at the claim
    """

    seq: int
    event: events.Event
    context: Mapping[str, Any]
    remaining: float
    acknowledged: frozenset[str]
    age: float = 0.0


@dataclasses.dataclass(frozen=True, slots=True)
class Claim:
    """A server whose held events one worker may try to deliver now.

    :ivar attempts: number of earlier attempts
    :ivar events: in the order in which they have to be delivered
    """

    server_uuid: str
    attempts: int
    events: Sequence[Held]


@dataclasses.dataclass(frozen=True, slots=True)
class Settlement:
    """The results of an attempt for one claimed server.

    :ivar last: last row of the claim; rows after it arrived later, or exceeded the limit of a claim
    :ivar delivered: rows that all hosts have acknowledged
    :ivar ended: rows that end without all acknowledgements: state and reason
    :ivar acknowledged: rows that stay held: all hosts that have acknowledged them
    :ivar hosts: hosts for which the server waits now; None: unchanged
    :ivar reason: why some events of the attempt are still held
    :ivar retry_after: seconds until the next attempt
    """

    server_uuid: str
    last: int
    delivered: frozenset[int] = frozenset()
    ended: Mapping[int, tuple[State, str]] = dataclasses.field(default_factory=dict)
    acknowledged: Mapping[int, frozenset[str]] = dataclasses.field(default_factory=dict)
    hosts: frozenset[str] | None = frozenset()
    reason: str = ''
    retry_after: float = 0.0


@dataclasses.dataclass(frozen=True, slots=True)
class Record:
    """An event of the hold, for an operator.

    :ivar seq: its number within its state
    :ivar hosts: hosts that have to acknowledge it, or had to
    :ivar acknowledged: hosts that have acknowledged a held event
    :ivar attempts: number of attempts for its server
    :ivar held_at: seconds since the epoch, by the clock of the database, as all times of this class
    :ivar expires_at: deadline of a held event; None: it has ended
    :ivar ended_at: time when an event ended; None: it is held
    """

    seq: int
    state: State
    event: events.Event
    request_id: str | None
    hosts: tuple[str, ...]
    attempts: int
    reason: str
    held_at: float
    expires_at: float | None = None
    ended_at: float | None = None
    acknowledged: tuple[str, ...] = ()
