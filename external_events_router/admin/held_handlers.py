"""Events of the hold: lists, and changes of one event or of all events that match a filter."""

from __future__ import annotations

import itertools
from typing import Any

from external_events_router.admin import calls
from external_events_router.admin import confirmations
from external_events_router.admin import etags
from external_events_router.admin import paging
from external_events_router.admin import parameters
from external_events_router.api import faults
from external_events_router.operations import held as operation
from external_events_router.operations import times
from external_events_router.resolver.hold import inspection

DROP, RETRY = 'held:drop', 'held:retry'


def list_held(call: calls.Call) -> calls.Answer:
    """List events of the hold: held events in their order, then ended events."""
    selection = parameters.held_filter(call.query).selection()
    found = call.services.hold(call.operator).records(selection, after=call.query['marker'])
    records = list(itertools.islice(found, call.limit + 1))
    page = records[: call.limit]
    marker = operation.marker(page[-1]) if len(records) > len(page) else None
    return paging.page(call, 'held', [operation.document(record) for record in page], marker)


def show_held(call: calls.Call) -> calls.Answer:
    """Show one event of the hold."""
    document = operation.document(operation.show(call.services.hold(call.operator), call.params['event']))
    return calls.Answer(document, headers={'ETag': etags.of(document)})


def retry_one(call: calls.Call) -> calls.Answer:
    """Retry one event now; an ended event is held again."""
    hold, event_id = call.services.hold(call.operator), call.params['event']
    with call.recording(RETRY, {'event': event_id}) as done:
        etags.check(call.if_match, operation.document(operation.show(hold, event_id)))
        ttl = operation.lifetimes(call.services.conf, call.body.get('ttl'))
        retried = operation.retry(hold, operation.Filter(), event_ids=[event_id], ttl=ttl)
        done.number = 1 if retried.servers else 0
    return calls.Answer(_retried(retried))


def drop_one(call: calls.Call) -> calls.Answer:
    """Delete one event of the hold."""
    hold, event_id = call.services.hold(call.operator), call.params['event']
    with call.recording(DROP, {'event': event_id}) as done:
        etags.check(call.if_match, operation.document(operation.show(hold, event_id)))
        dropped = operation.drop(call.services.conf, hold, operation.Filter(), event_ids=[event_id])
        done.number = dropped.events
        if call.if_match is not None and not dropped.events:
            raise faults.Fault(412, 'The event was changed since it was read: read it again.')
    return calls.Answer(_dropped(dropped))


def preview_retry(call: calls.Call) -> calls.Answer:
    """Count the events that a retry with a filter would change, and return a confirmation."""
    return _preview(call, RETRY)


def preview_drop(call: calls.Call) -> calls.Answer:
    """Count the events that a drop with a filter would delete, and return a confirmation."""
    return _preview(call, DROP)


def retry_many(call: calls.Call) -> calls.Answer:
    """Retry all held events that match a filter. The request needs the confirmation of a preview."""
    hold, chosen = call.services.hold(call.operator), parameters.held_filter(call.body['filter'])
    with call.recording(RETRY, confirmations.described(chosen)) as done:
        confirmed = _confirmed(call, RETRY, chosen)
        ttl = operation.lifetimes(call.services.conf)
        retried = operation.retry(hold, chosen, ttl=ttl)
        done.number = confirmed.number if retried.servers else 0
    return calls.Answer(_retried(retried))


def drop_many(call: calls.Call) -> calls.Answer:
    """Delete all events that a preview counted. The request needs the confirmation of the preview.

    Events that ended or were acknowledged since the preview are left out, and so are later events.
    """
    hold, chosen = call.services.hold(call.operator), parameters.held_filter(call.body['filter'])
    with call.recording(DROP, confirmations.described(chosen)) as done:
        confirmed = _confirmed(call, DROP, chosen)
        dropped = operation.drop(call.services.conf, hold, chosen, up_to=confirmed)
        done.number = dropped.events
    return calls.Answer(_dropped(dropped))


def _preview(call: calls.Call, action: str) -> calls.Answer:
    chosen = parameters.held_filter(call.body)
    preview = operation.preview(call.services.hold(call.operator), chosen)
    text, expires = call.services.confirmations.make(
        action, call.ctxt.user_id, chosen, preview, now=call.services.rows.now()
    )
    return calls.Answer(
        {
            'action': action,
            'filter': confirmations.described(chosen),
            'count': preview.number,
            'kinds': [
                {'state': state, 'name': name, 'count': number} for state, name, number in preview.by_kind
            ],
            'confirmation': text,
            'expires_at': times.utc(expires),
        }
    )


def _confirmed(call: calls.Call, action: str, chosen: operation.Filter) -> operation.Preview:
    return call.services.confirmations.check(
        call.body['confirmation'], action, call.ctxt.user_id, chosen, now=call.services.rows.now()
    )


def _retried(retried: operation.Retried) -> dict[str, Any]:
    return {
        'servers_rescheduled': retried.servers,
        'events_requeued': retried.requeued,
        'events_not_requeued': retried.not_requeued,
    }


def _dropped(dropped: inspection.Dropped) -> dict[str, Any]:
    return {
        'dropped': dropped.events,
        'may_be_handled_by': sorted(dropped.hosts),
        'may_be_handled_until': None if dropped.until is None else times.utc(dropped.until),
    }
