"""``external-events-status upgrade check``: may this release run with the present data and options?

Run it after the installation of a release and before its start, and with the older release before a
rollback. Each check reads; none changes anything.
"""

from __future__ import annotations

from collections.abc import Callable
import functools
import json
import sys
from typing import cast

from oslo_config import cfg
from oslo_log import log
from oslo_upgradecheck import common_checks
from oslo_upgradecheck import upgradecheck
import sqlalchemy as sa

from external_events_router import conf as router_conf
from external_events_router import events
from external_events_router import exceptions
from external_events_router.conf import opts
from external_events_router.db import migration
from external_events_router.db import models
from external_events_router.db import session
from external_events_router.journal import reasons
from external_events_router.journal import recorder
from external_events_router.messaging import rpc
from external_events_router.process import config_files
from external_events_router.process import startup

#: Number of held events that are read, and seconds of the journal in which agents are looked for.
HELD_LIMIT = 10_000
RECENT = 24 * 3600

#: Seconds of one statement.
READ_TIMEOUT = 600.0

#: Maximum number of names in a message.
FEW = 5

SUCCESS, WARNING, FAILURE = upgradecheck.Code.SUCCESS, upgradecheck.Code.WARNING, upgradecheck.Code.FAILURE

_held = cast(sa.Table, models.HeldEvent.__table__)
_events = cast(sa.Table, models.JournalEvent.__table__)
_steps = cast(sa.Table, models.JournalStep.__table__)

_Check = Callable[['Checks'], upgradecheck.Result]


def _guarded(check: _Check) -> _Check:
    """Make an error of a check a failure of this check only."""

    @functools.wraps(check)
    def run(self: Checks) -> upgradecheck.Result:
        try:
            return check(self)
        except exceptions.RouterError as exc:
            return upgradecheck.Result(FAILURE, ' '.join(str(exc).split()))

    return run


class Checks(upgradecheck.UpgradeCommands):
    """The checks of an upgrade and of a rollback."""

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        self._conf = conf

    @_guarded
    def check_schema(self) -> upgradecheck.Result:
        """Compare the version of the schema with this release."""
        for option, database in self._databases():
            revision, newest = migration.current(database), migration.head()
            if revision == newest:
                continue
            if revision is not None and not migration.is_known(revision):
                return upgradecheck.Result(
                    WARNING,
                    f'{option}: the schema has version {revision}, newer than this release ({newest}). The '
                    'services of this release work with it.',
                )
            return upgradecheck.Result(
                FAILURE,
                f'{option}: the schema has version {revision or "none"}; this release needs {newest}. Run '
                'external-events-manage db upgrade',
            )
        return upgradecheck.Result(SUCCESS)

    @_guarded
    def check_held_events(self) -> upgradecheck.Result:
        """Find held events that this release cannot read, because a newer release wrote them."""
        query = sa.select(_held.c.event_id, _held.c.event).order_by(_held.c.seq).limit(HELD_LIMIT)
        with session.translated(), self._database().reading() as connection:
            unreadable = [row.event_id for row in connection.execute(query) if not _is_readable(row.event)]
        if unreadable:
            return upgradecheck.Result(
                FAILURE,
                f'{len(unreadable)} held events cannot be read by this release, for example '
                f'{", ".join(unreadable[:FEW])}. They would end as damaged. Wait until they '
                'are delivered; see external-events-manage held list',
            )
        return upgradecheck.Result(SUCCESS)

    @_guarded
    def check_journal(self) -> upgradecheck.Result:
        """Find records of the journal whose reasons this release does not know."""
        known: dict[sa.Column[str], set[str]] = {
            _events.c.reason: {str(reason) for reason in reasons.Reason},
            _steps.c.kind: {str(step) for step in reasons.Step},
        }
        _option, database = self._databases()[-1]
        unknown: set[str] = set()
        with session.translated(), database.reading() as connection:
            for column, values in known.items():
                unknown |= set(connection.scalars(sa.select(column).distinct())) - values
        if unknown:
            return upgradecheck.Result(
                WARNING,
                'This release cannot show records with the values '
                f'{", ".join(sorted(unknown)[:FEW])}, which it does not know.',
            )
        return upgradecheck.Result(SUCCESS)

    @_guarded
    def check_options(self) -> upgradecheck.Result:
        """Find options that this release does not have."""
        found = [
            f'{setting.path}, line {setting.line}: [{setting.group}] {setting.name}'
            for setting, _hint in config_files.unknown(self._conf)
        ]
        if found:
            return upgradecheck.Result(
                WARNING,
                f'{len(found)} options do not exist in this release: {"; ".join(found[:FEW])}',
            )
        return upgradecheck.Result(SUCCESS)

    @_guarded
    def check_pins(self) -> upgradecheck.Result:
        """Find versions in ``[upgrade_levels]``, which must be removed at the end of an upgrade."""
        section = self._conf.upgrade_levels
        pins = [f'{name} = {section[name]}' for name in section if section[name]]
        if pins:
            return upgradecheck.Result(
                WARNING,
                f'[upgrade_levels] limits the versions of messages: {", ".join(pins)}. Remove these options '
                'when all services have this release.',
            )
        return upgradecheck.Result(SUCCESS)

    @_guarded
    def check_agents(self) -> upgradecheck.Result:
        """Find hosts whose acknowledgements have an older version, by the records of the last day."""
        _option, database = self._databases()[-1]
        with session.translated(), database.reading() as connection:
            since = int((database.now(connection) - RECENT) * 1_000_000)
            query = (
                sa.select(_events.c.host)
                .where(
                    _events.c.received_at > since,
                    _events.c.reason == str(reasons.Reason.ACKNOWLEDGED),
                    # NOTE: since 1.4, each acknowledgement states whether a waiter received the event.
                    _events.c.waiter.is_(None),
                    _events.c.host.is_not(None),
                )
                .distinct()
                .limit(1000)
            )
            hosts = sorted(connection.scalars(query))
        if hosts:
            return upgradecheck.Result(
                WARNING,
                f'{len(hosts)} hosts acknowledged events of the last day with a version before 1.4: '
                f'{", ".join(hosts[:FEW])}. Upgrade the agents there.',
            )
        return upgradecheck.Result(SUCCESS)

    def _database(self) -> session.Database:
        return session.Database.from_conf(self._conf, read_timeout=READ_TIMEOUT)

    def _databases(self) -> list[tuple[str, session.Database]]:
        """Return the databases, that of the journal last, each with its option."""
        found = [('[database] connection', self._database())]
        if self._conf.journal.connection:
            found.append(('[journal] connection', recorder.open_database(self._conf)))
        return found

    _upgrade_checks = (
        ('Schema of the database', check_schema),
        ('Held events', check_held_events),
        ('Records of the journal', check_journal),
        ('Options of this release', check_options),
        ('Pinned versions', check_pins),
        ('Versions of agents', check_agents),
        ('Format of the policy file', (common_checks.check_policy_json, {'conf': cfg.CONF})),
    )


def _is_readable(text: str) -> bool:
    try:
        events.Event.from_dict(json.loads(text))
    except (ValueError, RecursionError, exceptions.MalformedMessage):
        return False
    return True


def _main() -> int:
    conf = cfg.CONF
    opts.set_library_defaults()
    rpc.set_defaults()
    log.register_options(conf)
    router_conf.register_all(conf)
    return int(upgradecheck.main(conf, startup.PROJECT, Checks(conf), sys.argv[1:]))


main = startup.entry_point(_main)
