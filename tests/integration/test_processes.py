"""Parents, workers and signals of the services as real processes. No broker and no database server."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import threading
import time

from tests import base
from tests.integration import deployment
from tests.integration import services

#: Seconds in which workers without requests have ended after their parent.
SOON = 2.0

#: Seconds that a busy machine may take beyond a bound.
BUSY = 3.0

#: Reloads and the least number of requests of the long form.
LONG = os.environ.get('EER_TEST_LONG') == '1'
RELOADS = 10 if LONG else 1
REQUESTS = 20_000 if LONG else 500
CLIENTS = 8

SERVER = '00000001-0000-4000-8000-000000000000'


class ApiTest(base.TestCase):
    """``external-events-api`` with two workers, over ``fake://`` and SQLite."""

    TIMEOUT_SCALING_FACTOR = 10 if LONG else 5

    WORKERS = 2

    def setUp(self):
        super().setUp()
        self.router = self.useFixture(
            ApiDeployment(
                transport_url='fake://',
                connection=f'sqlite:///{self.useFixture(services.Folder()).path}/router.sqlite',
                hosts=(),
                hosts_of={},
                api__workers=self.WORKERS,
                api__none_found_status=207,
            )
        )

    def workers(self):
        """The worker processes, without the resource tracker of multiprocessing."""
        # NOTE: a worker's command line is its title once it has one.
        return [
            pid for pid in services.children(self.router.api.pid) if 'resource_tracker' not in command_of(pid)
        ]

    def wait_for_end(self, pids, seconds):
        deadline = time.monotonic() + seconds
        while any(map(services.is_alive, pids)):
            self.assertLess(time.monotonic(), deadline, f'still there: {pids}\n{self.router.api.text()}')
            time.sleep(0.02)


class KilledParentTest(ApiTest):
    def test_workers_end_and_the_port_is_free_for_a_restart(self):
        # The first worker answers before the parent has started the second.
        deployment.wait_until(lambda: len(self.workers()) == self.WORKERS, 'all workers')
        workers = self.workers()
        # Connections that are open change nothing.
        idle = http.client.HTTPConnection('127.0.0.1', self.router.port, timeout=deployment.PATIENCE)
        self.addCleanup(idle.close)
        idle.request('GET', '/')
        idle.getresponse().read()
        services.kill(self.router.api.pid)
        # A restart at once waits for the port, where the old workers may still answer.
        again = deployment.Process('again', self.router.api.command, self.router.folder)
        self.useFixture(again)
        self.wait_for_end(workers, SOON + BUSY)
        deployment.wait_until(lambda: deployment.listens(self.router.port), f'a listener ({again.log})')
        self.assertEqual((207, [404]), self.router.post({'name': 'network-changed', 'server_uuid': SERVER}))


class KilledResolverParentTest(base.TestCase):
    """``external-events-resolver`` with two workers, over ``fake://`` and SQLite."""

    TIMEOUT_SCALING_FACTOR = 5

    def test_workers_end_and_a_restart_is_ready(self):
        router = self.useFixture(
            Resolvers(
                transport_url='fake://',
                connection=f'sqlite:///{self.useFixture(services.Folder()).path}/router.sqlite',
                hosts=(),
                hosts_of={},
            )
        )
        workers = services.children(router.resolver.pid)
        self.assertEqual(2, len(workers))
        services.kill(router.resolver.pid)
        began = time.monotonic()
        deployment.wait_until(lambda: not any(map(services.is_alive, workers)), 'the end of the workers')
        self.assertLess(time.monotonic() - began, SOON + BUSY)
        router.resolver.process.wait(deployment.PATIENCE)
        router.resolver.start()
        router.resolver.wait_for('is ready', times=2)


