"""The host map that reads Nova's tables, here in SQLite."""

import json
import threading
import time

import fixtures
import sqlalchemy as sa

from external_events_router import exceptions
from external_events_router.concurrency import pause
from external_events_router.resolver import host_map
from external_events_router.resolver.drivers.nova import host_map as nova_host_map
from external_events_router.resolver.drivers.nova import instances
from external_events_router.resolver.drivers.nova import tables
from external_events_router.resolver.host_map import base as host_map_base
from external_events_router.resolver.host_map import guarded
from tests import base
from tests.unit.db import databases
from tests.unit.resolver.drivers.nova import cloud

A, B, C, D = (f'{number:08x}-0000-4000-8000-000000000000' for number in (1, 2, 3, 4))

#: URLs of the database of a cell that the driver, the URL parser or the template refuses.
UNUSABLE = (
    'postgres://x:s3cret@127.0.0.1/y',
    'postgresql+psycopg2://x:s3cret@127.0.0.1/y',
    'mysql+pymysql://x:s3cret%E2%82%AC@127.0.0.1/y',
    'mysql+nonsense://x:s3cret@127.0.0.1/y',
    'mysql+pymysql://x:s3cret@127.0.0.1/y?connect_timeout=soon',
    'mysql+pymysql://x:s3cret@127.0.0.1:1/y?nonsense=1',
    'mysql+pymysql://x:s3cret@127.0.0.1:1/y?charset=nonsense',
    'postgresql://x:s3cret@127.0.0.1:1/y?nonsense=1',
    'mysql://x:s3cret@[::1/y',
    'mysql://x:s3cret@{hostname}/y',
    'sqlite:////proc/nonsense/y',
    'nonsense',
    '',
)

#: Seconds. The longest wait of a test; the expected events are much earlier.
LONG = 30.0


