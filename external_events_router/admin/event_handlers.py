"""Events of the journal, servers, and the prediction of an answer."""

from __future__ import annotations

from typing import Any

from external_events_router import events
from external_events_router.admin import calls
from external_events_router.admin import paging
from external_events_router.admin import parameters
from external_events_router.api import faults
from external_events_router.journal import explain as explaining
from external_events_router.journal import reads
from external_events_router.operations import events as operation
from external_events_router.operations import explain
from external_events_router.operations import simulate
from external_events_router.operations import times

#: Seconds after which a client should ask again if all places for waiting are in use.
RETRY_AFTER = 5


def list_events(call: calls.Call) -> calls.Answer:
    """List events that arrived in a period, the newest first."""
    rows, query = call.services.rows, call.query
    now = rows.now()
    # NOTE: the journal has no older rows, and each part of a period is a query.
    oldest = now - call.services.conf.journal.keep
    until = query['until'].seconds(now) if query['until'] else now
    period = reads.Period(
        since=times.microseconds(max(oldest, query['since'].seconds(now))),
        until=times.microseconds(min(now, until)),
        after=query['marker'],
        newest_first=not query['oldest_first'],
    )
    found, after = parameters.event_filter(query).matches(rows.reader).page(period, limit=call.limit)
    documents = [operation.document(event, state) for event, state in found]
    return paging.page(call, 'events', documents, _marker(after))


def follow(call: calls.Call) -> calls.Answer:
    """Wait for events that arrive after the previous call. The first call only returns a link."""
    if not call.services.followers.acquire(blocking=False):
        raise faults.Fault(503, 'Too many requests wait for new events. Try again later.')
    try:
        rows, query = call.services.rows, call.query
        matches = parameters.event_filter(query).matches(rows.reader)
        end = operation.instant(query['wait'])
        found, after = operation.wait_for_new(rows, matches, query['marker'], limit=call.limit, end=end)
    finally:
        call.services.followers.release()
    documents = [operation.document(event, state) for event, state in found]
    return paging.page(call, 'events', documents, _marker(after))


def show_event(call: calls.Call) -> calls.Answer:
    """Show everything that happened to an event."""
    posted, history = operation.history(
        call.services.rows, call.params['event'], keep=call.services.conf.journal.keep
    )
    states = operation.Filter().matches(call.services.rows.reader)
    return calls.Answer(
        {
            'event': call.params['event'],
            'posted': [operation.document(event, states.state_of(event)) for event in posted],
            'history': operation.entries(history),
        }
    )


def show_timeline(call: calls.Call) -> calls.Answer:
    """Show the timeline of the events of a server."""
    document = _explained(call)
    members = ('server', 'port', 'name', 'since', 'until', 'relative_to', 'timeline', 'complete', 'warnings')
    return calls.Answer({member: document[member] for member in members})


def explain_server(call: calls.Call) -> calls.Answer:
    """Show the timeline, the verdict and the next step for the events of a server."""
    return calls.Answer(_explained(call))


def simulate_event(call: calls.Call) -> calls.Answer:
    """Predict the answer to an event."""
    body, conf = call.body, call.services.conf
    event = events.Event(body['name'], parameters.server(body['server']), body.get('tag'))
    _, answer = simulate.simulate(conf, call.services.database, event, breakers=simulate.asking(conf))
    return calls.Answer(answer)


def _explained(call: calls.Call) -> dict[str, Any]:
    rows, conf, query = call.services.rows, call.services.conf, call.query
    now = rows.now()
    since, until = explain.period(now, since=query['since'], at=query['at'])
    explanation = explain.explain(
        conf,
        rows,
        call.params['server'],
        period=(max(since, min(until - 1.0, now - conf.journal.keep)), until),
        port=query['port'],
        name=query['name'],
    )
    return explaining.document(explanation)


def _marker(after: reads.Key | None) -> str | None:
    return None if after is None else '-'.join(map(str, after))
