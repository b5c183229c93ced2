"""The objects that all requests of the admin API share."""

from __future__ import annotations

import threading

from oslo_config import cfg

from external_events_router.admin import confirmations
from external_events_router.db import migration
from external_events_router.db import session
from external_events_router.journal import actions
from external_events_router.journal import operators
from external_events_router.operations import host_map
from external_events_router.operations import journal
from external_events_router.resolver import report_key
from external_events_router.resolver.hold import inspection


class Services:
    """The databases and the limits. Thread-safe.

    :ivar rows: the journal
    :ivar actions: the recorded actions of operators
    :ivar host_map: the map in the database of this service
    :ivar doctor: place of a request that checks the installation
    :ivar followers: places of requests that wait for new events
    """

    def __init__(self, conf: cfg.ConfigOpts, database: session.Database, rows: journal.Journal) -> None:
        self.conf = conf
        self.database = database
        self.rows = rows
        self.actions = actions.Actions(rows.database)
        self.host_map = host_map.open_map(conf, database)
        self.confirmations = confirmations.Confirmations(
            report_key.ReportKey(database).read, lifetime=conf.admin.confirmation_lifetime
        )
        self.doctor = threading.BoundedSemaphore(1)
        self.followers = threading.BoundedSemaphore(max(1, conf.admin.threads // 2))

    @classmethod
    def from_conf(cls, conf: cfg.ConfigOpts) -> Services:
        """Open the databases. The caller closes them.

        :raises ConfigurationError: a database is unavailable, or its schema is missing or too old
        """
        database = session.Database.from_conf(conf)
        migration.check(database)
        return cls(conf, database, journal.open_journal(conf))

    def hold(self, operator: actions.Operator) -> inspection.Inspection:
        """Return the hold for an operator, whose name its journal contains."""
        record = operators.recording(self.conf, actor=operator.name)
        return inspection.Inspection(self.database, journal=record)

    def close(self) -> None:
        """Close the connections."""
        self.database.close()
        self.rows.close()
