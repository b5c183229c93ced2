"""The version of the compute RPC that a cell understands."""

import threading

from external_events_router import exceptions
from external_events_router.resolver.drivers.nova import tables
from external_events_router.resolver.drivers.nova import versions
from tests import base
from tests.unit.db import databases
from tests.unit.resolver.drivers.nova import cloud


class SupportedVersionTest(base.TestCase):
    def test_version_of_a_pinned_rpc_version(self):
        known = {'5.0': versions.OLD, '5.13': versions.OLD, '6.0': versions.SIX, '6.4': versions.SIX}
        known |= {'6.5': versions.ALTERNATIVE, '6.10': versions.ALTERNATIVE}
        self.assertEqual(known, {version: versions.of_rpc(version) for version in known})

    def test_version_of_a_service_version(self):
        known = {55: versions.OLD, 56: versions.SIX, 70: versions.SIX, 71: versions.ALTERNATIVE}
        known |= {99: versions.ALTERNATIVE, None: versions.ALTERNATIVE}
        self.assertEqual(known, {version: versions.of_service(version) for version in known})


class VersionsTest(base.TestCase):
    def setUp(self):
        super().setUp()
        self.cloud = self.useFixture(cloud.Cloud())
        self.cloud.add_cell('one')
        self.engine = self.cloud.cells['one']
        self.database = databases.database(self.cloud.url('one'))
        self.addCleanup(self.database.close)
        self.now = 0.0
        self.versions = versions.Versions(lambda: self.database, clock=lambda: self.now)

    def add(self, version, *, binary='nova-compute', deleted=0, forced_down=False):
        values = {'version': version, 'binary': binary, 'deleted': deleted, 'forced_down': forced_down}
        self.cloud.insert(self.engine, tables.services, **values)

    def test_oldest_active_service_decides(self):
        self.add(74)
        self.add(70)
        self.add(10, deleted=1)
        self.add(11, forced_down=True)
        self.add(12, binary='nova-conductor')
        self.assertEqual(versions.SIX, self.versions.current())

    def test_cell_without_compute_service(self):
        self.assertEqual(versions.ALTERNATIVE, self.versions.current())

    def test_versions_are_read_again_after_a_while(self):
        self.add(60)
        self.assertEqual(versions.SIX, self.versions.current())
        self.cloud.change(self.engine, tables.services, version=74)
        self.now += versions.KEEP * 0.9
        self.assertEqual(versions.SIX, self.versions.current())
        self.now += versions.KEEP * 0.2
        self.assertEqual(versions.ALTERNATIVE, self.versions.current())

    def test_unavailable_database(self):
        self.add(60)
        self.versions.current()
        tables.cell.drop_all(self.engine)
        self.now += versions.KEEP * 2
        self.assertEqual(versions.SIX, self.versions.current())
        self.assertIn('using the last known version', self.logs.output)
        fresh = versions.Versions(lambda: self.database)
        self.assertRaises(exceptions.DatabaseUnavailable, fresh.current)
        self.assertRaises(exceptions.DatabaseUnavailable, fresh.current)

    def test_other_threads_use_the_known_version_while_one_thread_reads(self):
        self.add(60)
        self.versions.current()
        self.now += versions.KEEP * 2
        asked, may_answer = threading.Event(), threading.Event()
        self.addCleanup(may_answer.set)

        def slow():
            asked.set()
            may_answer.wait(30)
            return self.database

        self.versions._database = slow
        asking = threading.Thread(target=self.versions.current)
        asking.start()
        self.assertTrue(asked.wait(30))
        self.assertEqual(versions.SIX, self.versions.current())
        self.assertTrue(asking.is_alive())
        may_answer.set()
        asking.join(30)

    def test_pinned_version(self):
        def never():
            raise AssertionError

        self.assertEqual(versions.OLD, versions.Versions(never, pinned=versions.OLD).current())
