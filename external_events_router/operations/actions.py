"""The recorded actions of operators, in pages."""

from __future__ import annotations

from typing import Any

from external_events_router import checks
from external_events_router import exceptions
from external_events_router.journal import actions
from external_events_router.journal import timeline


def page(
    recorded: actions.Actions, *, since: int = 0, after: actions.Key | None = None, limit: int
) -> tuple[list[actions.ActionRow], actions.Key | None]:
    """Return some actions, the newest first.

    :param since: microseconds since the epoch
    :returns: the actions, and the position after which the next page begins; None: this is the last page
    """
    found = recorded.read(since=since, after=after, limit=limit + 1)
    rows = found[:limit]
    return rows, (rows[-1].at, rows[-1].seq) if len(found) > limit else None


def document(row: actions.ActionRow) -> dict[str, Any]:
    """Return an action as plain data; the time is ISO 8601 in UTC."""
    operator = row.operator
    return {
        'time': timeline.utc(row.at),
        'action': row.action,
        'user': operator.name,
        'user_id': operator.user_id,
        'project_id': operator.project_id,
        'address': operator.address,
        'request': operator.request_id,
        'filter': dict(row.filter),
        'count': row.number,
        'problem': row.problem,
    }


def parse_marker(text: str) -> actions.Key:
    """Return the position of a marker.

    :raises InvalidArgument: the text is not a marker
    """
    at, _, seq = text.partition('-')
    if not all(part.isascii() and part.isdigit() and len(part) < 19 for part in (at, seq)):
        raise exceptions.InvalidArgument(f'{checks.shown(text)} is not a marker of a list of actions')
    return int(at), int(seq)
