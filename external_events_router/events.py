"""Events, their outcomes, and the one table of names, tags and codes.

A leaf: it imports the standard library and leaves only, so every room may use it. What
an event does on a host is not known here (see ``agent``), and how a code
becomes an HTTP status is not either (see ``api``).
"""

from __future__ import annotations

import collections
from collections.abc import Iterable
from collections.abc import Mapping
import dataclasses
import enum
import hashlib
import re
import types
from typing import Any
import uuid

from external_events_router import checks
from external_events_router import exceptions
from external_events_router import ids

Microversion = tuple[int, int]

#: The highest compute microversion this service speaks. Nova 34 (2026.2)
#: documents 2.104 as its maximum; none after 2.93 changes this resource.
MAX_MICROVERSION: Microversion = (2, 104)
MIN_MICROVERSION: Microversion = (2, 1)


@dataclasses.dataclass(frozen=True, slots=True)
class EventType:
    """What is fixed about all events of one name.

    :ivar name: as in the request body, for example ``network-vif-plugged``
    :ivar min_version: the first microversion whose schema admits the name
    :ivar tag_required: an event without a tag is answered 400
    :ivar tags: the only tags with a meaning; empty: any tag
    """

    name: str
    min_version: Microversion
    tag_required: bool = False
    tags: tuple[str, ...] = ()


#: Names and microversions: the API reference of the compute service, "Create
#: external events", and the REST API version history. Which names need a tag
#: was measured on a running Nova 34.
EVENT_TYPES: Mapping[str, EventType] = types.MappingProxyType(
    {
        event_type.name: event_type
        for event_type in (
            EventType('network-changed', (2, 1)),
            EventType('network-vif-plugged', (2, 1)),
            EventType('network-vif-unplugged', (2, 1)),
            EventType('network-vif-deleted', (2, 1)),
            EventType('volume-extended', (2, 51), tag_required=True),
            EventType('power-update', (2, 76), tag_required=True, tags=('POWER_ON', 'POWER_OFF')),
            EventType('accelerator-request-bound', (2, 82), tag_required=True),
            EventType('volume-reimaged', (2, 93)),
        )
    }
)

#: What a sender may say of an event; ``completed`` where it says nothing.
STATUSES = ('failed', 'completed', 'in-progress')
DEFAULT_STATUS = 'completed'

#: Characters of a tag: the request schema of the compute service.
MAX_TAG_LENGTH = 255

#: Events of one message between the services: more than a batch may have, see ``[api] max_events``.
MAX_EVENTS = 100_000

#: The form of a uuid that is passed around inside.
_CANONICAL = re.compile('[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}')

#: Namespace of the event ids that are derived from a sender's request id.
_ID_NAMESPACE = uuid.UUID('5b0d8c1e-6d0b-5f0e-9a0a-3c5a3f2f6f41')


class Code(enum.IntEnum):
    """The code of one event in an answer: DESIGN, "Outcomes"."""

    DELIVERED = 200
    BAD_TAG = 400
    NO_SUCH_SERVER = 404
    NO_HOST = 422
    REFUSED = 500
    UNDELIVERED = 503


class Verdict(enum.StrEnum):
    """What a host says of one event in its acknowledgement."""

    HANDLED = 'handled'
    NOT_HERE = 'not-here'
    REFUSED = 'refused'


#: By what they are on the wire; to call the class takes ten times as long.
_VERDICTS = {str(verdict): verdict for verdict in Verdict}


