"""The request context as nova-compute expects it."""

from __future__ import annotations

import datetime
from typing import Any

from external_events_router import context


def on_the_wire(ctxt: context.RequestContext) -> dict[str, Any]:
    """The context of a cast: who asked, under which id, with an administrator's rights.

    No token goes along. Without one nova-compute asks Neutron and Cinder as the
    user of its own configuration, however late the event is handled.
    """
    return {
        **ctxt.to_dict(),
        'auth_token': None,
        'is_admin': True,
        'project_name': ctxt.project_name,
        'quota_class': None,
        'read_deleted': 'no',
        'remote_address': None,
        'service_catalog': [],
        'timestamp': now().isoformat(timespec='microseconds'),
        'user_name': ctxt.user_name,
    }


def now() -> datetime.datetime:
    """The time as Nova writes it: UTC, and not saying so."""
    return datetime.datetime.now(datetime.UTC).replace(tzinfo=None)
