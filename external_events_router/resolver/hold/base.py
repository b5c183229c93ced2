"""What is held, and what becomes of it: the data that the hold's modules pass to each other."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import enum
from typing import Any

from external_events_router import events


class State(enum.StrEnum):
    """Where an event of the hold stands.

    ``held``: it waits for its hosts. The others are ends without all
    acknowledgements: its deadline passed, a host refused it for good, its
    server is no more, or its row cannot be read.
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
    :ivar ttl: seconds for which it is worth anything, from now
    :ivar hosts: the hosts that it waits for, as far as they are known
    :ivar acknowledged: hosts that have acknowledged it already
    :ivar reason: why it is held
    """

    event: events.Event
    ttl: float
    hosts: tuple[str, ...] = ()
    acknowledged: frozenset[str] = frozenset()
    reason: str = ''


@dataclasses.dataclass(frozen=True, slots=True)
class Request:
    """Events of one request to be held together.

    :ivar items: in the order in which a server's are to be delivered
    :ivar context: of the request that brought them, as the context's dict
    """

    items: Sequence[Item]
    context: Mapping[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Held:
    """A held event, claimed for an attempt.

    :ivar seq: names its row; the order of a server's events
    :ivar context: request ids and caller, as the request context's dict
    :ivar remaining: seconds until its deadline, from the claim; negative: past
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
    """A server whose held events one worker may try now.

    :ivar attempts: how often it was tried before
    :ivar events: in the order in which they have to be delivered
    """

    server_uuid: str
    attempts: int
    events: Sequence[Held]


@dataclasses.dataclass(frozen=True, slots=True)
class Settlement:
    """What an attempt came to, for one claimed server.

    :ivar last: the last row of the claim; those after it came meanwhile, or were too many
    :ivar delivered: rows that all hosts have acknowledged
    :ivar ended: rows that end without it: state and reason
    :ivar acknowledged: rows that go on: all hosts that have acknowledged them
    :ivar hosts: the hosts that the server waits for now; None: as before
    :ivar reason: why something of what was tried remains
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
    :ivar hosts: the hosts it waits or waited for
    :ivar acknowledged: the hosts that have acknowledged it, of a held event
    :ivar attempts: how often its server was tried
    :ivar held_at: seconds since the epoch, by the database's clock; likewise ``until``
    :ivar until: its deadline if it is held, else when it ended
    """

    seq: int
    state: State
    event: events.Event
    request_id: str | None
    hosts: tuple[str, ...]
    attempts: int
    reason: str
    held_at: float
    until: float
    acknowledged: tuple[str, ...] = ()
