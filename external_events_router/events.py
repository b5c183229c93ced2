"""Events, their outcomes, and the table of names, tags and codes.

Imports only the standard library and leaf modules, so every package may import it. ``agent``
processes events on a host, and ``api`` chooses the HTTP status.
"""

from __future__ import annotations

import collections
from collections.abc import Iterable
from collections.abc import Iterator
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

#: The highest compute microversion of this service. Nova 34 (2026.2) documents 2.104 as its maximum;
#: no microversion after 2.93 changes this resource.
MAX_MICROVERSION: Microversion = (2, 104)
MIN_MICROVERSION: Microversion = (2, 1)


@dataclasses.dataclass(frozen=True, slots=True)
class EventType:
    """The properties of all events with the same name.

    :ivar name: as in the request body, for example ``network-vif-plugged``
    :ivar min_version: first microversion that accepts the name
    :ivar tag_required: an event without a tag gets 400
    :ivar tags: the only valid tags; empty: any tag
    """

    name: str
    min_version: Microversion
    tag_required: bool = False
    tags: tuple[str, ...] = ()


#: Names and microversions are from the API reference of the compute service, "Create external
#: events", and the REST API version history. The names that need a tag were measured with a running
#: Nova 34.
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

#: Values of the status of an event; ``completed`` is the default.
STATUSES = ('failed', 'completed', 'in-progress')
DEFAULT_STATUS = 'completed'

#: Maximum characters of a tag: from the request schema of the compute service.
MAX_TAG_LENGTH = 255

#: Maximum number of events in one message between services: more than in any batch, see ``[api]
#: max_events``.
MAX_EVENTS = 100_000

#: The form of all uuids inside the service.
_CANONICAL = re.compile('[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}')

#: Namespace for event ids that are derived from the request id of the sender.
_ID_NAMESPACE = uuid.UUID('5b0d8c1e-6d0b-5f0e-9a0a-3c5a3f2f6f41')


class Code(enum.IntEnum):
    """The code of one event in a response. The architecture page, "Decision of a code", explains them."""

    DELIVERED = 200
    BAD_TAG = 400
    NO_SUCH_SERVER = 404
    NO_HOST = 422
    REFUSED = 500
    UNDELIVERED = 503


class Verdict(enum.StrEnum):
    """The result of one event on a host, in an acknowledgement."""

    HANDLED = 'handled'
    NOT_HERE = 'not-here'
    REFUSED = 'refused'


#: Lookup by the value in a message, because calling the class takes ten times as long.
_VERDICTS = {str(verdict): verdict for verdict in Verdict}


