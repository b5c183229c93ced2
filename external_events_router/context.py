"""The request context: who asks, and under which request ids.

A leaf on oslo.context. It is made in the front, travels with every RPC (see
``rpc.ContextSerializer``), and is what oslo.log prints in every line.
"""

from __future__ import annotations

from oslo_context import context


class RequestContext(context.RequestContext):
    """oslo.context's own, under a name of ours for the annotations.

    ``request_id`` is this service's id for the request, ``global_request_id``
    the one that the sender brought in ``X-OpenStack-Request-ID``.
    """


def for_service() -> RequestContext:
    """A context for work that no request asked for (reports, start-up)."""
    return RequestContext(is_admin=True, overwrite=True)
