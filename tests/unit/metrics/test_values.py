import pathlib
import threading

import fixtures
from prometheus_client import core
from prometheus_client import multiprocess

from external_events_router.metrics import catalogue
from external_events_router.metrics import values
from tests import base
from tests.unit.metrics import fixtures as metrics_fixtures

METRICS = catalogue.stored(catalogue.EVERY_ROLE)


class ValuesTest(base.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.useFixture(fixtures.TempDir()).path)

    def claim(self, metrics=METRICS):
        stored = values.claim(self.folder, metrics)
        self.addCleanup(stored.close)
        return stored

    def value(self, sample, **labels):
        return metrics_fixtures.read(self.folder).get((sample, frozenset(labels.items())))

    def ended(self, number=1.0):
        return [(catalogue.ENDED, ('expired',), number)]

    def test_counters_of_processes_are_added(self):
        for _ in range(2):
            self.claim().add(self.ended(2.0))
        self.assertEqual(4.0, self.value('external_events_ended_total', state='expired'))
        self.assertEqual(2.0, self.value('external_events_worker_starts_total'))

    def test_every_series_is_there_from_the_start(self):
        found = metrics_fixtures.read(self.folder)
        self.assertEqual(0.0, found['external_events_ended_total', frozenset({('state', 'expired')})])
        self.assertEqual(
            0.0, found['external_events_total', frozenset({('name', 'power-update'), ('code', '503')})]
        )
        self.assertEqual(0.0, found['external_events_lookup_seconds_bucket', frozenset({('le', '+Inf')})])

    def test_counters_continue_after_a_restart(self):
        self.claim().add(self.ended())
        first = self.claim()
        first.add(self.ended())
        first.close()
        again = self.claim()
        self.assertEqual(first.slot.number, again.slot.number)
        again.add(self.ended())
        self.assertEqual(3.0, self.value('external_events_ended_total', state='expired'))

    def test_gauges_end_with_their_process(self):
        first, second = self.claim(), self.claim()
        first.set(catalogue.BREAKERS_OPEN, 5.0)
        second.set(catalogue.BREAKERS_OPEN, 2.0)
        self.assertEqual(5.0, self.value('external_events_breakers_open'))
        first.close()
        self.assertEqual(2.0, self.value('external_events_breakers_open'))
        self.claim()
        self.assertEqual(2.0, self.value('external_events_breakers_open'))
        second.close()
        self.assertEqual(0.0, self.value('external_events_breakers_open'))

    def test_time_of_the_last_batch_does_not_end_with_its_process(self):
        first = self.claim()
        first.set(catalogue.SENDER_LAST_POST, 1234.0, 'neutron')
        first.close()
        self.claim()
        name = 'external_events_sender_last_post_timestamp_seconds'
        self.assertEqual(1234.0, self.value(name, sender='neutron'))

    def test_the_smallest_gauge_counts_for_the_broker(self):
        first, second = self.claim(), self.claim()
        first.set(catalogue.BROKER_UP, 1.0)
        self.assertEqual(0.0, self.value('external_events_broker_up'))
        second.set(catalogue.BROKER_UP, 1.0)
        self.assertEqual(1.0, self.value('external_events_broker_up'))

    def test_histogram(self):
        stored = self.claim()
        stored.observe(catalogue.LOOKUP_SECONDS, 0.001)
        stored.observe(catalogue.LOOKUP_SECONDS, 0.3, number=3)
        stored.observe(catalogue.LOOKUP_SECONDS, 100.0)
        buckets = {
            dict(labels)['le']: value
            for (name, labels), value in metrics_fixtures.read(self.folder).items()
            if name == 'external_events_lookup_seconds_bucket'
        }
        self.assertEqual(
            (1.0, 1.0, 4.0, 5.0), tuple(buckets[bound] for bound in ('0.001', '0.25', '0.5', '+Inf'))
        )
        self.assertEqual(5.0, self.value('external_events_lookup_seconds_count'))
        self.assertAlmostEqual(100.901, self.value('external_events_lookup_seconds_sum'))

    def test_prometheus_client_reads_the_same_values(self):
        for _ in range(2):
            stored = self.claim()
            stored.add(self.ended(2.0))
            stored.observe(catalogue.DELIVERY_SECONDS, 0.3, 'direct')
            stored.set(catalogue.SENDER_LAST_POST, 7.0, 'cinder')
        registry = core.CollectorRegistry()
        multiprocess.MultiProcessCollector(registry, path=str(self.folder))
        theirs = metrics_fixtures.samples(metrics_fixtures.render(registry.collect()))
        ours = metrics_fixtures.read(self.folder)
        self.assertEqual(ours, {key: theirs.get(key) for key in ours})

    def test_damaged_file_is_replaced_counted_and_logged(self):
        first = self.claim()
        first.add(self.ended())
        first.observe(catalogue.LOOKUP_SECONDS, 0.1)
        first.close()
        for _ in range(2):
            (self.folder / 'counter_0.db').write_bytes(b'damaged')
            again = self.claim()
            again.add(self.ended())
            again.close()
        self.assertEqual(1.0, self.value('external_events_ended_total', state='expired'))
        self.assertEqual(1.0, self.value('external_events_metrics_damaged_files_total'))
        self.assertEqual(1.0, self.value('external_events_lookup_seconds_count'))
        self.assertEqual(b'damaged', (self.folder / 'counter_0.damaged').read_bytes())
        self.assertEqual(2, self.logs.output.count('counter_0.db is damaged'))

    def test_files_of_another_release(self):
        # It lacked one metric, and had a metric that was removed later.
        old = [
            catalogue.ENDED,
            catalogue.Metric('previous_release_total', catalogue.Kind.COUNTER, '', catalogue.API),
        ]
        stored = self.claim(old)
        stored.add([*self.ended(), (old[1], (), 1.0)])
        stored.close()
        self.claim()
        self.assertEqual(1.0, self.value('external_events_ended_total', state='expired'))
        self.assertEqual(0.0, self.value('external_events_requests_total', status='200'))
        self.assertNotIn(b'previous_release', (self.folder / 'counter_0.db').read_bytes())

    def test_series_that_does_not_exist_is_ignored(self):
        stored = self.claim()
        stored.add([(catalogue.ENDED, ('unknown',), 1.0)])
        stored.set(catalogue.SENDER_LAST_POST, 1.0, 'unknown')
        stored.observe(catalogue.DELIVERY_SECONDS, 1.0, 'unknown')

    def test_nothing_is_counted_after_the_end(self):
        stored = self.claim()
        stored.close()
        stored.add(self.ended())
        stored.set(catalogue.BREAKERS_OPEN, 1.0)
        stored.observe(catalogue.LOOKUP_SECONDS, 1.0)
        self.assertEqual(0.0, self.value('external_events_ended_total', state='expired'))

    def test_slot_is_free_again_if_files_cannot_be_written(self):
        (self.folder / 'counter_0.db').mkdir()
        self.assertRaises(OSError, values.claim, self.folder, METRICS)
        (self.folder / 'counter_0.db').rmdir()
        self.assertEqual(0, self.claim().slot.number)

    def test_threads_lose_no_changes(self):
        stored = self.claim()

        def count():
            for _ in range(1000):
                stored.add(self.ended())
                stored.observe(catalogue.LOOKUP_SECONDS, 0.01)

        threads = [threading.Thread(target=count) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        self.assertEqual(4000.0, self.value('external_events_ended_total', state='expired'))
        self.assertEqual(4000.0, self.value('external_events_lookup_seconds_count'))