# NOTE: this class and the two classes after it are not frozen, because creating a frozen object takes
# five times as long, and there are several objects for each event. Treat them as immutable.
@dataclasses.dataclass(slots=True, unsafe_hash=True)
class Event:
    """One event, from the handler to the host and back.

    :ivar name: a key of :data:`EVENT_TYPES`
    :ivar server_uuid: canonical form, lower case with dashes
    :ivar tag: object of the event (a port, a volume), or None
    :ivar status: one of :data:`STATUSES`
    :ivar id: unique id; the same on every retry of the event by this service or its sender. Hosts
        ignore an event whose id they have already received
    """

    name: str
    server_uuid: str
    tag: str | None = None
    status: str = DEFAULT_STATUS
    id: str = dataclasses.field(default_factory=ids.random_uuid)

    def to_dict(self) -> dict[str, Any]:
        """Return the event as a JSON object for an RPC message."""
        return {
            'id': self.id,
            'name': self.name,
            'server_uuid': self.server_uuid,
            'tag': self.tag,
            'status': self.status,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Event:
        """Rebuild an event from the result of :meth:`to_dict`.

        The rules are the same as for a request body; in addition the uuid must be canonical.

        :param data: any JSON value
        :raises MalformedMessage: a member is missing or not valid
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

    :ivar reason: why the event was not delivered, for logs. It is never part of a response, whose
        members are fixed
    """

    event: Event
    code: Code
    reason: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the outcome as a JSON object for an RPC message."""
        return {'event': self.event.to_dict(), 'code': int(self.code), 'reason': self.reason}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Outcome:
        """Rebuild an outcome from the result of :meth:`to_dict`.

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
    """The events of one batch for one host: the content of one cast.

    :ivar id: identifies the delivery in its acknowledgements
    :ivar reply_to: resolver worker that waits for the acknowledgements
    :ivar deadline: seconds since the epoch, by the clock of the resolver; a host that receives the
        delivery later does not handle its events
    :ivar events: the host has to handle events of the same server in this order
    """

    id: str
    reply_to: str
    deadline: float
    events: tuple[Event, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Handling:
    """Details that the agent reports about one event, in addition to its verdict.

    :ivar waiter: whether a waiter on the host received the event
    :ivar wait_ms: with a waiter: milliseconds that it had waited when the event arrived. Without a
        waiter: negative, milliseconds since the end of the last wait for the event; None: there was no wait
    :ivar handler: name of the last handler that was called; None: no handler was called
    :ivar handler_ms: milliseconds that the handlers took
    """

    waiter: bool
    wait_ms: int | None = None
    handler: str | None = None
    handler_ms: int | None = None


#: No waiter received the event, and it has no handler.
NOT_HANDLED = Handling(False)

#: Characters of the name of a handler, and milliseconds, in what an agent reports.
MAX_HANDLER = 64
MAX_MILLISECONDS = 2**31 - 1


@dataclasses.dataclass(slots=True, unsafe_hash=True)
class Result:
    """The result of one event on one host: an element of an acknowledgement.

    :ivar handling: details from the agent; None: the agent does not report them
    """

    event_id: str
    verdict: Verdict
    reason: str | None = None
    handling: Handling | None = None

    def to_dict(self, *, details: bool = True) -> dict[str, Any]:
        """Return the result as a JSON object for an RPC message.

        :param details: include the members of ``handling`` that have a value
        """
        data: dict[str, Any] = {
            'event_id': self.event_id,
            'verdict': str(self.verdict),
            'reason': self.reason,
        }
        if details and self.handling is not None and self.handling is not NOT_HANDLED:
            data.update(_handling_members(self.handling))
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], *, details: bool = False) -> Result:
        """Rebuild it from the result of :meth:`to_dict`.

        A reason is cut, and characters that a database or a log does not accept are replaced.

        :param data: any JSON value
        :param details: the agent reports ``handling``
        :raises MalformedMessage: a member is missing or not valid
        """
        try:
            event_id, verdict, reason = data['event_id'], _VERDICTS[data['verdict']], data.get('reason')
            if checks.is_id(event_id):
                if reason is not None:
                    reason = checks.clean_text(reason if type(reason) is str else checks.shown(reason))
                return cls(event_id, verdict, reason, _handling(data) if details else None)
        except (KeyError, TypeError, IndexError, AttributeError):
            pass
        raise exceptions.MalformedMessage(what='result', value=data)


@dataclasses.dataclass(slots=True, unsafe_hash=True)
class Acknowledgement:
    """Results of one host for some or all events of one delivery."""

    delivery_id: str
    host: str
    results: tuple[Result, ...]

    def to_dict(self, *, details: bool = True) -> dict[str, Any]:
        """Return the acknowledgement as a JSON object for an RPC message.

        :param details: include the handling of each event as far as it is known, and the member
            ``details``; without this member, the agent did not report any handling
        """
        data: dict[str, Any] = {
            'delivery_id': self.delivery_id,
            'host': self.host,
            'results': [result.to_dict(details=details) for result in self.results],
        }
        if details and any(result.handling is not None for result in self.results):
            data['details'] = True
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Acknowledgement:
        """Rebuild an acknowledgement from the result of :meth:`to_dict`.

        :param data: any JSON value
        :raises MalformedMessage: a member is missing or not valid
        """
        try:
            delivery_id, host, results = data['delivery_id'], data['host'], data['results']
        except (KeyError, TypeError, IndexError):
            raise exceptions.MalformedMessage(what='acknowledgement', value=data) from None
        if not (checks.is_id(delivery_id) and checks.is_host(host) and type(results) is list):
            raise exceptions.MalformedMessage(what='acknowledgement', value=data)
        details = data.get('details') is True
        return cls(delivery_id, host, tuple([Result.from_dict(each, details=details) for each in results]))