# NOTE: this and the two after it are not frozen, which would make each of them, and
# there are several for an event, take five times as long. Nobody changes one.
@dataclasses.dataclass(slots=True, unsafe_hash=True)
class Event:
    """One event, from the handler to the host and back.

    :ivar name: a key of :data:`EVENT_TYPES`
    :ivar server_uuid: canonical form, lower case with dashes
    :ivar tag: what the event is about (a port, a volume), or None
    :ivar status: one of :data:`STATUSES`
    :ivar id: the same on every retry of this event, ours or its sender's, and
        on no other event; hosts drop what they have seen by it
    """

    name: str
    server_uuid: str
    tag: str | None = None
    status: str = DEFAULT_STATUS
    id: str = dataclasses.field(default_factory=ids.random_uuid)

    def to_dict(self) -> dict[str, Any]:
        """The event as a JSON object, for an RPC message."""
        return {
            'id': self.id,
            'name': self.name,
            'server_uuid': self.server_uuid,
            'tag': self.tag,
            'status': self.status,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Event:
        """Rebuild what :meth:`to_dict` made.

        The rules are those of a request body, and the server's uuid is canonical.

        :param data: any JSON value
        :raises MalformedMessage: a member is missing, or its value is not allowed
        """
        try:
            name, server_uuid, tag = data['name'], data['server_uuid'], data['tag']
            status, event_id = data['status'], data['id']
            if (
                name in EVENT_TYPES
                and _CANONICAL.fullmatch(server_uuid)
                and (tag is None or (type(tag) is str and len(tag) <= MAX_TAG_LENGTH))
                and status in STATUSES
                and checks.is_id(event_id)
            ):
                return cls(name, server_uuid, tag, status, event_id)
        except (KeyError, TypeError, IndexError):
            pass
        raise exceptions.MalformedMessage(what='event', value=data)


@dataclasses.dataclass(slots=True, unsafe_hash=True)
class Outcome:
    """The answer to one event.

    :ivar reason: why it was not delivered, for logs; never in a response body,
        whose members are fixed
    """

    event: Event
    code: Code
    reason: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The outcome as a JSON object, for an RPC message."""
        return {'event': self.event.to_dict(), 'code': int(self.code), 'reason': self.reason}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Outcome:
        """Rebuild what :meth:`to_dict` made.

        :raises MalformedMessage: a member is missing or has another type
        """
        try:
            event, code = Event.from_dict(data['event']), Code(data['code'])
            reason = data.get('reason')
        except (AttributeError, KeyError, TypeError, ValueError) as exc:
            raise exceptions.MalformedMessage(what='outcome', value=data) from exc
        return cls(event=event, code=code, reason=None if reason is None else str(reason))


@dataclasses.dataclass(slots=True, unsafe_hash=True)
class Delivery:
    """The events of one batch that concern one host: what one cast carries.

    :ivar id: names the delivery in its acknowledgements
    :ivar reply_to: the resolver worker that waits for them
    :ivar deadline: seconds since the epoch, by the resolver's clock; a host
        that finds the delivery later than this does not run its events
    :ivar events: in the order in which the host has to handle those of a server
    """

    id: str
    reply_to: str
    deadline: float
    events: tuple[Event, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Handling:
    """What the agent reports about one event, in addition to its verdict.

    :ivar waiter: whether a waiter on the host received the event
    :ivar wait_ms: with a waiter: how long it had waited when the event arrived. Without one:
        negative, how long ago the last wait for the event had ended; None: no such wait is known
    :ivar handler: the name of the last handler that was called; None: none was called
    :ivar handler_ms: how long the handlers took
    """

    waiter: bool
    wait_ms: int | None = None
    handler: str | None = None
    handler_ms: int | None = None


@dataclasses.dataclass(slots=True, unsafe_hash=True)
class Result:
    """What one host says of one event: a line of an acknowledgement.

    :ivar handling: None: the agent does not report it
    """

    event_id: str
    verdict: Verdict
    reason: str | None = None
    handling: Handling | None = None

    def to_dict(self) -> dict[str, Any]:
        """The result as a JSON object, for an RPC message."""
        return {'event_id': self.event_id, 'verdict': str(self.verdict), 'reason': self.reason}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Result:
        """Rebuild what :meth:`to_dict` made.

        A reason is cut, and loses what a database or a log cannot take.

        :param data: any JSON value
        :raises MalformedMessage: a member is missing, or its value is not allowed
        """
        try:
            event_id, verdict, reason = data['event_id'], _VERDICTS[data['verdict']], data.get('reason')
            if checks.is_id(event_id):
                if reason is not None:
                    reason = checks.clean_text(reason if type(reason) is str else checks.shown(reason))
                return cls(event_id, verdict, reason)
        except (KeyError, TypeError, IndexError, AttributeError):
            pass
        raise exceptions.MalformedMessage(what='result', value=data)


@dataclasses.dataclass(slots=True, unsafe_hash=True)
class Acknowledgement:
    """What one host says of some events of one delivery."""

    delivery_id: str
    host: str
    results: tuple[Result, ...]

    def to_dict(self) -> dict[str, Any]:
        """The acknowledgement as a JSON object, for an RPC message."""
        return {
            'delivery_id': self.delivery_id,
            'host': self.host,
            'results': [result.to_dict() for result in self.results],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Acknowledgement:
        """Rebuild what :meth:`to_dict` made.

        :param data: any JSON value
        :raises MalformedMessage: a member is missing, or its value is not allowed
        """
        try:
            delivery_id, host, results = data['delivery_id'], data['host'], data['results']
        except (KeyError, TypeError, IndexError):
            raise exceptions.MalformedMessage(what='acknowledgement', value=data) from None
        if not (checks.is_id(delivery_id) and checks.is_host(host) and type(results) is list):
            raise exceptions.MalformedMessage(what='acknowledgement', value=data)
        return cls(delivery_id, host, tuple(map(Result.from_dict, results)))


def canonical_uuid(text: str) -> str | None:
    """The lower-case dashed form of a uuid, or None if the text is none.

    Capitals, missing dashes, a ``urn:uuid:`` in front and braces around make
    no other uuid of it; anything more does, white space too.
    """
    if _CANONICAL.fullmatch(text):
        return text
    bare = text.replace('urn:', '').replace('uuid:', '').strip('{}').replace('-', '').lower()
    try:
        canonical = uuid.UUID(bare)
    except ValueError:
        return None
    # NOTE: uuid.UUID reads the digits with int(), which takes underscores,
    # signs, white space and the digits of other scripts too.
    return str(canonical) if canonical.hex == bare else None


def names_at(version: Microversion) -> tuple[str, ...]:
    """The event names that the schema of a microversion admits, in table order."""
    return tuple(name for name, kind in EVENT_TYPES.items() if kind.min_version <= version)


def tag_problem(event: Event) -> str | None:
    """Why the event's tag makes the event meaningless, or None if it does not.

    An empty tag is a tag, as in Nova.
    """
    kind = EVENT_TYPES[event.name]
    if kind.tag_required and event.tag is None:
        return f'{event.name} needs a tag'
    if kind.tags and event.tag not in kind.tags:
        return f'the tag of {event.name} must be one of {", ".join(kind.tags)}'
    return None


def identify(events: Iterable[Event], request_id: str | None) -> list[Event]:
    """Give each event the id that it keeps on every retry.

    :param events: without ids, or with any
    :param request_id: the sender's global request id, which it repeats when it
        sends a batch again; None: the events get random ids
    :returns: the events in their order. Two equal events of one batch get
        different ids (the sender meant two), the same batch sent again gets
        the same ids.
    """
    if request_id is None:
        return [Event(event.name, event.server_uuid, event.tag, event.status) for event in events]
    seen: collections.defaultdict[tuple[str, ...], int] = collections.defaultdict(int)
    identified = []
    for event in events:
        tag = '' if event.tag is None else f'tag={event.tag}'
        content = (event.server_uuid, event.name, event.status, tag)
        # NOTE: control characters cannot occur in the other members, and the
        # tag is last, so that no two contents are joined to the same text.
        key = f'{request_id}\n{event.server_uuid}\n{event.name}\n{event.status}\n{seen[content]}\n{tag}'
        seen[content] += 1
        identified.append(Event(event.name, event.server_uuid, event.tag, event.status, _derived_id(key)))
    return identified


def _derived_id(key: str) -> str:
    # NOTE: uuid.uuid5 written out, because it cannot encode the lone surrogates
    # that a JSON string may hold.
    named = hashlib.sha1(_ID_NAMESPACE.bytes + key.encode('utf-8', 'surrogatepass'), usedforsecurity=False)
    return ids.as_uuid(named.hexdigest(), version=5)
