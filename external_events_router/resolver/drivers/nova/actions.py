"""Instance actions: the record in a cell's database under which nova-compute reports how an event went.

nova-compute finds it by the server and the request id of the cast, and its handler
fails where there is none. It is the only thing that is written in Nova's databases.
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
    """The action that an event is, or None if it is none."""
    match event.name:
        case 'volume-extended':
            return 'extend_volume'
        case 'power-update':
            return _OF_POWER.get(event.tag or '')
    return None


@session.retried
def record(database: session.Database, event: events.Event, ctxt: context.RequestContext) -> None:
    """Have the action there, once for each request and server, however often the event is sent.

    :param ctxt: of the request that the event came with
    :raises DatabaseUnavailable: it may not be there
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