class ResolverSignalsTest(base.TestCase):
    """Signals for the parent, a worker and the process of the metrics, over ``fake://`` and SQLite."""

    TIMEOUT_SCALING_FACTOR = 5

    def test_each_process_writes_a_report_and_continues(self):
        folder = self.useFixture(services.Folder()).path
        router = self.useFixture(
            Resolvers(
                transport_url='fake://',
                connection=f'sqlite:///{folder}/router.sqlite',
                hosts=(),
                hosts_of={},
                resolver__workers=1,
                metrics__bind_port=deployment.free_port(),
                metrics__directory=folder / 'metrics',
                oslo_reports__log_dir=folder,
            )
        )
        parent = router.resolver.pid
        deployment.wait_until(lambda: len(services.children(parent)) == 2, 'both children')
        deployment.wait_until(lambda: deployment.listens(router.options['metrics__bind_port']), 'metrics')
        processes = [parent, *services.children(parent)]
        for number, pid in enumerate(processes, 1):
            os.kill(pid, signal.SIGUSR1)
            router.resolver.wait_for('SIGUSR1 received', times=number)
            os.kill(pid, signal.SIGUSR2)
            router.resolver.wait_for('SIGUSR2 received: the report was written', times=number)
            self.assertEqual(1, len(list(folder.glob(f'*_gurumeditation_*_{pid}'))))
        self.assertEqual(processes, [parent, *services.children(parent)])
        self.assertTrue(all(map(services.is_alive, processes)))


class InterruptedResolverTest(base.TestCase):
    """Ctrl-C in the terminal of ``external-events-resolver``, over ``fake://`` and SQLite."""

    TIMEOUT_SCALING_FACTOR = 5

    def test_workers_finish_their_work(self):
        router = self.useFixture(
            Resolvers(
                transport_url='fake://',
                connection=f'sqlite:///{self.useFixture(services.Folder()).path}/router.sqlite',
                hosts=(),
                hosts_of={},
            )
        )
        parent = router.resolver.pid
        # NOTE: a terminal sends the signal to each process, in no particular order.
        for pid in (*services.children(parent), parent):
            os.kill(pid, signal.SIGINT)
        self.assertEqual(0, router.resolver.process.wait(deployment.PATIENCE), router.resolver.text())
        router.resolver.wait_for('has stopped', times=2)
        router.resolver.wait_for('SIGINT received')


class ReloadedResolverTest(base.TestCase):
    """SIGHUP for ``external-events-resolver``, over ``fake://`` and SQLite."""

    TIMEOUT_SCALING_FACTOR = 5

    NAME = 'external-events-router.conf'

    def setUp(self):
        super().setUp()
        folder = self.useFixture(services.Folder()).path
        self.router = self.useFixture(
            Resolvers(
                transport_url='fake://',
                connection=f'sqlite:///{folder}/router.sqlite',
                hosts=(),
                hosts_of={},
                resolver__workers=1,
                health__bind_port=deployment.free_port(),
            )
        )
        self.process = self.router.resolver
        self.workers = services.children(self.process.pid)

    def reload(self, **options):
        self.router.write_config(self.NAME, **options)
        self.process.process.send_signal(signal.SIGHUP)

    def assertNotReloaded(self, problem, **options):
        self.reload(**options)
        self.process.wait_for(f'Configuration not reloaded: {problem}')
        self.assertEqual(self.workers, services.children(self.process.pid))

    def test_workers_stay_if_a_value_is_not_valid(self):
        self.assertNotReloaded('[delivery] ack_timeout', delivery__ack_timeout='soon')
        text = self.router.config.read_text()
        self.router.config.write_text('this is\nno configuration\n')
        self.process.process.send_signal(signal.SIGHUP)
        self.process.wait_for('Configuration not reloaded: configuration: Failed to parse')
        self.router.config.write_text(text)
        self.assertNotReloaded('[host_map] backend', host_map__backend='nonsense')
        self.assertNotReloaded('[DEFAULT] log_file', log_file='/proc/nonsense/log')
        with socket.create_server(('127.0.0.1', 0)) as used:
            port = used.getsockname()[1]
            self.assertNotReloaded('[health] bind_host, bind_port', health__bind_port=port)
        # A new worker has the previous values.
        services.kill(self.workers[0])
        self.process.wait_for('is ready', times=2)

    def test_workers_are_replaced_if_the_values_are_valid(self):
        self.reload(delivery__ack_timeout='3.0', debug='true')
        self.process.wait_for('is ready', times=2)
        self.assertIn('delivery.ack_timeout           = 3.0', self.process.text())
        deployment.wait_until(lambda: not services.is_alive(self.workers[0]), 'the end of the worker')