def _handling_members(handling: Handling) -> Iterator[tuple[str, object]]:
    if handling.waiter:
        yield 'waited_ms', handling.wait_ms or 0
    elif handling.wait_ms is not None:
        yield 'wait_ended_ms', -handling.wait_ms
    if handling.handler is not None:
        yield 'handler', handling.handler
        yield 'handler_ms', handling.handler_ms


def _handling(data: Mapping[str, Any]) -> Handling:
    """Return the handling in the result of an agent; ignore a member with an invalid value."""
    if len(data) <= 3:  # event_id, verdict and reason
        return NOT_HANDLED
    waited, ended = _milliseconds(data.get('waited_ms')), _milliseconds(data.get('wait_ended_ms'))
    handler, wait_ms = data.get('handler'), waited
    if waited is None and ended is not None:
        wait_ms = -ended
    if type(handler) is not str:
        return Handling(waited is not None, wait_ms)
    taken = _milliseconds(data.get('handler_ms'))
    return Handling(waited is not None, wait_ms, checks.clean_text(handler, MAX_HANDLER), taken)


def _milliseconds(value: object) -> int | None:
    return value if type(value) is int and 0 <= value <= MAX_MILLISECONDS else None


def canonical_uuid(text: str) -> str | None:
    """Return a uuid in lower case with dashes, or None if the text is not a uuid.

    Upper case, missing dashes, the prefix ``urn:uuid:`` and surrounding braces are accepted. Other
    differences, also white space, are not.
    """
    if _CANONICAL.fullmatch(text):
        return text
    bare = text.replace('urn:', '').replace('uuid:', '').strip('{}').replace('-', '').lower()
    try:
        canonical = uuid.UUID(bare)
    except ValueError:
        return None
    # NOTE: uuid.UUID reads the digits with int(), which also accepts underscores, signs, white space
    # and digits of other scripts.
    return str(canonical) if canonical.hex == bare else None


def names_at(version: Microversion) -> tuple[str, ...]:
    """Return the event names that the schema of a microversion accepts, in the order of the table."""
    return tuple(name for name, kind in EVENT_TYPES.items() if kind.min_version <= version)


def tag_problem(event: Event) -> str | None:
    """Return why the tag of an event is not valid, or None if it is valid.

    An empty tag counts as a tag, as in Nova.
    """
    kind = EVENT_TYPES[event.name]
    if kind.tag_required and event.tag is None:
        return f'{event.name} needs a tag'
    if kind.tags and event.tag not in kind.tags:
        return f'the tag of {event.name} must be one of {", ".join(kind.tags)}'
    return None


def identify(submissions: Iterable[Mapping[str, str]], request_id: str | None) -> list[Event]:
    """Build the events of a batch, each with the id that it keeps on every retry.

    :param submissions: valid events of a request body, see ``schemas``
    :param request_id: global request id of the sender, which it repeats when it sends the batch again;
        None: the events get random ids
    :returns: the events in their order. Two equal events of one batch get different ids, because
        the sender wanted two. The same batch gets the same ids when it is sent again.
    """
    seen: collections.defaultdict[tuple[str | None, ...], int] = collections.defaultdict(int)
    batch = []
    for submission in submissions:
        server_uuid = canonical_uuid(submission['server_uuid'])
        assert server_uuid is not None  # noqa: S101 - the format in the schema guarantees it
        name, tag = submission['name'], submission.get('tag')
        status = submission.get('status', DEFAULT_STATUS)
        if request_id is None:
            batch.append(Event(name, server_uuid, tag, status))
            continue
        content = (server_uuid, name, status, tag)
        # NOTE: the other members cannot contain control characters, and the tag is last, so different
        # contents always result in different texts.
        shown_tag = '' if tag is None else f'tag={tag}'
        key = f'{request_id}\n{server_uuid}\n{name}\n{status}\n{seen[content]}\n{shown_tag}'
        seen[content] += 1
        batch.append(Event(name, server_uuid, tag, status, _derived_id(key)))
    return batch


def _derived_id(key: str) -> str:
    # NOTE: the algorithm of uuid.uuid5, which cannot encode the lone surrogates that a JSON string may
    # contain.
    named = hashlib.sha1(_ID_NAMESPACE.bytes + key.encode('utf-8', 'surrogatepass'), usedforsecurity=False)
    return ids.as_uuid(named.hexdigest(), version=5)
