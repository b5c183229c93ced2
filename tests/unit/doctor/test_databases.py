"""Checks of the database and of the host map, with SQLite; other databases in the integration tests."""

from __future__ import annotations

import time

import fixtures
import sqlalchemy as sa

from external_events_router.db import migration
from external_events_router.doctor import base as checks
from external_events_router.doctor import canary
from external_events_router.doctor import databases
from external_events_router.doctor import hosts
from external_events_router.resolver import host_states
from external_events_router.resolver.host_map import sql
from tests import base
from tests.unit.doctor import sites

SERVER = '2b4b6f0a-7d3e-4c89-8a51-6e1f0c9d7a01'


class SchemaTest(base.TestCase):
    CHECK = sites.named(databases.CHECKS, 'database-schema')

    def revision(self, site: sites.Site, revision: str) -> checks.Result:
        with site.site.database().writing() as connection:
            connection.execute(
                sa.text('UPDATE alembic_version SET version_num = :revision'), {'revision': revision}
            )
        return site.run(self.CHECK)

    def test_missing(self) -> None:
        result = self.useFixture(sites.Site()).run(self.CHECK)
        self.assertEqual(checks.Status.FAIL, result.status)
        self.assertEqual('external-events-manage db upgrade', result.remedy)

    def test_versions(self) -> None:
        site = self.useFixture(sites.Site(schema=True))
        self.assertEqual(checks.ok(f'version {migration.head()}'), site.run(self.CHECK))
        older = self.revision(site, '001')
        self.assertEqual(checks.Status.FAIL, older.status)
        self.assertIn('version 001', older.evidence)
        newer = self.revision(site, '999')
        self.assertEqual(checks.Status.WARN, newer.status)
        self.assertIn('999, newer', newer.evidence)

    def test_database_of_the_journal(self) -> None:
        folder = self.useFixture(fixtures.TempDir()).path
        url = f'sqlite:///{folder}/journal.sqlite'
        result = self.useFixture(sites.Site(schema=True, journal__connection=url)).run(self.CHECK)
        self.assertIn('[journal] connection: the database has no schema', result.evidence)


class LoginTest(base.TestCase):
    def test_unusable_file(self) -> None:
        site = self.useFixture(sites.Site(database__connection='sqlite:////nowhere/router.sqlite'))
        result = site.run(sites.named(databases.CHECKS, 'database-login'))
        self.assertEqual(checks.Status.FAIL, result.status)
        self.assertIn('unable to open', result.evidence)

    def test_remedies(self) -> None:
        for reason, text in (
            ("(1045, \"Access denied for user 'x'@'y' (using password: YES)\")", 'correct user and password'),
            ('(1049, "Unknown database \'x\'")', 'correct the name'),
            ("(2003, \"Can't connect to MySQL server on 'x'\")", 'start the database'),
            ('FATAL:  password authentication failed for user "x"', 'correct user and password'),
            ('FATAL:  database "x" does not exist', 'correct the name'),
            ('connection failed: Connection refused', 'start the database'),
        ):
            self.assertIn(text, databases.remedy(reason, '[database] connection'), reason)


class GrantsTest(base.TestCase):
    CHECK = sites.named(databases.CHECKS, 'database-grants')

    def test_missing_table(self) -> None:
        site = self.useFixture(sites.Site(schema=True))
        self.assertEqual(checks.Status.OK, site.run(self.CHECK).status)
        with site.site.database().writing() as connection:
            connection.execute(sa.text('DROP TABLE held_hosts'))
        result = site.run(self.CHECK)
        self.assertEqual(checks.Status.FAIL, result.status)
        self.assertIn('SELECT held_hosts', result.evidence)

    def test_rows_do_not_change(self) -> None:
        site = self.useFixture(sites.Site(schema=True))
        host_map = sql.SqlHostMap(site.site.database())
        host_map.assign(SERVER, 'host-a')
        self.assertEqual(checks.Status.OK, site.run(self.CHECK).status)
        self.assertEqual(('host-a',), host_map.show(SERVER))


class ClockTest(base.TestCase):
    def test_clock_of_this_machine_differs(self) -> None:
        site = self.useFixture(sites.Site())
        check = sites.named(databases.CHECKS, 'database-clock')
        self.assertEqual(checks.Status.OK, site.run(check).status)
        real = time.time
        for shift, text in ((600.0, '600.0 s ahead of'), (-600.0, '600.0 s behind')):
            with fixtures.MonkeyPatch('time.time', lambda shift=shift: real() + shift):
                result = site.run(check)
            self.assertEqual(checks.Status.WARN, result.status)
            self.assertIn(text, result.evidence)


class HostMapTest(base.TestCase):
    CHECK = sites.named(hosts.CHECKS, 'host-map')

    def setUp(self) -> None:
        super().setUp()
        self.site = self.useFixture(sites.Site(schema=True))

    def test_age(self) -> None:
        self.assertIn('no server', self.site.run(self.CHECK).evidence)
        sql.SqlHostMap(self.site.site.database()).assign(SERVER, 'host-a')
        result = self.site.run(self.CHECK)
        self.assertEqual(checks.Status.WARN, result.status)
        self.assertIn('no agent has ever reported', result.evidence)
        store = host_states.HostStateStore(self.site.site.database())
        store.write('worker', reported=['host-a'], breakers=None)
        self.assertEqual(checks.Status.OK, self.site.run(self.CHECK).status)
        with self.site.site.database().writing() as connection:
            connection.execute(sa.text('UPDATE host_reports SET reported_at = reported_at - 1000'))
        result = self.site.run(self.CHECK)
        self.assertEqual(checks.Status.WARN, result.status)
        self.assertIn('no report for more than 180 s from host-a', result.evidence)


class CanaryTest(base.TestCase):
    def test_without_rabbitmq(self) -> None:
        site = self.useFixture(sites.Site(schema=True))
        (check,) = canary.CHECKS
        result = site.run(check)
        self.assertEqual(checks.Status.OK, result.status, result)
        self.assertIn('external-events-doctor:', result.evidence)
        states = host_states.HostStateStore(site.site.database()).read()[1]
        self.assertEqual({}, dict(states))

    def test_no_acknowledgement(self) -> None:
        site = self.useFixture(sites.Site())
        self.useFixture(fixtures.MonkeyPatch('external_events_router.doctor.canary.TIMEOUT', 0.5))
        self.useFixture(
            fixtures.MonkeyPatch('external_events_router.agent.service.Agent.receive', lambda *_args: None)
        )
        (check,) = canary.CHECKS
        result = site.run(check)
        self.assertEqual(checks.Status.FAIL, result.status, result)
        self.assertIn('no acknowledgement in time', result.evidence)
