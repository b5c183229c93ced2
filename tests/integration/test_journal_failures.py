"""The journal while workers are killed, databases are unavailable and clocks differ.

The promise is the same in all of them: for each period that the journal calls complete, it
contains each event that a worker received in it.
"""

import pathlib
import signal
import sys
import time

import sqlalchemy as sa

from external_events_router.db import migration
from external_events_router.journal import completeness
from external_events_router.journal import reads
from external_events_router.journal import reasons
from external_events_router.journal import records
from external_events_router.journal import store
from tests import base
from tests.faults import clock
from tests.faults import proxy
from tests.integration import deployment
from tests.integration import services
from tests.unit.db import databases

PORTS = {'mysql': 3306, 'postgresql': 5432}

#: Microseconds by which two processes may differ about the time of the database.
ACCURACY = 100_000

#: Seconds for which the database is unavailable.
OUTAGE = 10.0


class FailureScenarios:
    TIMEOUT_SCALING_FACTOR = 3

    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.useFixture(services.Folder()).path)
        self.url = self.useFixture(self.SERVICE()).url
        self.database = databases.database(self.url)
        self.addCleanup(self.database.close)
        migration.upgrade(self.database)
        self.reader = reads.Reader(self.database)
        self.began = self.reader.now()
        measured = store.Store(self.database)
        measured.synchronize()
        self.clock = measured.clock

    def worker(self, name, *, url=None, queue_size=50_000, environment=None):
        module = 'tests.integration.journal_worker'
        command = [sys.executable, '-m', module, url or self.url, name, queue_size]
        made = deployment.Process(
            f'{name}-{time.monotonic_ns()}', command, self.folder, environment=environment
        )
        return self.useFixture(made)

    def received(self, worker):
        """Tags of the events that a worker has received, and their times, in their order."""
        prefix = f'{worker.command[-2]}-{worker.pid}-'
        lines = [line.split() for line in worker.text().splitlines() if line.startswith(prefix)]
        return {line[0]: self.clock(float(line[1])) for line in lines if len(line) == 2}

    def recorded(self):
        period = reads.Period(self.began - records.HOUR, self.reader.now() + records.HOUR)
        return {event.tag: event for event in self.reader.events(reads.Selection(), period, limit=100_000)}

    def gaps(self, until=None):
        found = completeness.gaps(self.database, self.began, until or self.reader.now())
        return [gap for gap in found if gap.worker is not None]

    def wait_until_written(self, until):
        """Wait until all running workers have written what arrived by then; the gaps that are left."""

        def is_written():
            return reasons.GapReason.NOT_WRITTEN_YET not in {gap.reason for gap in self.gaps(until)}

        deployment.wait_until(is_written, 'all workers have written')
        return self.gaps(until)

    def check(self, worker, gaps, until=None):
        """Each event that was received is recorded, or was received in a gap.

        :param until: events that were received later do not matter
        :returns: the events that are not recorded
        """
        received = self.received(worker)
        recorded = self.recorded()
        missing = {tag: at for tag, at in received.items() if tag not in recorded and at <= (until or at)}
        for tag, at in missing.items():
            in_gap = [gap for gap in gaps if gap.from_at - ACCURACY <= at <= gap.to_at + ACCURACY]
            self.assertNotEqual([], in_gap, f'{tag} at {at} of {gaps}')
        return missing

    def test_a_worker_that_is_killed(self):
        worker = self.worker('controller:0')
        deployment.wait_until(lambda: len(self.recorded()) > 50, 'events in the journal')
        worker.stop(number=signal.SIGKILL)
        killed_at = self.reader.now()
        self.assertEqual(['not_written_yet'], [str(gap.reason) for gap in self.gaps(killed_at)])
        self.worker('controller:0')
        deployment.wait_until(lambda: 'killed' in [gap.reason for gap in self.gaps()], 'the gap')
        (gap,) = [gap for gap in self.gaps() if gap.reason is reasons.GapReason.KILLED]
        self.assertLess(gap.from_at, killed_at)
        self.assertGreater(gap.to_at, killed_at - records.SECOND)
        missing = self.check(worker, [gap])
        # A gap of a few seconds, and not all of the worker's life.
        self.assertLess(len(missing), len(self.received(worker)) / 2)
        self.assertGreater(gap.from_at, self.began)

    def test_the_database_does_not_respond_for_a_while(self):
        through = self.useFixture(proxy.Proxy('proxy', PORTS[self.database.dialect], self.folder))
        worker = self.worker('controller:0', url=self.url_through(through))
        deployment.wait_until(lambda: len(self.recorded()) > 10, 'events in the journal')
        with through.silent():
            silent_at = self.reader.now()
            number = len(self.received(worker))
            time.sleep(OUTAGE)
            # The worker goes on, whatever its writer waits for.
            self.assertGreater(len(self.received(worker)), number + OUTAGE / 0.1)
            self.assertIn('not_written_yet', [str(gap.reason) for gap in self.gaps()])
        until = silent_at + int(OUTAGE * records.SECOND)
        self.assertEqual([], self.wait_until_written(until))
        self.assertEqual({}, self.check(worker, [], until))

    def test_the_queue_is_full_while_the_database_refuses_connections(self):
        through = self.useFixture(proxy.Proxy('proxy', PORTS[self.database.dialect], self.folder))
        worker = self.worker('controller:0', url=self.url_through(through), queue_size=100)
        deployment.wait_until(lambda: len(self.recorded()) > 10, 'events in the journal')
        through.stop(number=signal.SIGKILL)
        time.sleep(OUTAGE)
        through.start()
        through.wait_for('listening\n')
        self.wait_until_written(self.reader.now())
        self.assertEqual(0, worker.stop())
        gaps = self.gaps()
        self.assertEqual({'database'}, {str(gap.reason) for gap in gaps} - {'queue_full'})
        missing = self.check(worker, gaps)
        self.assertEqual(len(missing), sum(gap.missing for gap in gaps))
        self.assertLess(0, len(missing))

    def test_clocks_that_differ(self):
        workers = [
            self.worker(f'controller-{shift}:0', environment=clock.shifted(shift)) for shift in (30, -30)
        ]
        for worker in workers:
            deployment.wait_until(
                lambda name=worker.command[-2]: any(tag.startswith(name) for tag in self.recorded()),
                'events in the journal',
            )
        until = self.reader.now()
        self.assertEqual([], self.wait_until_written(until))
        for tag, event in self.recorded().items():
            self.assertTrue(self.began <= event.received_at <= until + 5 * records.SECOND, tag)

    def test_a_new_worker_beside_another(self):
        first = self.worker('controller:0')
        deployment.wait_until(lambda: len(self.recorded()) > 10, 'events in the journal')
        second = self.worker('controller:1')
        deployment.wait_until(lambda: len(self.received(second)) > 10, 'a second worker')
        # While the second worker has unwritten records, the period is incomplete.
        now = self.reader.now()
        self.assertIn('not_written_yet', [str(gap.reason) for gap in self.gaps(now)])
        self.assertEqual([], self.wait_until_written(now))
        for worker in (first, second):
            self.assertEqual(0, worker.stop())
            self.assertEqual({}, self.check(worker, []))
        self.assertEqual([], [gap for gap in self.gaps() if gap.reason is reasons.GapReason.KILLED])

    def url_through(self, through):
        url = sa.make_url(self.url).set(host='127.0.0.1', port=through.port)
        return url.render_as_string(hide_password=False)


class TestPostgreSQL(FailureScenarios, base.TestCase):
    SERVICE = services.PostgreSQL


class TestMySQL(FailureScenarios, base.TestCase):
    SERVICE = services.MySQL
