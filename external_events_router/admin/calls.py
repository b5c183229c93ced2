"""One request of the admin API after its validation, and its answer."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import json
from typing import Any

from external_events_router import context
from external_events_router.admin import services
from external_events_router.journal import actions


@dataclasses.dataclass(frozen=True, slots=True)
class Call:
    """A valid request of a permitted caller.

    :ivar path: path with the prefix of the application, for links
    :ivar params: parameters of the path
    :ivar query: parameters of the query, converted; all documented names are keys
    :ivar raw_query: the same as texts, for links
    :ivar body: the document of the body; an empty object if the operation has no body
    :ivar if_match: value of the header ``If-Match``
    """

    services: services.Services
    ctxt: context.RequestContext
    path: str
    params: Mapping[str, str]
    query: Mapping[str, Any]
    raw_query: Sequence[tuple[str, str]]
    body: Mapping[str, Any]
    if_match: str | None
    address: str | None

    @property
    def limit(self) -> int:
        """Return the maximum number of objects in the answer."""
        return int(self.query['limit'])

    @property
    def operator(self) -> actions.Operator:
        """The caller, for the journal."""
        ctxt = self.ctxt
        return actions.Operator(
            ctxt.user_name or ctxt.user_id or 'unknown',
            user_id=ctxt.user_id,
            project_id=ctxt.project_id,
            address=self.address,
            request_id=ctxt.global_request_id or ctxt.request_id,
        )

    @property
    def recording(self) -> actions.Recording:
        """Records an action of the caller, see ``journal.actions.recording``."""
        return actions.recording(self.services.actions, self.operator)


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a request.

    :ivar document: plain data; None: no body
    """

    document: Mapping[str, Any] | None
    status: int = 200
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)


def encode(document: Mapping[str, Any]) -> bytes:
    """Return JSON in ASCII: control and bidirectional characters are escaped, so they have no effect."""
    return json.dumps(document).encode('ascii')
