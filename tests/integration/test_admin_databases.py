"""Queries of the admin API that unit tests run on SQLite only, on MariaDB and PostgreSQL."""

import dataclasses

from external_events_router import exceptions
from external_events_router.db import migration
from external_events_router.journal import actions
from external_events_router.operations import journal
from external_events_router.operations import summary
from external_events_router.resolver import host_overview
from external_events_router.resolver import host_states
from external_events_router.resolver.host_map import sql
from tests import base
from tests.integration import services
from tests.unit.db import databases

SERVERS = [f'0000000{number}-0000-4000-8000-000000000000' for number in range(3)]
HOSTILE = '\u202eadmin\U0001f600'


class _Queries:
    TIMEOUT_SCALING_FACTOR = 3

    def setUp(self):
        super().setUp()
        self.database = databases.database(self.useFixture(self.SERVICE()).url)
        self.addCleanup(self.database.close)
        migration.upgrade(self.database)

    def test_actions(self):
        recorded = actions.Actions(self.database)
        operator = actions.Operator(HOSTILE, 'id', 'project', '192.0.2.1', 'req-1')
        for number in range(3):
            recorded.write('held:drop', operator, {'host': f'host-{number}'}, number=number)
        found = recorded.read(limit=2)
        rest = recorded.read(after=(found[-1].at, found[-1].seq), limit=2)
        self.assertEqual([2, 1, 0], [row.number for row in (*found, *rest)])
        self.assertEqual(({'host': 'host-2'}, 'id'), (found[0].filter, found[0].operator.user_id))
        self.assertEqual([], recorded.read(since=found[0].at + 1, limit=2))

    def test_hosts_in_pages(self):
        servers = sql.SqlHostMap(self.database)
        for server, host in zip(SERVERS, ('b', 'B', 'b'), strict=True):
            servers.assign(server, host)
        states = host_states.HostStateStore(self.database)
        states.write('worker', reported=['a', 'c'], breakers=['c', 'd'])
        overview = host_overview.HostOverview(self.database)
        pages, after = [], ''
        while page := overview.page(after=after, limit=2):
            pages.append([(host.name, host.servers, host.breakers) for host in page])
            after = page[-1].name
        self.assertEqual([[('B', 1, 0), ('a', 0, 0)], [('b', 2, 0), ('c', 0, 1)], [('d', 0, 1)]], pages)
        # NOTE: the seconds since the last report differ between two reads.
        every, these = (
            [dataclasses.replace(host, silent_for=None) for host in found]
            for found in (overview.read(), overview.of(['a', 'b', 'B', 'c', 'd']))
        )
        self.assertEqual(every, these)
        found = summary.summary(self.database, journal.Journal(self.database))
        self.assertEqual(2, found['unresponsive_hosts'])

    def test_expected_hosts(self):
        servers = sql.SqlHostMap(self.database)
        servers.assign(SERVERS[0], 'a')
        servers.assign(SERVERS[0], 'b', expected=['a'])
        for change in (
            lambda: servers.assign(SERVERS[0], 'c', expected=['a']),
            lambda: servers.unassign(SERVERS[0], 'a', expected=['a']),
            lambda: servers.forget(SERVERS[0], expected=['b']),
            lambda: servers.assign(SERVERS[1], 'a', expected=['a']),
        ):
            self.assertRaises(exceptions.Conflict, change)
        self.assertEqual(('a', 'b'), servers.show(SERVERS[0]))
        servers.forget(SERVERS[0], expected=['b', 'a'])
        self.assertRaises(exceptions.NoSuchServer, servers.show, SERVERS[0])


class PostgreSQLTest(_Queries, base.TestCase):
    SERVICE = services.PostgreSQL


class MariaDBTest(_Queries, base.TestCase):
    SERVICE = services.MySQL
