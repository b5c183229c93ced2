"""Events of the hold: filters, lists in pages, and the changes that an operator can make."""

from __future__ import annotations

import collections
from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Sequence
import dataclasses
from typing import Any

from oslo_config import cfg

from external_events_router import checks
from external_events_router import events
from external_events_router import exceptions
from external_events_router.operations import times
from external_events_router.resolver.hold import base
from external_events_router.resolver.hold import hold
from external_events_router.resolver.hold import inspection
from external_events_router.resolver.host_map import base as host_map_base


@dataclasses.dataclass(frozen=True, slots=True)
class Filter:
    """Selects the events that match all given filters. All clients use these names.

    :ivar host: a host that must acknowledge the event, or had to acknowledge it before it ended
    """

    host: str | None = None
    server: str | None = None
    state: base.State | None = None

    def selection(self, event_ids: Collection[str] = ()) -> inspection.Selection:
        """Return the filter for the hold.

        :param event_ids: only events with these ids; empty: all
        :raises MalformedMessage: the server is not a uuid
        """
        return inspection.Selection(
            event_ids=frozenset(event_ids) or None,
            state=self.state,
            host=self.host,
            server_uuid=None if self.server is None else host_map_base.server_uuid(self.server),
        )


@dataclasses.dataclass(frozen=True, slots=True)
class Preview:
    """The events that an operation would change.

    :ivar number: of events
    :ivar by_kind: state, name and number of events
    :ivar last_held: number of the last held event; likewise ``last_ended``. An operation with this preview
        does not change later events
    """

    number: int
    by_kind: Sequence[tuple[str, str, int]]
    last_held: int
    last_ended: int


@dataclasses.dataclass(frozen=True, slots=True)
class Retried:
    """The result of a retry.

    :ivar servers: number of servers whose events are retried now
    :ivar requeued: number of ended events that are held again
    :ivar not_requeued: number of ended events that are not held again, because their rows cannot be read or
        another operation changed them
    """

    servers: int
    requeued: int = 0
    not_requeued: int = 0


def show(held: inspection.Inspection, event_id: str) -> base.Record:
    """Return one event.

    :raises NoSuchEvent: the hold does not contain it
    :raises DatabaseUnavailable: the hold cannot be read
    """
    found = list(held.records(inspection.Selection(event_ids=frozenset({event_id}))))
    inspection.require_found(found, {event_id})
    # An event that was sent again can have several records: one held, and others ended.
    return found[0] if found[0].state is base.State.HELD else found[-1]


def preview(held: inspection.Inspection, chosen: Filter) -> Preview:
    """Count the events that match, and remember the last of them.

    :raises DatabaseUnavailable: the hold cannot be read
    """
    counts: collections.Counter[tuple[str, str]] = collections.Counter()
    last = {True: 0, False: 0}
    for record in held.records(chosen.selection()):
        is_held = record.state is base.State.HELD
        last[is_held] = max(last[is_held], record.seq)
        counts[str(record.state), record.event.name] += 1
    by_kind = [(state, name, number) for (state, name), number in sorted(counts.items())]
    return Preview(sum(counts.values()), by_kind, last[True], last[False])


def count(held: inspection.Inspection, chosen: Filter) -> list[tuple[str, str, int]]:
    """Return the number of events for each state and name.

    :raises DatabaseUnavailable: the hold cannot be read
    """
    return list(preview(held, chosen).by_kind)


def retry(
    held: inspection.Inspection,
    chosen: Filter,
    *,
    event_ids: Collection[str] = (),
    ttl: Callable[[events.Event], float],
) -> Retried:
    """Retry held events now: all matching events, or events by id. An ended event by id is held again.

    :param ttl: returns the seconds for which an ended event is held again, see :func:`lifetimes`
    :raises NoSuchEvent: the hold does not contain one of the ids; nothing was changed
    :raises DatabaseUnavailable: not all events are retried
    """
    selection = chosen.selection(event_ids)
    if not event_ids:
        return Retried(held.make_due(selection))
    found = list(held.records(selection))
    inspection.require_found(found, event_ids)
    ended = [record for record in found if record.state is not base.State.HELD]
    requeued = held.requeue(ended, ttl=ttl)
    return Retried(held.make_due(selection), requeued, len(ended) - requeued)


def drop(
    conf: cfg.ConfigOpts,
    held: inspection.Inspection,
    chosen: Filter,
    *,
    event_ids: Collection[str] = (),
    up_to: Preview | None = None,
) -> inspection.Dropped:
    """Delete held or ended events: all matching events, or events by id.

    :param up_to: only the events of this preview
    :returns: see :class:`inspection.Dropped`; ``until`` is None with nova-compute, which has no such time
    :raises NoSuchEvent: the hold does not contain one of the ids; nothing was changed
    :raises DatabaseUnavailable: not all events are deleted
    """
    selection = chosen.selection(event_ids)
    if up_to is not None:
        selection = dataclasses.replace(selection, last_held=up_to.last_held, last_ended=up_to.last_ended)
    if event_ids:
        inspection.require_found(held.records(selection), event_ids)
    dropped = held.drop(selection, grace=conf.delivery.ack_timeout)
    return dataclasses.replace(dropped, until=None) if conf.compute.driver == 'nova' else dropped


def lifetimes(conf: cfg.ConfigOpts, seconds: float | None = None) -> Callable[[events.Event], float]:
    """Return a function that returns the seconds for which an ended event is held again.

    :param seconds: the same for all events; None: the values of ``[delivery]``
    :raises ConfigurationError: a value of the configuration is not valid
    """
    of_names = hold.Lifetimes.from_conf(conf)
    return of_names.of if seconds is None else lambda event: seconds


def document(record: base.Record) -> dict[str, Any]:
    """Return an event as plain data; times are ISO 8601 in UTC."""
    event = record.event
    return {
        'event': event.id,
        'state': str(record.state),
        'name': event.name,
        'server': event.server_uuid,
        'hosts': list(record.hosts),
        'acknowledged': list(record.acknowledged),
        'expires_at': None if record.expires_at is None else times.utc(record.expires_at),
        'ended_at': None if record.ended_at is None else times.utc(record.ended_at),
        'tag': event.tag,
        'status': event.status,
        'request': record.request_id,
        'attempts': record.attempts,
        'held_at': times.utc(record.held_at),
        'reason': record.reason,
    }


def marker(record: base.Record) -> str:
    """Return the text that continues a list after an event."""
    return f'{_HELD if record.state is base.State.HELD else _ENDED}-{record.seq}'


def parse_marker(text: str) -> inspection.Position:
    """Return the position of a marker.

    :raises InvalidArgument: the text is not a marker
    """
    kind, _, seq = text.partition('-')
    if kind not in (_HELD, _ENDED) or not (seq.isascii() and seq.isdigit() and len(seq) < 19):
        raise exceptions.InvalidArgument(f'{checks.shown(text)} is not a marker of a list of held events')
    return inspection.Position(kind == _ENDED, int(seq))


_HELD, _ENDED = 'held', 'ended'
