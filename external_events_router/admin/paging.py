"""Links of lists: the next page has the same filters and another marker."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
import urllib.parse

from external_events_router.admin import calls


def page(
    call: calls.Call, name: str, documents: Sequence[Mapping[str, Any]], marker: str | None
) -> calls.Answer:
    """Return a page of a list.

    :param name: of the member with the objects
    :param marker: of the next page; None: this is the last page
    """
    links = [] if marker is None else [{'rel': 'next', 'href': next_link(call, marker)}]
    return calls.Answer({name: list(documents), 'links': links})


def next_link(call: calls.Call, marker: str) -> str:
    """Return the path and the query of the next page."""
    kept = [(name, text) for name, text in call.raw_query if name != 'marker']
    return f'{call.path}?{urllib.parse.urlencode([*kept, ("marker", marker)])}'
