"""The request context: who asks, and under which request ids.

A leaf on oslo.context. It is made in the front, travels with every RPC (see
``rpc.ContextSerializer``), and is what oslo.log prints in every line.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from typing import Self

from oslo_context import context

from external_events_router import ids

#: What of a context matters beyond the process where it was made.
CARRIED = ('request_id', 'global_request_id', 'user_id', 'project_id', 'is_admin', 'roles')
_CARRIED = frozenset(CARRIED)

#: Characters of a member, and roles, that are taken from another process.
MAX_MEMBER = 255
MAX_ROLES = 100


class RequestContext(context.RequestContext):
    """oslo.context's own, under a name of ours for the annotations.

    ``request_id`` is this service's id for the request, ``global_request_id``
    the one that the sender brought in ``X-OpenStack-Request-ID``. As a dict it has
    ``user_id`` too, which oslo.context calls ``user`` there.
    """

    _logged: dict[str, Any] | None = None

    def get_logging_values(self) -> dict[str, Any]:
        # NOTE: oslo.log asks twice for each line, and none of it changes.
        if self._logged is None:
            self._logged = super().get_logging_values()
        return self._logged

    def to_dict(self) -> dict[str, Any]:
        return {**super().to_dict(), 'user_id': self.user_id}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], **kwargs: Any) -> Self:
        if not kwargs and _CARRIED.issuperset(values):
            # As on_the_wire() has it; any other takes four times as long.
            return cls(**values)
        kwargs.setdefault('user_id', values.get('user_id') or values.get('user'))
        return super().from_dict(dict(values), **kwargs)


def from_wire(values: object) -> RequestContext:
    """The context of a message from another process.

    Members that are not known, or whose values are not allowed, are left out: the message
    does not depend on them.

    :param values: as :func:`on_the_wire` or ``to_dict`` makes it; any JSON value
    """
    if type(values) is not dict:
        return RequestContext()
    kept = {name: value for name, value in values.items() if name in _CARRIED and _is_valid(name, value)}
    if 'user_id' not in kept and _is_valid('user_id', values.get('user')):
        kept['user_id'] = values['user']
    return RequestContext(**kept)


def _is_valid(name: str, value: object) -> bool:
    if name == 'is_admin':
        return type(value) is bool
    if name == 'roles':
        return type(value) is list and len(value) <= MAX_ROLES and all(map(_is_text, value))
    return _is_text(value)


def _is_text(value: object) -> bool:
    return type(value) is str and len(value) <= MAX_MEMBER and value.isascii() and value.isprintable()


def new_request_id() -> str:
    """An id of ours for a request, in the form that all of OpenStack has."""
    return f'req-{ids.random_uuid()}'


def for_service() -> RequestContext:
    """A context for work that no request asked for (reports, start-up)."""
    return RequestContext(is_admin=True, overwrite=True)


def on_the_wire(ctxt: RequestContext) -> dict[str, Any]:
    """What of a context goes over the fast road, as ``from_dict`` takes it: what matters and is set."""
    return {name: value for name in CARRIED if (value := getattr(ctxt, name))}
