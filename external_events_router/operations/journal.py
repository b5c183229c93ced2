"""Shared parts of the operations on the journal: opening it, and reading the server actions of Nova."""

from __future__ import annotations

import functools

from oslo_config import cfg

from external_events_router import exceptions
from external_events_router.db import migration
from external_events_router.db import session
from external_events_router.journal import completeness
from external_events_router.journal import next_steps
from external_events_router.journal import queries
from external_events_router.journal import reads
from external_events_router.journal import recorder
from external_events_router.journal import records
from external_events_router.journal import timeline
from external_events_router.operations import times
from external_events_router.resolver.drivers.nova import action_history


class Journal:
    """The journal of the configuration, for reading.

    :ivar database: the database of the journal
    :ivar reader: the reader of its rows
    """

    def __init__(self, database: session.Database) -> None:
        self.database = database
        self.reader = reads.Reader(database)
        self.gaps: queries.Gaps = functools.partial(completeness.gaps, database)

    def now(self) -> float:
        """Return the time of the database, in seconds since the epoch."""
        return self.reader.now() / records.SECOND

    def close(self) -> None:
        """Close the connections."""
        self.database.close()


def open_journal(conf: cfg.ConfigOpts) -> Journal:
    """Open the journal of the configuration. The caller closes it.

    :raises ConfigurationError: its database does not answer, or its schema does not fit
    """
    database = recorder.open_database(conf)
    try:
        migration.check(database)
    except exceptions.ConfigurationError:
        database.close()
        raise
    return Journal(database)


def site(conf: cfg.ConfigOpts) -> next_steps.Site:
    """Return the kind of software on the hosts: the agent or nova-compute."""
    nova = conf.compute.driver == 'nova'
    return next_steps.Site(nova, broker_acknowledges=nova and conf.nova.acknowledge == 'broker')


def actions(
    conf: cfg.ConfigOpts, server_uuid: str, *, since: float, until: float
) -> tuple[list[timeline.ServerAction], list[str]]:
    """Return the actions of a server that Nova recorded; none if the host map is not Nova.

    :param since: seconds since the epoch; likewise ``until``
    :returns: the actions, and what could not be read, in words
    """
    if conf.host_map.backend != 'nova':
        return [], []
    try:
        found = action_history.read(conf, server_uuid, since=since, until=until)
    except exceptions.RouterError as exc:
        return [], [f'The actions of the server cannot be read from Nova: {exc}']
    return [_action(action) for action in found], []


def _action(action: action_history.Action) -> timeline.ServerAction:
    # NOTE: the compute host waits for events, within its own step of the action.
    on_host = next((step for step in action.steps if step.name.startswith('compute_')), None)
    return timeline.ServerAction(
        name=action.name,
        request_id=action.request_id,
        started_at=times.microseconds(action.started),
        wait_started_at=None if on_host is None else times.microseconds(on_host.started),
        finished_at=None if action.finished is None else times.microseconds(action.finished),
        error=action.error,
        host=on_host.host if on_host is not None and on_host.host else None,
    )
