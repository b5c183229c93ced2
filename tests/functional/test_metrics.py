"""The metrics of each step of a batch, from the request to the redelivery."""

import itertools

import fixtures as fixtures_lib

from external_events_router.process import monitoring
from external_events_router.resolver import host_overview
from external_events_router.resolver.hold import statistics
from tests import base
from tests.functional import fixtures
from tests.unit.metrics import fixtures as metrics_fixtures

PLACED, ON_NO_HOST, UNKNOWN = (f'{number:08x}-0000-4000-8000-000000000000' for number in range(1, 4))
HOSTS_OF = {PLACED: ['host-a'], ON_NO_HOST: []}


class MetricsTest(base.TestCase):
    def start(self, **overrides):
        self.recording = self.useFixture(metrics_fixtures.Recording())
        # NOTE: the port only enables the counters of statuses; no exporter listens on it here.
        options = {'metrics__bind_port': 1, 'delivery__ack_timeout': 0.4, **overrides}
        self.router = self.useFixture(fixtures.Router(HOSTS_OF, **options))
        return self.router

    def value(self, sample, /, **labels):
        return self.recording.value(f'external_events_{sample}', **labels)

    def check(self, expected, sample, /, **labels):
        self.router.wait_until(lambda: self.value(sample, **labels) == expected)

    def test_batch_that_is_delivered(self):
        router = self.start(delivery__ack_timeout=fixtures.PATIENCE)
        router.post(fixtures.event(PLACED), fixtures.event(PLACED), fixtures.event(UNKNOWN))
        self.check(1.0, 'requests_total', status='207')
        self.check(1.0, 'request_seconds_count')
        self.check(2.0, 'total', name='network-changed', code='200')
        self.check(1.0, 'total', name='network-changed', code='404')
        self.check(1.0, 'sender_posts_total', sender='neutron')
        self.check(1.0, 'lookups_total', result='complete')
        self.check(2.0, 'deliveries_total', path='direct', result='handled')
        self.check(2.0, 'delivery_seconds_count', path='direct')
        self.check(1.0, 'ack_seconds_count', path='direct')
        self.check(2.0, 'agent_events_total', result='handled')
        self.check(0.0, 'hold_total', result='held')

    def test_request_that_is_refused(self):
        router = self.start()
        router.post({'name': 'no-event', 'server_uuid': PLACED})
        self.check(1.0, 'requests_total', status='400')
        self.check(0.0, 'request_seconds_count')

    def test_event_that_is_held_and_delivered_later(self):
        router = self.start(hosts=())
        self.assertEqual([200], router.post(fixtures.event(PLACED)).codes)
        self.check(1.0, 'hold_total', result='held')
        self.check(1.0, 'breaker_changes_total', change='opened')
        self.check(1.0, 'breakers_open')
        self.check(0.0, 'delivery_seconds_count', path='direct')
        router._hosts = ('host-a',)
        router.start_agents()
        router.wait_until(lambda: not router.held())
        self.check(1.0, 'ended_total', state='delivered')
        self.check(1.0, 'delivery_seconds_count', path='held')
        self.check(1.0, 'breaker_changes_total', change='closed')
        self.check(0.0, 'breakers_open')
        self.check(1.0, 'hosts_known')
        self.assertGreaterEqual(self.value('deliveries_total', path='held', result='handled'), 1.0)

    def test_event_that_expires(self):
        router = self.start(hosts=(), delivery__event_ttl=1.0)
        router.post(fixtures.event(PLACED))
        self.check(1.0, 'ended_total', state='expired')

    def test_event_that_cannot_be_held(self):
        router = self.start(hosts=())
        # The lookup of the first batch fills the cache.
        router.post(fixtures.event(PLACED))
        self.break_database()
        answer = router.post(fixtures.event(PLACED))
        self.assertEqual([503], answer.codes)
        self.check(1.0, 'hold_total', result='failed')
        self.check(1.0, 'total', name='network-changed', code='503')
        router.post(fixtures.event(UNKNOWN))
        self.check(1.0, 'lookups_total', result='cached')
        self.check(1.0, 'lookups_total', result='failed')

    def break_database(self):
        with self.router.database.writing() as connection:
            for table in ('held_hosts', 'held_events', 'held_servers', 'server_hosts', 'servers'):
                connection.exec_driver_sql(f'ALTER TABLE {table} RENAME TO broken_{table}')

    def test_numbers_of_held_events(self):
        router = self.start(hosts=())
        held = statistics.Statistics(router.database)
        read = metrics_fixtures.samples(metrics_fixtures.render(monitoring.read_hold(held)))
        self.assertEqual(0.0, read['external_events_held_oldest_seconds', frozenset()])
        for _ in range(3):
            router.post(fixtures.event(PLACED))
        read = metrics_fixtures.samples(metrics_fixtures.render(monitoring.read_hold(held)))
        states = {dict(labels).get('state'): value for (_, labels), value in read.items()}
        self.assertEqual(3.0, states['held'])
        self.assertEqual(0.0, states['expired'])
        self.assertGreater(read['external_events_held_oldest_seconds', frozenset()], 0.0)
        self.assertEqual(1.0, read['external_events_database_up', frozenset()])

    def test_database_that_is_unavailable(self):
        router = self.start()
        self.break_database()
        found = list(monitoring.read_hold(statistics.Statistics(router.database)))
        samples = itertools.chain.from_iterable(family.samples for family in found)
        self.assertEqual(
            [('external_events_database_up', 0.0)], [(sample.name, sample.value) for sample in samples]
        )


class HostStatesTest(base.TestCase):
    def test_reports_and_breakers_are_stored(self):
        self.useFixture(
            fixtures_lib.MonkeyPatch('external_events_router.resolver.host_states.INTERVAL', 0.05)
        )
        router = self.useFixture(fixtures.Router(HOSTS_OF, hosts=('host-b',), delivery__ack_timeout=0.4))
        router.post(fixtures.event(PLACED))
        overview = host_overview.HostOverview(router.database)

        def found():
            return {
                host.name: (host.servers, host.silent_for is not None, host.breakers, host.held)
                for host in overview.read()
            }

        wanted = {'host-a': (1, False, 1, 1), 'host-b': (0, True, 0, 0)}
        router.wait_until(lambda: found() == wanted)
