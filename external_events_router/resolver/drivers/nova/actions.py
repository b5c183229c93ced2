"""Instance actions: records in the database of a cell, in which nova-compute reports the result of an event.

nova-compute finds the record by the server and the request id of the cast, and its handler fails without
the record. It is the only data that this service writes to databases of Nova.
"""

from __future__ import annotations

import sqlalchemy as sa

from external_events_router import context
from external_events_router import events
from external_events_router.db import session
from external_events_router.resolver.drivers.nova import contexts
from external_events_router.resolver.drivers.nova import tables

_OF_POWER = {'POWER_ON': 'start', 'POWER_OFF': 'stop'}


def of(event: events.Event) -> str | None:
    """Return the name of the action of an event, or None if the event has no action."""
    match event.name:
        case 'volume-extended':
            return 'extend_volume'
        case 'power-update':
            return _OF_POWER.get(event.tag or '')
    return None


@session.retried
def record(database: session.Database, event: events.Event, ctxt: context.RequestContext) -> None:
    """Create the action if it does not exist: one for each request and server, for any number of attempts.

    :param ctxt: context of the request that contained the event
    :raises DatabaseUnavailable: the action may not exist
    """
    actions, name = tables.instance_actions, of(event)
    if name is None:
        return
    there = sa.select(actions.c.id).where(
        actions.c.instance_uuid == event.server_uuid,
        actions.c.request_id == ctxt.request_id,
        actions.c.action == name,
    )
    now = contexts.now()
    with database.writing() as connection:
        if connection.scalar(there.limit(1)) is None:
            connection.execute(
                sa.insert(actions).values(
                    action=name,
                    instance_uuid=event.server_uuid,
                    request_id=ctxt.request_id,
                    user_id=ctxt.user_id,
                    project_id=ctxt.project_id,
                    start_time=now,
                    created_at=now,
                    updated_at=now,
                    deleted=0,
                )
            )