class UsedPortTest(base.TestCase):
    """A port of ``[health]`` that another process uses, over ``fake://`` and SQLite."""

    TIMEOUT_SCALING_FACTOR = 5

    def test_the_resolver_ends_with_one_line(self):
        folder = self.useFixture(services.Folder()).path
        port = deployment.free_port()
        router = self.useFixture(
            Prepared(
                transport_url='fake://',
                connection=f'sqlite:///{folder}/router.sqlite',
                hosts=(),
                hosts_of={},
                health__bind_port=port,
            )
        )
        words = [deployment.BIN / 'external-events-resolver', '--config-file', router.config]
        # NOTE: the port of the second worker.
        with socket.create_server(('127.0.0.1', port + 1)):
            process = self.useFixture(deployment.Process('resolver', words, router.folder))
            self.assertEqual(1, process.process.wait(deployment.PATIENCE))
        lines = [line for line in process.text().splitlines() if ' INFO ' not in line]
        self.assertEqual(1, len(lines), process.text())
        self.assertIn(f'[health] bind_host, bind_port: cannot listen on 127.0.0.1 port {port + 1}', lines[0])


#: Imported at the start of each process: a thread with this name does nothing.
FAULT = """
import threading
start = threading.Thread.start
def start_without_target(thread):
    if thread.name == {name!r}:
        thread._target = lambda *args: None
    start(thread)
threading.Thread.start = start_without_target
"""


class EndedThreadTest(base.TestCase):
    """A thread that returns silently, in each service as a process."""

    TIMEOUT_SCALING_FACTOR = 5

    def environment(self, name):
        """Of a process in which a thread of this name returns at once."""
        folder = self.useFixture(services.Folder()).path
        (folder / 'sitecustomize.py').write_text(FAULT.format(name=name))
        return {**os.environ, 'PYTHONPATH': str(folder)}

    def start(self, command, *arguments, thread):
        """Start a command, over ``fake://`` and SQLite."""
        folder = self.useFixture(services.Folder()).path
        deployed = self.useFixture(
            Prepared(
                transport_url='fake://',
                connection=f'sqlite:///{folder}/router.sqlite',
                hosts=(),
                hosts_of={},
                api__workers=1,
            )
        )
        words = [deployment.BIN / command, '--config-file', deployed.config, *arguments]
        environment = self.environment(thread)
        process = deployment.Process(command, words, deployed.folder, environment=environment)
        return deployed, self.useFixture(process)

    def assertUnhealthy(self, deployed, process, thread):
        process.wait_for(f'The thread {thread} ended with UnexpectedEnd')
        deployment.wait_until(lambda: deployment.listens(deployed.port), 'a listener')
        connection = http.client.HTTPConnection('127.0.0.1', deployed.port, timeout=deployment.PATIENCE)
        self.addCleanup(connection.close)
        connection.request('GET', '/healthcheck')
        self.assertEqual(503, connection.getresponse().status)

    def test_api(self):
        deployed, process = self.start('external-events-api', thread='redelivery')
        self.assertUnhealthy(deployed, process, 'redelivery')
        # The worker is replaced.
        process.wait_for('The thread redelivery ended', times=2)

    def test_all_in_one(self):
        deployed, process = self.start('external-events-all-in-one', thread='host-liveness')
        self.assertUnhealthy(deployed, process, 'host-liveness')
        self.assertEqual(1, process.process.wait(deployment.PATIENCE))

    def test_agent(self):
        _deployed, process = self.start('external-events-agent', thread='reports')
        self.assertEqual(1, process.process.wait(deployment.PATIENCE))
        self.assertIn('The thread reports ended with UnexpectedEnd', process.text())


#: The start of a worker waits until a file exists.
WAIT_IN_START = """
import pathlib, time
from external_events_router.resolver import service
start = service.Resolver.start
def wait_and_start(resolver):
    while not pathlib.Path({path!r}).exists():
        time.sleep(0.05)
    start(resolver)
service.Resolver.start = wait_and_start
"""

#: A worker fails before its start.
FAIL_BEFORE_START = """
from external_events_router.resolver import service
def fail(*args, **options):
    raise RuntimeError('not possible')
service.Resolver.from_conf = fail
"""