class NovaHostMapTest(base.TestCase):
    def setUp(self):
        super().setUp()
        self.cloud = self.useFixture(cloud.Cloud())
        self.one, self.two = self.cloud.add_cell('one'), self.cloud.add_cell('two')
        self.map = nova_host_map.NovaHostMap.from_conf(self.cloud.conf)
        self.addCleanup(self.map.close)

    def look_up(self, *uuids, timeout=LONG):
        return self.map.look_up(uuids, timeout=timeout)

    def at(self, host, cell):
        return f'{host}@{cell}'

    def test_it_is_a_partial_map(self):
        self.assertIsInstance(self.map, host_map_base.PartialHostMap)
        self.assertIsInstance(host_map.load(self.cloud.conf), nova_host_map.NovaHostMap)

    def test_hosts_are_qualified_with_their_cell(self):
        self.cloud.add_instance(A, 'one', 'h')
        self.cloud.add_instance(B, 'two', 'h')
        found = self.look_up(A, B, C)
        self.assertEqual({A: (self.at('h', self.one),), B: (self.at('h', self.two),)}, found.hosts)
        self.assertEqual(frozenset(), found.unavailable)
        self.assertEqual(found.hosts, self.map.hosts_of([A, B, C]))

    def test_record_of_a_server(self):
        self.cloud.add_instance(A, 'two', 'h', vm_state='resized')
        record = self.look_up(A).records[A]
        self.assertEqual('two', record.cell.name)
        self.assertEqual('rabbit://127.0.0.1/cell', record.cell.transport)
        self.assertEqual({self.at('h', self.two): record.cell}, record.cells)
        self.assertEqual('resized', record.primitive['nova_object.data']['vm_state'])

    def test_server_on_no_host(self):
        self.cloud.add_instance(A, None)
        self.cloud.add_instance(B, 'one', None)
        self.cloud.add_instance(C, 'one', None, migration={'source': 'a', 'dest': 'b'})
        found = self.look_up(A, B, C)
        self.assertEqual({A: (), B: (), C: ()}, found.hosts)
        self.assertEqual({}, found.records)

    def test_unknown_server(self):
        self.cloud.add_instance(A, 'one', deleted=1)
        self.cloud.add_instance(B, 'one', hidden=True)
        self.cloud.add_instance(C, 'one')
        with self.cloud.cells['one'].begin() as connection:
            connection.execute(sa.delete(tables.instances).where(tables.instances.c.uuid == C))
        self.assertEqual(host_map_base.Lookup({}), self.look_up(A, B, C))

    def test_server_in_a_migration_has_two_hosts(self):
        self.cloud.add_instance(A, 'one', 'src', migration={'source': 'src', 'dest': 'dst'})
        # The server is not on its destination yet, or has no destination yet.
        self.cloud.add_instance(B, 'one', 'src', migration={'source': 'src', 'dest': None})
        found = self.look_up(A, B)
        self.assertEqual((self.at('dst', self.one), self.at('src', self.one)), found.hosts[A])
        self.assertEqual((self.at('src', self.one),), found.hosts[B])

    def test_old_migrations_of_a_server_without_a_migration_context_are_ignored(self):
        self.cloud.add_instance(A, 'one', 'dst', migration={'source': 'src', 'dest': 'dst'})
        self.cloud.change(self.cloud.cells['one'], tables.instance_extra, migration_context=None)
        self.assertEqual({A: (self.at('dst', self.one),)}, self.look_up(A).hosts)

    def test_deleted_migration(self):
        self.cloud.add_instance(A, 'one', 'src', migration={'source': 'src', 'dest': 'dst'})
        self.cloud.change(self.cloud.cells['one'], tables.migrations, deleted=1)
        self.assertEqual({A: (self.at('src', self.one),)}, self.look_up(A).hosts)

    def test_migration_across_cells(self):
        move = {'source': 'src', 'dest': 'dst', 'across_cells': True}
        self.cloud.add_instance(A, 'one', 'src', migration=move)
        self.cloud.add_host('src', 'one')
        self.cloud.add_host('dst', 'two')
        found = self.look_up(A)
        hosts = (self.at('dst', self.two), self.at('src', self.one))
        self.assertEqual(hosts, found.hosts[A])
        record = found.records[A]
        self.assertEqual('one', record.cell.name)
        self.assertEqual(['two', 'one'], [record.cells[host].name for host in hosts])

    def test_one_query_to_each_database(self):
        for number in range(50):
            uuid = f'{number:08x}-0000-4000-9000-000000000000'
            self.cloud.add_instance(uuid, 'one' if number % 2 else 'two', 'h')
        uuids = [f'{number:08x}-0000-4000-9000-000000000000' for number in range(50)]
        self.assertEqual(50, len(self.look_up(*uuids).hosts))
        of_cells = [reader._database for reader in self.map._readers.values()]
        with (
            databases.statements(self.map._api) as api,
            databases.statements(of_cells[0]) as one,
            databases.statements(of_cells[1]) as two,
        ):
            self.assertEqual(50, len(self.look_up(*uuids).hosts))
        self.assertEqual([1, 1, 1], [len(sent) for sent in (api, one, two)])

    def test_added_cell_is_read(self):
        self.assertEqual({}, self.look_up(A).hosts)
        three = self.cloud.add_cell('three')
        self.cloud.add_instance(A, 'three', 'h')
        self.assertEqual({A: (self.at('h', three),)}, self.look_up(A).hosts)

    def test_moved_database_of_a_cell_is_read(self):
        self.cloud.add_instance(A, 'one', 'before')
        self.look_up(A)
        self.cloud.add_cell('moved')
        self.cloud.insert(self.cloud.cells['moved'], tables.instances, **cloud.INSTANCE, uuid=A, host='after')
        self.cloud.change(self.cloud.api, tables.cell_mappings, database_connection=self.cloud.url('moved'))
        self.assertEqual({A: (self.at('after', self.one),)}, self.look_up(A).hosts)

    def test_template_in_a_mapping(self):
        self.cloud.conf.set_override('database_connection', 'x://h/one?y', group='nova')
        self.cloud.add_instance(A, 'one', 'h')
        url = self.cloud.url('one').replace('/one.', '/{path}.')
        self.cloud.change(self.cloud.api, tables.cell_mappings, database_connection=url)
        with_source = nova_host_map.NovaHostMap.from_conf(self.cloud.conf)
        self.addCleanup(with_source.close)
        self.assertEqual([A], list(with_source.look_up([A], timeout=LONG).hosts))
        found = self.look_up(A)
        self.assertEqual({A}, found.unavailable)
        self.assertIn('cell one: [nova] database_connection', found.why(A))

    def test_invalid_row_makes_only_its_server_unavailable(self):
        self.cloud.add_instance(A, 'one', 'h')
        self.cloud.add_instance(B, 'one', 'h', network_info='{"')
        self.cloud.add_instance(C, 'one', 'a host')
        self.cloud.add_instance(D, 'one', 'h' * 240)
        found = self.look_up(A, B, C, D)
        self.assertEqual([A], list(found.hosts))
        self.assertEqual({B, C, D}, found.unavailable)
        self.assertIn('network_info', found.why(B))
        self.assertIn('host name', found.why(C))

    def test_unavailable_cell_makes_only_its_servers_unavailable(self):
        self.cloud.add_instance(A, 'one', 'h')
        self.cloud.add_instance(B, 'two', 'h')
        tables.cell.drop_all(self.cloud.cells['two'])
        found = self.look_up(A, B)
        self.assertEqual([A], list(found.hosts))
        self.assertEqual({B}, found.unavailable)
        self.assertIn('cell two: ', found.why(B))
        self.assertRaises(exceptions.DatabaseUnavailable, self.map.hosts_of, [A, B])

    def test_unusable_cell_makes_only_its_servers_unavailable(self):
        self.cloud.add_instance(A, 'one', 'h')
        self.cloud.add_instance(B, 'two', 'h')
        two = tables.cell_mappings.c.uuid == self.two
        for url in UNUSABLE:
            with self.cloud.api.begin() as connection:
                connection.execute(sa.update(tables.cell_mappings).where(two).values(database_connection=url))
            fresh = nova_host_map.NovaHostMap.from_conf(self.cloud.conf)
            self.addCleanup(fresh.close)
            # The service starts in spite of it.
            fresh.check()
            for _ in range(2):
                found = fresh.look_up([A, B], timeout=LONG)
                self.assertEqual((url, [A]), (url, list(found.hosts)))
                self.assertEqual((url, {B}), (url, found.unavailable))
                self.assertIn('cell two: ', found.why(B))
                self.assertNotIn('s3cret', found.why(B))
        warnings = [line for line in self.logs.output.splitlines() if 'WARNING' in line]
        self.assertEqual(
            len(UNUSABLE), len([line for line in warnings if 'Cannot read from cell two: ' in line])
        )
        self.assertNotIn('from cell one: ', self.logs.output)
        self.assertNotIn('s3cret', self.logs.output)
        self.assertNotIn('Traceback', '\n'.join(warnings))

    def test_unexpected_exception_of_a_cell_affects_only_this_cell(self):
        self.cloud.add_instance(A, 'one', 'h')
        self.cloud.add_instance(B, 'two', 'h')
        fetch = instances.fetch

        def fail(database, uuids):
            if B in uuids or self.cloud.url('two').endswith(str(database._engine.url.database)):
                raise KeyError('an unexpected error')
            return fetch(database, uuids)

        self.useFixture(
            fixtures.MonkeyPatch('external_events_router.resolver.drivers.nova.instances.fetch', fail)
        )
        self.map.check()
        found = self.look_up(A, B)
        self.assertEqual([A], list(found.hosts))
        self.assertEqual('cell two: the database is unavailable: unexpected KeyError', found.why(B))

    def test_unexpected_row_makes_only_its_server_unavailable(self):
        self.cloud.add_instance(A, 'one', 'h')
        self.cloud.add_instance(B, 'one', 'h')
        read = instances._read

        def fail(rows):
            if rows[0]['uuid'] == B:
                raise TypeError
            return read(rows)

        self.useFixture(
            fixtures.MonkeyPatch('external_events_router.resolver.drivers.nova.instances._read', fail)
        )
        found = self.look_up(A, B)
        self.assertEqual([A], list(found.hosts))
        self.assertIn('TypeError', found.why(B))

    def test_move_to_an_unusable_cell(self):
        move = {'source': 'src', 'dest': 'dst', 'across_cells': True}
        self.cloud.add_instance(A, 'one', 'src', migration=move)
        self.cloud.add_host('src', 'one')
        self.cloud.add_host('dst', 'two')
        self.cloud.add_instance(B, 'one', 'src', migration={**move, 'dest': 'src'})
        two = tables.cell_mappings.c.uuid == self.two
        with self.cloud.api.begin() as connection:
            query = sa.update(tables.cell_mappings).where(two)
            connection.execute(query.values(database_connection='mysql://{hostname}/'))
        found = self.look_up(A, B)
        self.assertEqual({B: (self.at('src', self.one),)}, found.hosts)
        self.assertIn('cell two: [nova] database_connection', found.why(A))

    def test_cell_that_hangs_is_unavailable_and_is_skipped_after_some_failures(self):
        self.cloud.add_instance(A, 'one', 'h')
        self.cloud.add_instance(B, 'two', 'h')
        released = threading.Event()
        self.addCleanup(released.set)
        fetch = instances.fetch

        def hang(database, uuids):
            if B in uuids:
                released.wait(LONG)
            return fetch(database, uuids)

        self.addCleanup(setattr, instances, 'fetch', fetch)
        instances.fetch = hang
        # The first query has enough time for the other cell, also on a loaded machine.
        for timeout in (2.0, *[0.1] * (pause.FAILURES - 1)):
            found = self.look_up(A, B, timeout=timeout)
            self.assertIn('no answer in time', found.why(B))
            if timeout > 1.0:
                self.assertEqual([A], list(found.hosts))
        # Queries during the pause do not wait for the cell, nor does the query that tries it again.
        for seconds in (pause.PAUSE, 0.0):
            self.useFixture(fixtures.MonkeyPatch('external_events_router.concurrency.pause.PAUSE', seconds))
            self.map._readers[self.two].pause.failed()
            began = time.monotonic()
            found = self.look_up(A, B)
            self.assertLess(time.monotonic() - began, LONG / 2)
            self.assertEqual([A], list(found.hosts))
            self.assertIn('failed just now', found.why(B))
        released.set()
        deadline = time.monotonic() + LONG
        while B not in self.look_up(A, B).hosts:
            self.assertLess(time.monotonic(), deadline)
        self.assertIn('The database of cell two answers again', self.logs.output)

    def test_unavailable_api_database(self):
        tables.api.drop_all(self.cloud.api)
        self.assertRaises(exceptions.DatabaseUnavailable, self.look_up, A)

    def test_check_reports_an_unavailable_cell(self):
        self.map.check()
        self.assertIn('Found cell one', self.logs.output)
        tables.cell.drop_all(self.cloud.cells['two'])
        self.map.check()
        self.assertIn('Cannot read from cell two: ', self.logs.output)
        with self.cloud.api.begin() as connection:
            connection.execute(sa.delete(tables.cell_mappings))
        self.assertIn('maps no cells', str(self.assertRaises(exceptions.ConfigurationError, self.map.check)))
        tables.api.drop_all(self.cloud.api)
        refused = self.assertRaises(exceptions.ConfigurationError, self.map.check)
        self.assertIn('[nova] api_connection', str(refused))

    def test_warm_reads_the_cells(self):
        self.map.warm()
        self.assertEqual({self.one, self.two}, self.map._readers.keys())
        self.assertTrue(all(reader._database for reader in self.map._readers.values()))
        tables.api.drop_all(self.cloud.api)
        self.map.warm()
        self.assertIn('Could not read the cells at start', self.logs.output)

    def test_missing_api_connection(self):
        self.cloud.conf.set_override('api_connection', None, group='nova')
        refused = self.assertRaises(
            exceptions.ConfigurationError, nova_host_map.NovaHostMap.from_conf, self.cloud.conf
        )
        self.assertEqual('[nova] api_connection: is not set', str(refused))

    def test_guard_returns_the_last_known_hosts_of_an_unavailable_cell(self):
        self.cloud.add_instance(A, 'one', 'h')
        self.cloud.add_instance(B, 'two', 'h')
        self.cloud.add_instance(C, 'two', 'h')
        guard = guarded.GuardedHostMap(self.map, timeout=LONG)
        self.addCleanup(guard.close)
        self.assertEqual({A, B}, guard.lookup([A, B]).records.keys())
        tables.cell.drop_all(self.cloud.cells['two'])
        found = guard.lookup([A, B, C])
        self.assertEqual({A: (self.at('h', self.one),), B: (self.at('h', self.two),)}, found.hosts)
        self.assertEqual({C}, found.unavailable)
        self.assertIn('cell two', found.why(C))
        self.assertEqual({A}, found.records.keys())

    def test_values_of_any_type_are_converted_to_json(self):
        self.cloud.add_instance(A, 'one', 'h', launched_at=cloud.CREATED, hostname='häuschen')
        json.dumps(self.look_up(A).records[A].primitive)
