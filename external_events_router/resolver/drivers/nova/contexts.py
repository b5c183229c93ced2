"""The request context in the format of nova-compute."""

from __future__ import annotations

import datetime
from typing import Any

from external_events_router import context


def on_the_wire(ctxt: context.RequestContext) -> dict[str, Any]:
    """Return the context of a cast: the caller and the request id, with the rights of an administrator.

    It contains no token. Without a token, nova-compute calls Neutron and Cinder as the user of its own
    configuration, at any time after the request.
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
    """Return the time in the format of Nova: UTC, without a time zone."""
    return datetime.datetime.now(datetime.UTC).replace(tzinfo=None)
