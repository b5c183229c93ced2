"""Comparison of the answers that senders received with the events that agents handled.

The functions are pure: records in, verdicts out. They do not depend on the way in which the
records were collected or on the implementation of the service.

All instants are values of the machine's monotonic clock, which all processes share.
"""

from __future__ import annotations

import collections
from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
from typing import Any

#: A delivery is late if it happens more than this number of seconds after the answer 200.
LATE = 0.1

#: Code of an event whose sender received no answer, because the connection was lost.
BROKEN = 'broken'


@dataclasses.dataclass(frozen=True, slots=True)
class Answered:
    """An event and the answer that its sender received.

    :ivar tag: unique over all events of a run
    :ivar sequence: its position among the events of its server, in the order of sending
    :ivar code: the code answered, or :data:`BROKEN`
    :ivar sent: instant at which it was first posted
    :ivar answered: instant at which the last answer was received
    :ivar took: seconds of its longest request
    :ivar stalled: seconds of these in which the machine had no time for the sender
    """

    tag: str
    server: str
    sequence: int
    code: int | str
    sent: float
    answered: float
    took: float
    stalled: float = 0.0


@dataclasses.dataclass(frozen=True, slots=True)
class Handled:
    """An event that a handler received.

    :ivar incarnation: identifies one process of the agent
    :ivar at: instant
    """

    tag: str
    server: str
    host: str
    incarnation: str
    at: float

    @classmethod
    def from_line(cls, line: Mapping[str, Any]) -> Handled:
        """Read the file that ``tests.integration.recording_agent`` has written."""
        return cls(line['tag'], line['server_uuid'], line['host'], line['incarnation'], line['at'])


@dataclasses.dataclass(frozen=True, slots=True)
class Placed:
    """The hosts of a server from an instant until the instant of the next entry."""

    hosts: frozenset[str]
    since: float


#: Server to its entries, oldest first.
Places = Mapping[str, Sequence[Placed]]


@dataclasses.dataclass(frozen=True, slots=True)
class Audit:
    """Problems, as tags of events, and other observations.

    :ivar lost: answered 200, and not handled on the hosts of the server
    :ivar doubled: handled more than once by one process of an agent
    :ivar disordered: answered 200, and handled after a later event of its server
    :ivar overdue: not answered within the limit
    :ivar unsent: handled, but never sent
    :ivar late: answered 200, and handled only some time later
    :ivar expired: answered 200, and later reported as expired by the service
    :ivar handled_without_200: handled, although the sender did not get 200
    """

    lost: Sequence[str] = ()
    doubled: Sequence[str] = ()
    disordered: Sequence[str] = ()
    overdue: Sequence[str] = ()
    unsent: Sequence[str] = ()
    late: Sequence[str] = ()
    expired: Sequence[str] = ()
    handled_without_200: Sequence[str] = ()

    @property
    def broken(self) -> bool:
        """Whether the service broke a promise."""
        return any((self.lost, self.doubled, self.disordered, self.overdue, self.unsent))

    def of(self, tags: Collection[str]) -> Audit:
        """The part of this audit that concerns some events."""
        return Audit(
            **{
                field.name: [tag for tag in getattr(self, field.name) if tag in tags]
                for field in dataclasses.fields(self)
            }
        )


def audit(
    answered: Collection[Answered],
    handled: Sequence[Handled],
    places: Places,
    *,
    bound: float,
    expired: Collection[str] = (),
    others: Collection[str] = (),
) -> Audit:
    """Compare the answers with the handled events.

    :param handled: in the order of handling on each host
    :param bound: maximum seconds of each request, without stalls of the machine
    :param expired: tags that the service lists as expired
    :param others: tags of events that were sent, but are not judged
    """
    by_tag = collections.defaultdict(list)
    for each in handled:
        by_tag[each.tag].append(each)
    promised = {event.tag: event for event in answered if event.code == 200}
    missing = unfinished(promised.values(), handled, places)
    known = {event.tag for event in answered} | set(others)
    return Audit(
        lost=[tag for tag in missing if tag not in expired],
        expired=[tag for tag in missing if tag in expired],
        doubled=[event.tag for event in answered if _is_doubled(by_tag[event.tag])],
        disordered=_disordered(promised, handled),
        overdue=[event.tag for event in answered if event.took - event.stalled > bound],
        unsent=sorted(tag for tag in by_tag if by_tag[tag] and tag not in known),
        late=[tag for tag, event in promised.items() if _last_first(by_tag[tag]) > event.answered + LATE],
        handled_without_200=[event.tag for event in answered if event.code != 200 and by_tag[event.tag]],
    )


def unfinished(promised: Iterable[Answered], handled: Iterable[Handled], places: Places) -> list[str]:
    """The events answered 200 that were not handled on all required hosts.

    An event is required on every host that its server had at one instant
    after it was sent: a server that moves may get it before or after the move.
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


def _disordered(promised: Mapping[str, Answered], handled: Iterable[Handled]) -> list[str]:
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
    # An event on two hosts counts once.
    return list(dict.fromkeys(found))


def _last_first(handled: Iterable[Handled]) -> float:
    """The instant at which the last of the hosts first handled it."""
    first: dict[str, float] = {}
    for each in handled:
        first.setdefault(each.host, each.at)
    return max(first.values(), default=0.0)
