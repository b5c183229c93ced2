import contextlib
import pathlib
import socket
import threading
import time

import fixtures
from oslo_config import cfg
from oslo_config import fixture as config_fixture

from external_events_router import conf as router_conf
from external_events_router import exceptions
from external_events_router.metrics import cached
from external_events_router.metrics import catalogue
from external_events_router.metrics import collector
from external_events_router.metrics import exporter
from external_events_router.metrics import recorder
from external_events_router.metrics import setup
from external_events_router.process import bounded_http
from external_events_router.process import monitoring
from external_events_router.process import slots
from tests import base
from tests.unit.metrics import fixtures as metrics_fixtures

SERVICE = setup.Service('resolver', catalogue.RESOLVER, 3)


class _Unlocked:
    def close(self):
        pass


def wait_until(condition):
    deadline = time.monotonic() + 20
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError('waited 20 s')
        time.sleep(0.01)


class ExporterTest(base.TestCase):
    def start(self, collect=list, **kwargs):
        made = exporter.Exporter('127.0.0.1', 0, collect=collect, claim=_Unlocked, **kwargs)
        made.start()
        self.addCleanup(made.stop)
        return made

    def connect(self, made):
        connection = socket.create_connection(('127.0.0.1', made.port), timeout=20)
        self.addCleanup(connection.close)
        return connection

    def ask(self, made, request):
        connection = self.connect(made)
        connection.sendall(request)
        answer = b''
        with contextlib.suppress(ConnectionResetError):
            while data := connection.recv(65536):
                answer += data
        return answer.decode()

    def metric(self):
        return [collector.simple(catalogue.WORKERS, {(): 3.0})]

    def test_get_metrics(self):
        answer = self.ask(self.start(self.metric), b'GET /metrics HTTP/1.0\r\n\r\n')
        head, body = answer.split('\r\n\r\n')
        self.assertIn('200', head.split('\r\n')[0])
        self.assertIn('Content-Type: text/plain; version=', head)
        self.assertIn('external_events_workers 3.0\n', body)

    def test_nothing_else(self):
        made = self.start(self.metric)
        for request, status in (
            (b'GET / HTTP/1.0\r\n\r\n', '404'),
            (b'GET /metricsx HTTP/1.0\r\n\r\n', '404'),
            (b'POST /metrics HTTP/1.0\r\n\r\n', '501'),
            (b'DELETE /metrics HTTP/1.0\r\n\r\n', '501'),
            (b'GET /metrics\r\n' + b'x' * 70_000, '431'),
            (b'\x16\x03\x01\x02\x00\x01\r\n\r\n', '400'),
        ):
            answer = self.ask(made, request)
            self.assertNotIn('external_events', answer)
            self.assertIn(status, answer[:200], request[:30])

    def test_connections_are_limited_in_number_and_time(self):
        self.useFixture(fixtures.MonkeyPatch(f'{exporter.__name__}.TIMEOUT', 1.5))
        made = self.start(self.metric)
        idle = [self.connect(made) for _ in range(bounded_http.MAX_CONNECTIONS)]
        for connection in idle:
            connection.sendall(b'GET /met')
        # A connection that sends a byte now and then does not live longer.
        stopping = threading.Event()
        self.addCleanup(stopping.set)

        def trickle():
            while not stopping.wait(0.1):
                try:
                    idle[0].sendall(b'r')
                except OSError:
                    return

        threading.Thread(target=trickle, daemon=True).start()
        wait_until(lambda: made_refuses(self, made))
        began = time.monotonic()
        for connection in idle:
            connection.settimeout(20)
            try:
                while connection.recv(4096):
                    pass
            except OSError:
                continue
        self.assertLess(time.monotonic() - began, 10)
        wait_until(lambda: '200' in self.ask(made, b'GET /metrics HTTP/1.0\r\n\r\n')[:20])

    def test_part_that_fails_does_not_fail_the_answer(self):
        def fail():
            raise RuntimeError('broken')

        made = self.start(lambda: collector.chained([fail, self.metric]))
        answer = self.ask(made, b'GET /metrics HTTP/1.0\r\n\r\n')
        self.assertIn('200', answer[:20])
        self.assertIn('external_events_workers 3.0\n', answer)
        self.assertIn('could not be determined', self.logs.output)

    def test_port_in_use(self):
        made = self.start()
        error = self.assertRaises(exceptions.ConfigurationError, exporter.check, '127.0.0.1', made.port)
        self.assertIn('[metrics] bind_host, bind_port', str(error))
        self.assertIn('different ports', str(error))

    def test_wait_for_the_port(self):
        self.useFixture(fixtures.MonkeyPatch(f'{exporter.__name__}.RETRY', 0.05))
        first = self.start()
        second = exporter.Exporter('127.0.0.1', first.port, collect=self.metric, claim=_Unlocked, wait=True)
        second.start()
        self.addCleanup(second.stop)
        self.assertEqual(0, second.port)
        wait_until(lambda: 'WARNING' in self.logs.output)
        self.assertIn('No process serves the metrics now: [metrics] bind_host, bind_port', self.logs.output)
        port = first.port
        first.stop()
        wait_until(lambda: second.port)
        self.assertEqual(port, second.port)

    def test_stop_before_the_port_is_free(self):
        first = self.start()
        second = exporter.Exporter('127.0.0.1', first.port, collect=list, claim=_Unlocked, wait=True)
        second.start()
        second.stop()

    def test_ipv6(self):
        made = exporter.Exporter('::1', 0, collect=self.metric, claim=_Unlocked)
        try:
            made.start()
        except exceptions.ConfigurationError as exc:
            self.skipTest(str(exc))
        self.addCleanup(made.stop)
        with socket.create_connection(('::1', made.port), timeout=20) as connection:
            connection.sendall(b'GET /metrics HTTP/1.0\r\n\r\n')
            self.assertIn(b'200', connection.recv(100))


