"""The request context: the caller and the request ids.

Imports only oslo.context. The API creates it, every RPC message contains it (see
``rpc.ContextSerializer``), and oslo.log writes it into every message.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from typing import Self

from oslo_context import context

from external_events_router import ids

#: Members of a context that are sent to other processes.
CARRIED = ('request_id', 'global_request_id', 'user_id', 'project_id', 'is_admin', 'roles')
_CARRIED = frozenset(CARRIED)
_TEXTS = _CARRIED - {'is_admin', 'roles'}

#: Maximum characters of a member, and maximum number of roles, in a context from another process.
MAX_MEMBER = 255
MAX_ROLES = 100


class RequestContext(context.RequestContext):
    """The context of oslo.context, with two differences for this service.

    ``request_id`` is the id that this service gives the request. ``global_request_id`` is the id of
    the sender in ``X-OpenStack-Request-ID``. :meth:`to_dict` also contains ``user_id``, which
    oslo.context calls ``user``. The values for the log are cached.
    """

    _logged: dict[str, Any] | None = None

    def get_logging_values(self) -> dict[str, Any]:
        # NOTE: oslo.log calls this twice for each message, and the values do not change.
        if self._logged is None:
            self._logged = super().get_logging_values()
        return self._logged

    def to_dict(self) -> dict[str, Any]:
        return {**super().to_dict(), 'user_id': self.user_id}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], **kwargs: Any) -> Self:
        if not kwargs and _CARRIED.issuperset(values):
            # The format of on_the_wire(). Other formats take four times as long.
            return cls(**values)
        kwargs.setdefault('user_id', values.get('user_id') or values.get('user'))
        return super().from_dict(dict(values), **kwargs)


class Deferred:
    """The context of a message, made from its members only if it is needed, because this takes a while."""

    __slots__ = ('_made', '_members')

    def __init__(self, members: object, made: RequestContext | None = None) -> None:
        """:param members: see :func:`from_wire`
        :param made: the context, if it exists already
        """
        self._members = members
        self._made = made

    def get(self) -> RequestContext:
        """Return the context, and store it for the log messages of this thread."""
        made = self._made
        if made is None:
            made = self._made = from_wire(self._members)
        made.update_store()
        return made


def from_wire(values: object) -> RequestContext:
    """Return the context of a message from another process.

    Unknown members and invalid values are ignored: the processing of a message does not depend on
    them.

    :param values: result of :func:`on_the_wire` or ``to_dict``; may be any JSON value
    """
    if type(values) is not dict:
        return RequestContext()
    kept: dict[str, Any] = {}
    # NOTE: written out, because an agent does this for each delivery that has a handler.
    for name, value in values.items():
        if type(value) is str:
            if name in _TEXTS and len(value) <= MAX_MEMBER and value.isascii() and value.isprintable():
                kept[name] = value
        elif (name == 'roles' and _is_roles(value)) or (name == 'is_admin' and type(value) is bool):
            kept[name] = value
    if 'user_id' not in kept and _is_text(values.get('user')):
        kept['user_id'] = values['user']
    return RequestContext(**kept)


def _is_roles(value: object) -> bool:
    return type(value) is list and len(value) <= MAX_ROLES and all(map(_is_text, value))


def _is_text(value: object) -> bool:
    return type(value) is str and len(value) <= MAX_MEMBER and value.isascii() and value.isprintable()


def new_request_id() -> str:
    """Return a new request id, in the format of OpenStack."""
    return f'req-{ids.random_uuid()}'


def for_service() -> RequestContext:
    """Return a context for work without a request (reports, start)."""
    return RequestContext(is_admin=True, overwrite=True)


def on_the_wire(ctxt: RequestContext) -> dict[str, Any]:
    """Return the members of a context that are set, for a message with direct AMQP; see ``from_dict``."""
    return {name: value for name in CARRIED if (value := getattr(ctxt, name))}
