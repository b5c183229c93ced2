"""What happened to the events of a server: the period, the records, and the verdict."""

from __future__ import annotations

from oslo_config import cfg

from external_events_router import exceptions
from external_events_router.journal import explain as explaining
from external_events_router.journal import queries
from external_events_router.journal import timeline
from external_events_router.operations import journal
from external_events_router.operations import times
from external_events_router.resolver.host_map import base

#: Default start of the period, and seconds before and after a time that was given instead.
SINCE = '1h'
AROUND = 600.0


def period(now: float, *, since: times.Moment, at: times.Moment | None = None) -> tuple[float, float]:
    """Return the period in which events are searched, in seconds since the epoch.

    :param now: seconds since the epoch by the clock of the database
    :param at: search around this time, and ignore ``since``
    :raises InvalidArgument: it begins in the future, so that its record cannot prove anything
    """
    begin, end = since.seconds(now), now
    if at is not None:
        middle = at.seconds(now)
        begin, end = max(0.0, middle - AROUND), min(now, middle + AROUND)
    if begin >= end:
        shown, present = (timeline.utc(times.microseconds(at)) for at in (begin, now))
        raise exceptions.InvalidArgument(
            f'the period begins at {shown}, but the database has {present} now: use an earlier --since '
            'or --at'
        )
    return begin, end


def explain(
    conf: cfg.ConfigOpts,
    rows: journal.Journal,
    server: str,
    *,
    period: tuple[float, float],
    port: str | None = None,
    name: str | None = None,
) -> explaining.Explanation:
    """Return what happened to the events of a server.

    :param server: uuid in any usual form
    :param period: seconds since the epoch
    :param port: only events with this tag
    :param name: only events with this name
    :raises MalformedMessage: the server is not a uuid
    :raises DatabaseUnavailable: the journal cannot be read
    """
    since, until = period
    question = queries.Question(
        server_uuid=base.server_uuid(server),
        since=times.microseconds(since),
        until=times.microseconds(until),
        port=port,
        name=name,
    )
    actions, warnings = journal.actions(conf, question.server_uuid, since=since, until=until)
    history = queries.history(rows.reader, rows.gaps, question, actions=actions, warnings=warnings)
    return explaining.explain(history, journal.site(conf))
