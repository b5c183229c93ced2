"""The last reports and open circuit breakers of hosts, on SQLite."""

import fixtures
import sqlalchemy as sa

from external_events_router import exceptions
from external_events_router.db import models
from external_events_router.resolver import host_overview
from external_events_router.resolver import host_states
from external_events_router.resolver.hold import store
from external_events_router.resolver.host_map import sql
from tests import base
from tests.unit.db import databases
from tests.unit.resolver.hold import scenarios


class HostStatesTest(base.TestCase):
    def setUp(self):
        super().setUp()
        folder = self.useFixture(fixtures.TempDir()).path
        self.database = databases.database(f'sqlite:///{folder}/router.db')
        self.addCleanup(self.database.close)
        databases.create_schema(self.database)
        self.store = host_states.HostStateStore(self.database)
        self.open = []

    def states(self, worker='resolver:0', store=None):
        return host_states.HostStates(store or self.store, worker, lambda: self.open)

    def read(self):
        return self.store.read()[1]

    def test_report_and_breakers(self):
        states = self.states()
        states.reported('host-a')
        self.open = ['host-b']
        states.write()
        self.assertEqual(1, self.read()['host-b'].breakers)
        self.assertIsNone(self.read()['host-b'].reported_at)
        now, found = self.store.read()
        self.assertLess(abs(now - found['host-a'].reported_at), 60)
        self.assertEqual(0, found['host-a'].breakers)

    def test_reports_of_hosts_that_were_removed_are_deleted(self):
        self.store.write('resolver:0', reported=['host-a', 'removed'], breakers=None)
        old = {'reported_at': self.store.read()[0] - host_states.KEPT - 60}
        table = models.HostReport
        with self.database.writing() as connection:
            connection.execute(sa.update(table).where(table.host == 'removed').values(old))
        self.assertEqual([1, 0], [self.store.delete_old() for _ in range(2)])
        self.assertEqual(['host-a'], list(self.read()))

    def test_breakers_of_workers_are_counted(self):
        self.open = ['host-a', 'host-b']
        self.states('resolver:0').write()
        second = self.states('resolver:1')
        second.write()
        self.assertEqual(
            {'host-a': 2, 'host-b': 2}, {host: one.breakers for host, one in self.read().items()}
        )
        self.open = ['host-b']
        second.write()
        self.assertEqual(
            {'host-a': 1, 'host-b': 2}, {host: one.breakers for host, one in self.read().items()}
        )

    def test_worker_that_starts_again_replaces_the_rows_of_its_name(self):
        self.open = ['host-a']
        self.states().write()
        self.open = []
        self.states().write()
        self.assertEqual({}, self.read())

    def test_rows_of_a_worker_that_has_ended_do_not_count(self):
        self.open = ['host-a']
        self.states().write()
        with self.database.writing() as connection:
            connection.exec_driver_sql('UPDATE open_breakers SET seen_at = seen_at - 121')
        self.assertEqual({}, self.read())

    def test_open_breakers_are_written_again_before_they_expire(self):
        self.open = ['host-a']
        states = self.states()
        states.write()
        with self.database.writing() as connection:
            connection.exec_driver_sql('UPDATE open_breakers SET seen_at = 0')
        for _ in range(int(host_states.REFRESH / host_states.INTERVAL)):
            states.write()
        self.assertEqual(1, self.read()['host-a'].breakers)
        self.assertLess(host_states.REFRESH, host_states.VALID)

    def test_nothing_is_written_without_a_change(self):
        states = self.states(store=_Recording())
        states.write()
        self.assertEqual([({}, set())], [(dict.fromkeys(r), set(b)) for r, b in states._store.written])
        states.write()
        self.assertEqual(1, len(states._store.written))

    def test_report_is_written_later_if_the_database_is_unavailable(self):
        states = self.states(store=_Unavailable())
        states.reported('host-a')
        self.assertRaises(exceptions.DatabaseUnavailable, states.write)
        states._store = self.store
        states.write()
        self.assertIn('host-a', self.read())

    def test_more_hosts_than_one_statement_has_rows(self):
        hosts = [f'host-{number}' for number in range(host_states.ROWS + 5)]
        states = self.states()
        for host in hosts:
            states.reported(host)
        self.open = hosts
        states.write()
        self.assertEqual(len(hosts), len(self.read()))

    def test_overview_has_every_host(self):
        servers = sql.SqlHostMap(self.database)
        servers.assign(scenarios.A, 'host-typo')
        servers.assign(scenarios.A, 'host-a')
        servers.assign(scenarios.B, 'host-a')
        item = scenarios.item(scenarios.A, hosts=['host-b'])
        store.HoldStore(self.database).hold([item], scenarios.CONTEXT, retry_after=60.0)
        self.open = ['host-c']
        states = self.states()
        states.reported('host-a')
        states.write()
        found = {
            host.name: (host.servers, host.silent_for is None, host.breakers, host.held)
            for host in host_overview.HostOverview(self.database).read()
        }
        self.assertEqual(
            {
                'host-a': (2, False, 0, 0),
                'host-b': (0, True, 0, 1),
                'host-c': (0, True, 1, 0),
                'host-typo': (1, True, 0, 0),
            },
            found,
        )


class _Recording:
    def __init__(self):
        self.written = []

    def write(self, worker, *, reported, breakers):
        self.written.append((reported, breakers))


class _Unavailable:
    def write(self, worker, *, reported, breakers):
        raise exceptions.DatabaseUnavailable(reason='refused')