def made_refuses(case, made):
    """Whether a further connection is closed at once."""
    connection = case.connect(made)
    try:
        connection.sendall(b'GET /metrics HTTP/1.0\r\n\r\n')
        return connection.recv(10) == b''
    except OSError:
        return True


class CachedTest(base.TestCase):
    def setUp(self):
        super().setUp()
        self.now = 0.0
        self.calls = 0
        self.release = threading.Event()
        self.release.set()

    def determine(self):
        self.calls += 1
        number = self.calls
        self.release.wait(20)
        return [number]

    def make(self, **kwargs):
        return cached.Cached(self.determine, interval=15.0, clock=lambda: self.now, **kwargs)

    def test_not_more_often_than_the_interval(self):
        source = self.make(wait_limit=20.0)
        self.assertEqual([1], source.collect())
        self.now = 14.9
        self.assertEqual([1], source.collect())
        self.now = 15.0
        self.assertEqual([2], source.collect())

    def test_a_reading_that_hangs_delays_an_answer_only_a_moment(self):
        source = self.make(wait_limit=0.05)
        source.collect()
        wait_until(lambda: source.collect() == [1])
        self.release.clear()
        self.addCleanup(self.release.set)
        self.now = 15.0
        began = time.monotonic()
        for _ in range(5):
            self.now += 15.0
            self.assertEqual([1], source.collect())
        self.assertLess(time.monotonic() - began, 10)
        self.assertEqual(2, self.calls)

    def test_a_reading_that_hangs_for_long_ends_the_values(self):
        source = self.make(wait_limit=0.05, overdue=lambda: iter([0]))
        wait_until(lambda: source.collect() == [1])
        self.release.clear()
        self.addCleanup(self.release.set)
        self.now = 15.0
        self.assertEqual([1], source.collect())
        self.now += cached.LONGEST + 1
        self.assertEqual([0], source.collect())
        self.release.set()
        wait_until(lambda: source.collect() == [2])

    def test_the_database_is_not_up_while_its_reading_hangs(self):
        self.assertEqual(
            [('external_events_database_up', 0.0)],
            [(metric.name, metric.samples[0].value) for metric in monitoring.no_database()],
        )

    def test_an_error_ends_the_values(self):
        source = self.make(wait_limit=20.0)
        source.collect()
        self.determine = lambda: 1 / 0
        source = cached.Cached(self.determine, interval=15.0, wait_limit=20.0)
        self.assertEqual((), source.collect())
        self.assertIn('could not be determined', self.logs.output)


