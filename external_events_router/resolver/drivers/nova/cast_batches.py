"""Pure decisions: the events of a host that go in one cast, and their order."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Sequence
import dataclasses

from external_events_router import context
from external_events_router import events

#: Events for which nova-compute only wakes waiting threads. They cannot fail. Other events may fail, and
#: events after a failed one in the same cast are lost.
WAKING = frozenset(
    {'network-vif-plugged', 'network-vif-unplugged', 'accelerator-request-bound', 'volume-reimaged'}
)

#: Events with an instance action, which nova-compute finds by the request id of the cast.
WITH_ACTION = frozenset({'volume-extended', 'power-update'})


@dataclasses.dataclass(frozen=True, slots=True)
class CastBatch:
    """One cast to a host.

    :ivar context: context of the request whose id it contains
    :ivar carried: events in the order in which they must be handled
    :ivar covers: for an event that replaces other events, the ids of these events
    """

    context: context.RequestContext
    carried: tuple[events.Event, ...]
    covers: dict[str, tuple[str, ...]]

    def ids(self, event: events.Event) -> tuple[str, ...]:
        """Return the ids of all events that have the same result as an event."""
        return (event.id, *self.covers.get(event.id, ()))


def group_into_casts(
    sent: Sequence[events.Event], context_of: Callable[[events.Event], context.RequestContext]
) -> list[CastBatch]:
    """Return the casts for the events of one host: one, unless several requests have events with actions.

    Events that only wake waiting threads are first. Of several ``network-changed`` events for the same
    server and tag, only the last is sent, for all of them.

    :param context_of: returns the context of the request that contained an event
    """
    if not sent:
        return []
    kept, covers = _coalesced(sent)
    first = context_of(kept[0])
    by_request: dict[str, tuple[context.RequestContext, list[events.Event]]] = {first.request_id: (first, [])}
    for event in kept:
        ctxt = context_of(event) if event.name in WITH_ACTION else first
        by_request.setdefault(ctxt.request_id, (ctxt, []))[1].append(event)
    return [
        CastBatch(ctxt, tuple(ordered), _only(covers, ordered))
        for ctxt, together in by_request.values()
        if (ordered := sorted(together, key=lambda event: event.name not in WAKING))
    ]


def _coalesced(
    sent: Iterable[events.Event],
) -> tuple[list[events.Event], dict[str, tuple[str, ...]]]:
    kept: dict[object, events.Event] = {}
    covers: dict[object, tuple[str, ...]] = {}
    for event in sent:
        same: object = event.id
        if event.name == 'network-changed':
            same = (event.server_uuid, event.tag)
            if (earlier := kept.pop(same, None)) is not None:
                covers[same] = (*covers.get(same, ()), earlier.id)
        kept[same] = event
    return list(kept.values()), {kept[same].id: ids for same, ids in covers.items()}


def _only(
    covers: dict[str, tuple[str, ...]], carried: Collection[events.Event]
) -> dict[str, tuple[str, ...]]:
    return {event.id: covers[event.id] for event in carried if event.id in covers}
