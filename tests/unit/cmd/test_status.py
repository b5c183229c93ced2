"""The checks of ``upgrade check``, each with the real problem."""

from __future__ import annotations

import time
from typing import Any

from oslo_upgradecheck import upgradecheck
import sqlalchemy as sa

from external_events_router import events
from external_events_router.cmd import status
from external_events_router.db import models
from tests import base
from tests.unit.doctor import sites

SERVER = '2b4b6f0a-7d3e-4c89-8a51-6e1f0c9d7a01'


class StatusTest(base.TestCase):
    def site(self, **options: Any) -> sites.Site:
        return self.useFixture(sites.Site(schema=True, **options))

    def assert_result(self, code: upgradecheck.Code, text: str, result: upgradecheck.Result) -> None:
        self.assertEqual(code, result.code, result.details)
        self.assertIn(text, result.details or '')

    def insert(self, site: sites.Site, table: Any, **values: Any) -> None:
        with site.site.database().writing() as connection:
            connection.execute(sa.insert(table), [values])

    def test_nothing_to_do(self) -> None:
        checks = status.Checks(self.site().conf)
        for _name, check in checks._upgrade_checks[:-1]:
            self.assert_result(status.SUCCESS, '', check(checks))

    def test_schema(self) -> None:
        site = self.site()
        for revision, code in (('001', status.FAILURE), ('999', status.WARNING)):
            with site.site.database().writing() as connection:
                statement = sa.text('UPDATE alembic_version SET version_num = :revision')
                connection.execute(statement, {'revision': revision})
            self.assert_result(code, revision, status.Checks(site.conf).check_schema())

    def test_without_a_database(self) -> None:
        site = self.useFixture(sites.Site(database__connection='sqlite:////nowhere/router.sqlite'))
        self.assert_result(status.FAILURE, 'unable to open', status.Checks(site.conf).check_schema())

    def test_held_event_of_a_newer_release(self) -> None:
        site = self.site()
        self.insert(
            site,
            models.HeldServer,
            server_uuid=SERVER,
            next_attempt=0.0,
            attempts=0,
            reason='',
            claimed_until=0.0,
        )
        good = events.Event('network-changed', SERVER)
        row = {'server_uuid': SERVER, 'context': '{}', 'held_at': 0.0, 'deadline': 0.0, 'acknowledged': '[]'}
        self.insert(site, models.HeldEvent, event_id=good.id, event='{"name": "future-event"}', **row)
        result = status.Checks(site.conf).check_held_events()
        self.assert_result(status.FAILURE, good.id, result)

    def journal_event(self, site: sites.Site, **changed: Any) -> None:
        now = int(time.time() * 1_000_000)
        values = {
            'received_at': now,
            'worker': 1,
            'seq': 1,
            'hour': now // 3_600_000_000,
            'event_id': 'an-id',
            'server_uuid': SERVER,
            'name': 'network-changed',
            'status': 'completed',
            'code': 200,
            'reason': 'acknowledged',
            'host': 'host-a',
            'replayed': 0,
        }
        self.insert(site, models.JournalEvent, **{**values, **changed})

    def test_reason_of_a_newer_release(self) -> None:
        site = self.site()
        self.journal_event(site, reason='future_reason')
        self.assert_result(status.WARNING, 'future_reason', status.Checks(site.conf).check_journal())

    def test_acknowledgement_of_an_older_agent(self) -> None:
        site = self.site()
        self.journal_event(site, waiter=0)
        self.assert_result(status.SUCCESS, '', status.Checks(site.conf).check_agents())
        self.journal_event(site, seq=2, host='host-b')
        self.assert_result(status.WARNING, 'before 1.4: host-b', status.Checks(site.conf).check_agents())

    def test_options_and_pins(self) -> None:
        site = self.useFixture(sites.Site(text='[api]\nfast_lane = true\n[upgrade_levels]\nacks = 1.2\n'))
        checks = status.Checks(site.conf)
        self.assert_result(status.WARNING, '[api] fast_lane', checks.check_options())
        self.assert_result(status.WARNING, 'acks = 1.2', checks.check_pins())
