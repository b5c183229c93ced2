"""The SQL host map, on SQLite in a file and in memory; tests/integration has the other databases."""

import functools
from unittest import mock

import fixtures
import sqlalchemy as sa

from external_events_router import exceptions
from external_events_router.db import models
from tests import base
from tests.unit.db import databases
from tests.unit.resolver.host_map import scenarios


class TestFile(scenarios.HostMapScenarios, base.TestCase):
    def setUp(self):
        self.url = f'sqlite:///{self.useFixture(fixtures.TempDir()).path}/router.db'
        super().setUp()

    def test_queries_use_the_primary_key(self):
        for ask, tables in ((self.map.hosts_of, 2), (functools.partial(self.map.look_up, timeout=1.0), 3)):
            with databases.statements(self.database) as sent:
                ask([scenarios.A, scenarios.B])
            with self.database.reading() as connection:
                steps = connection.exec_driver_sql(f'EXPLAIN QUERY PLAN {sent[0]}', ('[]',)).fetchall()
            plan = [step[-1] for step in steps if models.Server.__tablename__[:6] in step[-1]]
            self.assertEqual(tables, len(plan), plan)
            for step in plan:
                self.assertIn('SEARCH', step)

    def test_look_up_reads_three_columns(self):
        """With PyMySQL and one event in a request, each column causes 4 % of the function calls."""
        self.map.assign(scenarios.A, 'one')
        widths = []
        rows_among = self.database.rows_among

        def read(*args):
            rows = rows_among(*args)
            widths.extend(map(len, rows))
            return rows

        with mock.patch.object(self.database, 'rows_among', read):
            self.map.look_up([scenarios.A], timeout=1.0)
        self.assertEqual([3], widths)

    def test_lost_database(self):
        with self.database.writing() as connection:
            for table in reversed(models.Base.metadata.sorted_tables):
                connection.execute(sa.schema.DropTable(table))
        for call in (
            lambda: self.map.hosts_of([scenarios.A]),
            lambda: self.map.assign(scenarios.A, 'one'),
            lambda: self.map.report('one', []),
            lambda: self.map.import_lines([scenarios.line(scenarios.A)]),
            lambda: list(self.map.export()),
        ):
            failed = self.assertRaises(exceptions.DatabaseUnavailable, call)
            self.assertIn('no such table', str(failed))


class TestMemory(scenarios.HostMapScenarios, base.TestCase):
    url = 'sqlite://'
