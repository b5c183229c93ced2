"""What senders were told of their events, held against what agents handled.

Pure: records in, verdicts out. It knows nothing of how either was gathered, nor
of what the service does between the two, so that it is right whatever that is.

Instants are those of the machine's monotonic clock, which all processes share.
"""

from __future__ import annotations

import collections
from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
from typing import Any

#: Seconds after its sender was told 200 from which on a delivery counts as late.
LATE = 0.1

#: Code of an event whose sender heard nothing: the connection broke.
BROKEN = 'broken'


@dataclasses.dataclass(frozen=True, slots=True)
class Told:
    """An event, and what its sender was told of it.

    :ivar tag: unique over all events of a run
    :ivar sequence: its place among the events of its server, in the order sent
    :ivar code: the code answered, or :data:`BROKEN`
    :ivar sent: when it was posted first
    :ivar told: when the last answer was there
    :ivar took: seconds of the longest of its requests
    :ivar stalled: seconds of these in which the machine had no time for the sender
    """

    tag: str
    server: str
    sequence: int
    code: int | str
    sent: float
    told: float
    took: float
    stalled: float = 0.0


@dataclasses.dataclass(frozen=True, slots=True)
class Handled:
    """An event that a handler was given.

    :ivar incarnation: names one life of the agent
    :ivar at: when
    """

    tag: str
    server: str
    host: str
    incarnation: str
    at: float

    @classmethod
    def from_line(cls, line: Mapping[str, Any]) -> Handled:
        """What ``tests.integration.recording_agent`` has written."""
        return cls(line['tag'], line['server_uuid'], line['host'], line['incarnation'], line['at'])


@dataclasses.dataclass(frozen=True, slots=True)
class Placed:
    """Where a server was, from an instant until that of the next."""

    hosts: frozenset[str]
    since: float


#: Server to its places, oldest first.
Places = Mapping[str, Sequence[Placed]]


@dataclasses.dataclass(frozen=True, slots=True)
class Audit:
    """What is wrong, as tags; and what is only worth knowing.

    :ivar lost: answered 200, and not handled on the server's hosts
    :ivar doubled: handled more than once in one life of an agent
    :ivar disordered: answered 200, and handled behind a later one of its server
    :ivar overdue: not answered within the bound
    :ivar strangers: handled, but never sent
    :ivar late: answered 200 and handled only after that
    :ivar expired: answered 200 and given up since, as was said in the open
    :ivar unpromised: handled, though the sender was not told 200
    """

    lost: Sequence[str] = ()
    doubled: Sequence[str] = ()
    disordered: Sequence[str] = ()
    overdue: Sequence[str] = ()
    strangers: Sequence[str] = ()
    late: Sequence[str] = ()
    expired: Sequence[str] = ()
    unpromised: Sequence[str] = ()

    @property
    def broken(self) -> bool:
        """Whether a promise was."""
        return any((self.lost, self.doubled, self.disordered, self.overdue, self.strangers))

    def of(self, tags: Collection[str]) -> Audit:
        """The part of it that is about some events."""
        return Audit(
            **{
                field.name: [tag for tag in getattr(self, field.name) if tag in tags]
                for field in dataclasses.fields(self)
            }
        )


def audit(
    told: Collection[Told],
    handled: Sequence[Handled],
    places: Places,
    *,
    bound: float,
    expired: Collection[str] = (),
    others: Collection[str] = (),
) -> Audit:
    """Hold the answers against the handlings.

    :param handled: in the order in which it happened on each host
    :param bound: seconds within which each request must be answered, stalls of the machine apart
    :param expired: tags that the service lists as given up
    :param others: tags that were sent too, but are not to be judged
    """
    by_tag = collections.defaultdict(list)
    for each in handled:
        by_tag[each.tag].append(each)
    promised = {event.tag: event for event in told if event.code == 200}
    missing = unfinished(promised.values(), handled, places)
    known = {event.tag for event in told} | set(others)
    return Audit(
        lost=[tag for tag in missing if tag not in expired],
        expired=[tag for tag in missing if tag in expired],
        doubled=[event.tag for event in told if _is_doubled(by_tag[event.tag])],
        disordered=_disordered(promised, handled),
        overdue=[event.tag for event in told if event.took - event.stalled > bound],
        strangers=sorted(tag for tag in by_tag if by_tag[tag] and tag not in known),
        late=[tag for tag, event in promised.items() if _last_first(by_tag[tag]) > event.told + LATE],
        unpromised=[event.tag for event in told if event.code != 200 and by_tag[event.tag]],
    )


def unfinished(promised: Iterable[Told], handled: Iterable[Handled], places: Places) -> list[str]:
    """The promised events that are not where they belong.

    An event belongs to every host of its server at one and the same instant
    since it was sent: one that moves meanwhile may get it before or after.
    """
    at = collections.defaultdict(set)
    for each in handled:
        at[each.tag].add(each.host)
    return [
        event.tag
        for event in promised
        if not any(hosts <= at[event.tag] for hosts in _hosts_since(places[event.server], event.sent))
    ]


def _hosts_since(history: Sequence[Placed], instant: float) -> Iterable[frozenset[str]]:
    for number, placed in enumerate(history):
        if number + 1 == len(history) or history[number + 1].since >= instant:
            yield placed.hosts


def _is_doubled(handled: Iterable[Handled]) -> bool:
    counts = collections.Counter((each.host, each.incarnation) for each in handled)
    return any(count > 1 for count in counts.values())


def _disordered(promised: Mapping[str, Told], handled: Iterable[Handled]) -> list[str]:
    seen: set[tuple[str, str]] = set()
    newest: dict[tuple[str, str], int] = {}
    found = []
    for each in handled:
        event = promised.get(each.tag)
        if event is None or (each.host, each.tag) in seen:
            continue
        seen.add((each.host, each.tag))
        key = (each.host, event.server)
        if event.sequence < newest.get(key, -1):
            found.append(event.tag)
        newest[key] = max(event.sequence, newest.get(key, -1))
    # On two hosts it is one event.
    return list(dict.fromkeys(found))


def _last_first(handled: Iterable[Handled]) -> float:
    """When the last of the hosts had it for the first time."""
    first: dict[str, float] = {}
    for each in handled:
        first.setdefault(each.host, each.at)
    return max(first.values(), default=0.0)