class ReadyResolverTest(base.TestCase):
    """What ``external-events-resolver`` sends to systemd, for which a socket stands."""

    TIMEOUT_SCALING_FACTOR = 5

    def setUp(self):
        super().setUp()
        self.folder = self.useFixture(services.Folder()).path
        self.systemd = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(self.systemd.close)
        self.systemd.bind(str(self.folder / 'notify'))
        self.systemd.settimeout(deployment.PATIENCE)

    def start(self, fault):
        """Start the resolver with code that each process runs before."""
        (self.folder / 'sitecustomize.py').write_text(fault)
        router = self.useFixture(
            Prepared(
                transport_url='fake://',
                connection=f'sqlite:///{self.folder}/router.sqlite',
                hosts=(),
                hosts_of={},
                resolver__workers=1,
            )
        )
        environment = {
            **os.environ,
            'PYTHONPATH': str(self.folder),
            'NOTIFY_SOCKET': str(self.folder / 'notify'),
            'WATCHDOG_USEC': '60000000',
        }
        words = [deployment.BIN / 'external-events-resolver', '--config-file', router.config]
        process = deployment.Process('resolver', words, router.folder, environment=environment)
        return self.useFixture(process)

    def receive(self):
        return self.systemd.recv(100).decode()

    def test_a_worker_that_waits_in_its_start_is_alive_but_not_ready(self):
        path = self.folder / 'go'
        process = self.start(WAIT_IN_START.format(path=str(path)))
        self.assertEqual(['WATCHDOG=1'] * 2, [self.receive() for _ in range(2)])
        path.touch()
        while (state := self.receive()) == 'WATCHDOG=1':
            pass
        self.assertEqual('READY=1', state)
        self.assertIn('is ready', process.text())

    def test_a_worker_that_fails_before_its_start_is_not_alive(self):
        process = self.start(FAIL_BEFORE_START)
        process.wait_for('exited with status', times=4)
        self.systemd.setblocking(False)
        self.assertRaises(BlockingIOError, self.receive)


class ReloadTest(ApiTest):
    """No request fails while workers are replaced."""

    def test_requests_on_connections_that_are_kept(self):
        load = Load(self.router.port)
        self.addCleanup(load.stop)
        load.start(CLIENTS)
        for number in range(1, RELOADS + 1):
            self.router.api.process.send_signal(signal.SIGHUP)
            self.router.api.wait_for('Stopped old worker-', times=number * self.WORKERS)
        deployment.wait_until(lambda: load.answered >= REQUESTS, f'{REQUESTS} answers')
        load.stop()
        self.assertEqual([], load.failures, f'{len(load.failures)} of {load.answered}')
        print(f'{load.answered} requests, {RELOADS} reloads, {load.closed} connections closed by an answer')
        self.assertGreater(load.closed, 0)


class OneWorkerReloadTest(ReloadTest):
    WORKERS = 1


class Load:
    """Clients that send one request after the other, each on a connection that it keeps.

    :ivar answered: requests that were answered
    :ivar closed: answers that announced the end of the connection
    :ivar failures: the results of the other requests
    """

    BODY = json.dumps({'events': [{'name': 'network-changed', 'server_uuid': SERVER}]})
    HEADERS = {'Content-Type': 'application/json'}

    def __init__(self, port):
        self.answered, self.closed, self.failures = 0, 0, []
        self._port = port
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._threads = []

    def start(self, clients):
        for _ in range(clients):
            thread = threading.Thread(target=self._run)
            self._threads.append(thread)
            thread.start()

    def stop(self):
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def _run(self):
        while not self._stopped.is_set():
            connection = http.client.HTTPConnection('127.0.0.1', self._port, timeout=deployment.PATIENCE)
            try:
                # NOTE: http.client would connect again by itself, and hide that it had to.
                connection.connect()
                while not self._stopped.is_set() and self._request(connection):
                    time.sleep(0.005)
            except (OSError, http.client.HTTPException) as exc:
                with self._lock:
                    self.failures.append(repr(exc))
            finally:
                connection.close()

    def _request(self, connection):
        connection.request('POST', '/v2.1/os-server-external-events', self.BODY, self.HEADERS)
        response = connection.getresponse()
        response.read()
        with self._lock:
            self.answered += 1
            self.closed += response.will_close
            if response.status != 207:
                self.failures.append(f'status {response.status}')
        return not response.will_close


class Prepared(deployment.Deployment):
    """A configuration and a database, no processes."""

    def start(self):
        pass


class Resolvers(deployment.Deployment):
    """The resolver alone."""

    def start(self):
        self.resolver = self.start_resolver()


class ApiDeployment(deployment.Deployment):
    """The API without other processes."""

    def start(self):
        self.api = self.start_api()


def command_of(pid):
    """The command line of a process."""
    try:
        with open(f'/proc/{pid}/cmdline', 'rb') as file:
            return file.read().decode(errors='replace')
    except OSError:
        return ''