class SetupTest(base.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
        self.conf = cfg.ConfigOpts()
        router_conf.register_all(self.conf)
        self.conf([], default_config_files=[], default_config_dirs=[])
        self.configured = self.useFixture(config_fixture.Config(self.conf))
        self.configured.config(group='metrics', directory=str(self.folder))
        self.addCleanup(recorder.install, recorder.current())
        with socket.create_server(('127.0.0.1', 0)) as probe:
            self.port = probe.getsockname()[1]

    def enable(self):
        self.configured.config(group='metrics', bind_port=self.port)

    def count(self):
        setup.count(self.conf, SERVICE)
        counting = recorder.current()
        self.addCleanup(counting.close)
        return counting

    def test_disabled_by_default(self):
        before = recorder.current()
        setup.check(self.conf, SERVICE)
        setup.count(self.conf, SERVICE)
        self.assertIs(before, recorder.current())
        self.assertIs(recorder.Recorder, type(before))
        self.assertIsNone(setup.make_exporter(self.conf, SERVICE, version='1'))
        self.assertEqual([], list(self.folder.iterdir()))

    def collected(self, **kwargs):
        made = setup.make_exporter(self.conf, SERVICE, version='1.2', **kwargs)
        return metrics_fixtures.samples(metrics_fixtures.render(made._collect()))

    def test_all_metrics_of_the_service(self):
        self.enable()
        self.count().ended(['expired'])
        found = self.collected()
        self.assertEqual(1.0, found['external_events_ended_total', frozenset({('state', 'expired')})])
        self.assertEqual(1.0, found['external_events_workers', frozenset()])
        self.assertEqual(3.0, found['external_events_workers_configured', frozenset()])
        self.assertEqual(2.0, found['external_events_ack_timeout_seconds', frozenset()])
        self.assertEqual(1.0, found['external_events_build_info', frozenset({('version', '1.2')})])
        slot = frozenset({('slot', '0')})
        self.assertGreater(found['process_resident_memory_bytes', slot], 1e6)
        self.assertGreater(found['process_cpu_seconds_total', slot], 0)
        self.assertGreater(found['process_open_fds', slot], 3)
        self.assertGreater(found['process_max_fds', slot], found['process_open_fds', slot])
        self.assertLess(abs(time.time() - found['process_start_time_seconds', slot]), 86400)
        self.assertNotIn('external_events_requests_total', {name for name, _labels in found})

    def test_damaged_file_is_left_out_counted_and_logged_once(self):
        self.enable()
        self.count().ended(['expired'])
        (self.folder / 'resolver' / 'counter_7.db').write_bytes(b'damaged')
        made = setup.make_exporter(self.conf, SERVICE, version='1.2')
        for _ in range(3):
            found = metrics_fixtures.samples(metrics_fixtures.render(made._collect()))
        self.assertEqual(1.0, found['external_events_metrics_unreadable_files', frozenset()])
        self.assertEqual(1.0, found['external_events_ended_total', frozenset({('state', 'expired')})])
        self.assertEqual(1, self.logs.output.count('counter_7.db is left out'))

    def test_folder_that_another_service_serves(self):
        self.enable()
        held = slots.lock(self.folder / 'resolver' / setup.EXPORTER_LOCK) if self.count() else None
        self.addCleanup(held.close)
        made = setup.make_exporter(self.conf, SERVICE, version='1')
        error = self.assertRaises(exceptions.ConfigurationError, made.start)
        self.assertIn('[metrics] directory', str(error))

    def test_folder_that_cannot_be_written(self):
        self.enable()
        (self.folder / 'resolver').touch()
        error = self.assertRaises(exceptions.ConfigurationError, setup.check, self.conf, SERVICE)
        self.assertIn('[metrics] directory', str(error))
        setup.count(self.conf, SERVICE)
        self.assertIs(recorder.Recorder, type(recorder.current()))
        self.assertIn('counts no metrics', self.logs.output)

    def test_sender_that_does_not_exist(self):
        self.enable()
        self.configured.config(group='metrics', sender_users={'svc': 'neutrino'})
        error = self.assertRaises(exceptions.ConfigurationError, setup.check, self.conf, SERVICE)
        self.assertIn("'neutrino'", str(error))

    def test_only_the_service_may_read_the_folder(self):
        self.enable()
        setup.check(self.conf, SERVICE)
        self.assertEqual(0o700, (self.folder / 'resolver').stat().st_mode & 0o777)
