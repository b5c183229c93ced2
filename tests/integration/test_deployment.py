"""The main job with nothing faked: processes, RabbitMQ, and each of the databases.

Senders are those of OpenStack's projects: python-novaclient and openstacksdk.
"""

from concurrent import futures
import signal
import time

from keystoneauth1 import session
from keystoneauth1 import token_endpoint
from novaclient import client as novaclient
from openstack import connection

from tests import base
from tests.integration import deployment
from tests.integration import services

HOSTS = ('host-a', 'host-b', 'host-c')
ON_A, ON_B, MIGRATING, ON_NO_HOST, ON_SILENT, UNKNOWN, HUNG, ON_EXEC, ON_EXEC_TOO = (
    f'{number:08x}-0000-4000-8000-000000000000' for number in range(1, 10)
)
HOSTS_OF = {
    ON_A: ['host-a'],
    ON_B: ['host-b'],
    MIGRATING: ['host-a', 'host-b'],
    ON_NO_HOST: [],
    ON_SILENT: ['host-without-agent'],
    ON_EXEC: ['host-exec'],
    ON_EXEC_TOO: ['host-exec'],
}
REQUEST_ID = 'req-6b0f1f4e-9d53-4f5c-8a55-0d6f0d5f4a11'

#: Seconds. Much longer than a batch takes here, and much shorter than the time limit of a test.
ACK_TIMEOUT = 5.0


def event(server_uuid, name='network-changed', **members):
    return {'name': name, 'server_uuid': server_uuid, **members}


class DeployedTest(base.TestCase):
    """Starts the service once for all tests of a class: it takes ten processes.

    So each test leaves it working, and looks at what it caused itself.
    """

    TIMEOUT_SCALING_FACTOR = 5

    DATABASE: type[services.MySQL] | type[services.PostgreSQL]

    #: Of the service, as ``deployment.Deployment`` takes them.
    OPTIONS: dict[str, str] = {}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.router = cls.deploy()

    @classmethod
    def deploy(cls):
        broker, database = services.RabbitMQ(), cls.DATABASE()
        for fixture in (broker, database):
            fixture.setUp()
            cls.addClassCleanup(fixture.cleanUp)
        deployed = deployment.Deployment(
            transport_url=broker.url,
            connection=database.url,
            hosts=HOSTS,
            hosts_of=HOSTS_OF,
            delivery__ack_timeout=ACK_TIMEOUT,
            **cls.OPTIONS,
        )
        deployed.setUp()
        cls.addClassCleanup(deployed.cleanUp)
        return deployed

    def setUp(self):
        super().setUp()
        self.before = len(self.router.handled())

    def lines(self):
        """The records of the agents since the beginning of the test."""
        return self.router.handled()[self.before :]

    def handled(self):
        return sorted((line['host'], line['server_uuid'], line['name']) for line in self.lines())


class Scenarios:
    """What holds over each database."""

    def test_outcomes(self):
        answer = self.router.post(
            event(ON_A),
            event(UNKNOWN),
            event(MIGRATING),
            event(ON_NO_HOST),
            event(ON_A, 'power-update'),
            event(ON_B, 'power-update', tag='POWER_ON'),
        )
        self.assertEqual((207, [200, 404, 200, 422, 400, 200]), answer)
        self.assertEqual(
            [
                ('host-a', ON_A, 'network-changed'),
                ('host-a', MIGRATING, 'network-changed'),
                ('host-b', ON_B, 'power-update'),
                ('host-b', MIGRATING, 'network-changed'),
            ],
            sorted(self.handled()),
        )

    def test_novaclient_and_openstacksdk(self):
        auth = token_endpoint.Token(f'{self.router.url}/v2.1', 'any')
        nova = novaclient.Client('2.93', session=session.Session(auth=auth))
        answered = nova.server_external_events.create([event(ON_A), event(ON_NO_HOST)])
        self.assertEqual([200, 422], [each['code'] for each in answered])
        cloud = connection.Connection(
            session=session.Session(auth=auth), compute_endpoint_override=f'{self.router.url}/v2.1'
        )
        answered = cloud.compute.create_server_external_events([event(ON_B, tag='port')])
        self.assertEqual(
            [(ON_B, 'port', 200)], [(each.server_uuid, each.tag, each.code) for each in answered]
        )
        self.assertEqual(['host-a', 'host-b'], [host for host, _, _ in self.handled()])

    def test_batch_sent_again_is_handled_once(self):
        for _ in range(3):
            answer = self.router.post(
                event(ON_A), event(MIGRATING), headers={'X-OpenStack-Request-ID': REQUEST_ID}
            )
            self.assertEqual((200, [200, 200]), answer)
        self.assertEqual(3, len(self.handled()))
        self.assertEqual({REQUEST_ID}, {line['request_id'] for line in self.lines()})
        on_the_way = [self.router.api, self.router.agents]
        if self.OPTIONS.get('api__resolver') == 'rpc':
            on_the_way.append(self.router.resolver)
        for process in on_the_way:
            self.assertIn(REQUEST_ID, process.text())

    def test_host_without_a_queue_is_detected_at_once_and_served_when_its_agent_starts(self):
        began = time.monotonic()
        self.assertEqual((200, [200, 200]), self.router.post(event(ON_SILENT), event(ON_B)))
        self.assertLess(time.monotonic() - began, ACK_TIMEOUT)
        self.assertEqual([ON_B], [server for _, server, _ in self.handled()])
        self.router.start_agents('late', 'host-without-agent')
        self.wait_for_handled('host-without-agent', 1)

    def test_hung_host_costs_the_ack_timeout_and_only_its_own_events(self):
        hung = self.router.start_agents('hung', 'host-hung')
        self.router.manage('host-map', 'assign', HUNG, 'host-hung')
        self.assertEqual((200, [200]), self.router.post(event(HUNG)))
        hung.process.send_signal(signal.SIGSTOP)
        began = time.monotonic()
        self.assertEqual((200, [200, 200]), self.router.post(event(HUNG), event(ON_B)))
        took = time.monotonic() - began
        # NOTE: the last 0.1 s of the ack timeout are reserved for the hold.
        self.assertGreaterEqual(took, ACK_TIMEOUT - 0.1)
        self.assertLess(took, ACK_TIMEOUT + 1.0)
        began = time.monotonic()
        self.assertEqual((200, [200]), self.router.post(event(ON_B)))
        self.assertLess(time.monotonic() - began, ACK_TIMEOUT)
        self.assertEqual(1, len([line for line in self.handled() if line[0] == 'host-hung']))
        hung.process.send_signal(signal.SIGCONT)
        self.wait_for_handled('host-hung', 2)
        # Held, sent again, and still one event.
        self.assertEqual((200, [200]), self.router.post(event(HUNG)))
        self.wait_for_handled('host-hung', 3)

    def wait_for_handled(self, host, count):
        """Wait until a host has handled exactly this number of events since the test began."""
        deployment.wait_until(
            lambda: sum(line[0] == host for line in self.handled()) >= count, f'{count} events at {host}'
        )
        self.assertEqual(count, sum(line[0] == host for line in self.handled()))

    def test_killed_resolver_worker_is_replaced_and_no_answer_is_wrong(self):
        workers = services.children(self.router.resolver.pid)
        self.assertEqual(2, len(workers))
        services.kill(workers[0])
        codes = [self.router.post(event(ON_A, tag=f'tag-{n}'))[1] for n in range(50)]
        handled = {line['tag'] for line in self.lines()}
        for n, code in enumerate(codes):
            if code == [200]:
                self.assertIn(f'tag-{n}', handled)
            else:
                self.assertEqual([503], code)
        self.router.resolver.wait_for('is ready', times=3)
        self.assertEqual((200, [200]), self.router.post(event(ON_A)))


class MariaDBTest(Scenarios, DeployedTest):
    DATABASE = services.MySQL
    OPTIONS = {'debug': 'true'}


class PostgreSQLTest(Scenarios, DeployedTest):
    """Every part in a process of its own, and nothing between them but oslo.messaging."""

    DATABASE = services.PostgreSQL
    OPTIONS = {'debug': 'true', 'api__resolver': 'rpc', 'compute__direct_amqp': 'false'}


class SignalsTest(DeployedTest):
    """What ends the deployment, and what needs its debug messages disabled."""

    DATABASE = services.MySQL
    OPTIONS = {
        'agent__handlers': 'log,exec',
        'exec__command': "sh -c 'tee -a /dev/null | grep -qv refuse-me'",
    }

    def test_exec_handler_then_hangup_then_term(self):
        self.check_exec()
        self.check_hangup()
        self.check_term()

    def check_exec(self):
        """``external-events-agent`` itself: the exit status of the command is the verdict."""
        command = [deployment.BIN / 'external-events-agent', '--config-file', self.router.config]
        command += ['--host', 'host-exec']
        agent = self.useFixture(deployment.Process('exec', command, self.router.folder))
        agent.wait_for('Serving 1 hosts')
        answer = self.router.post(event(ON_EXEC), event(ON_EXEC_TOO, tag='refuse-me'))
        self.assertEqual((207, [200, 500]), answer)
        self.assertEqual(0, agent.stop(), agent.text()[-2000:])
        self.assertIn('refuse-me', agent.text())

    def check_term(self):
        for process in (self.router.api, self.router.resolver, self.router.agents):
            children = services.children(process.pid)
            self.assertEqual(0, process.stop(), process.text()[-2000:])
            self.assertNotIn('Traceback', process.text())
            # NOTE: that of multiprocessing which cleans up ends when it sees that its parent has.
            for pid in children:
                deployment.wait_until(
                    lambda pid=pid: not services.is_alive(pid), f'the end of its child {pid}'
                )

    def check_hangup(self):
        config = self.router.config
        config.write_text(config.read_text().replace('debug = false', 'debug = true'))
        for process in (self.router.resolver, self.router.api):
            self.assertNotIn(' DEBUG ', process.text())
            process.process.send_signal(signal.SIGHUP)
        self.router.resolver.wait_for('is ready', times=4)
        deployment.wait_until(
            lambda: (
                self.router.post(event(ON_A))[0] == 200
                and ' DEBUG ' in self.router.resolver.text()
                and ' DEBUG ' in self.router.api.text()
            ),
            'debug lines of both services',
        )


class StartTest(base.TestCase):
    """An invalid configuration is reported in one line that names the option, and ends the process."""

    TIMEOUT_SCALING_FACTOR = 3

    def start(self, command, **values):
        folder = self.useFixture(services.Folder()).path
        config = folder / 'external-events-router.conf'
        options = {
            'DEFAULT': {'transport_url': services.RabbitMQ.ADDRESS},
            'database': {'connection': f'sqlite:///{folder}/router.sqlite'},
            'api': {'auth_strategy': 'noauth', 'bind_port': deployment.free_port()},
        }
        for name, value in values.items():
            group, _, option = name.rpartition('__')
            options.setdefault(group or 'DEFAULT', {})[option] = value
        config.write_text(
            '\n'.join(
                f'[{group}]\n' + ''.join(f'{option} = {value}\n' for option, value in section.items())
                for group, section in options.items()
            )
        )
        process = self.useFixture(
            deployment.Process(command, [deployment.BIN / command, '--config-file', config], folder)
        )
        status = process.process.wait(deployment.PATIENCE)
        return status, process.text()

    def assert_says(self, option, *starts, also=''):
        """Start all commands at the same time, and check that each reports the problem and ends.

        :param starts: arguments of :meth:`start`: a command, and its changed options
        :param also: another part of each report
        """
        with futures.ThreadPoolExecutor(2) as pool:
            ended = list(pool.map(lambda each: self.start(each[0], **each[1]), starts))
        for status, text in ended:
            self.assertNotEqual(0, status)
            self.assertNotIn('Traceback', text)
            self.assertIn(option, text.strip().splitlines()[-1])
            self.assertIn(also, text)
            self.assertNotIn('secret', text)

    def test_broker_that_cannot_be_reached(self):
        url = f'rabbit://guest:secret@127.0.0.1:{deployment.free_port()}/'
        commands = ('external-events-api', 'external-events-agent')
        self.assert_says('[DEFAULT] transport_url', *((each, {'transport_url': url}) for each in commands))

    def test_database_that_cannot_be_reached(self):
        port = deployment.free_port()
        self.assert_says(
            '[database] connection',
            *(
                (command, {'database__connection': f'{scheme}://root:secret@127.0.0.1:{port}/router'})
                for scheme in ('mysql+pymysql', 'postgresql+psycopg')
                for command in ('external-events-api', 'external-events-resolver')
            ),
        )

    def test_database_without_a_schema(self):
        starts = [(command, {}) for command in ('external-events-api', 'external-events-resolver')]
        self.assert_says('[database] connection', *starts, also='external-events-manage db upgrade')

    def test_bad_value(self):
        commands = ('external-events-api', 'external-events-resolver', 'external-events-agent')
        starts = [(command, {'delivery__ack_timeout': 'soon'}) for command in commands]
        self.assert_says('[delivery] ack_timeout', *starts)

    def test_unknown_names(self):
        for option, value, command in (
            ('[host_map] backend', 'nonsense', 'external-events-resolver'),
            ('[agent] handlers', 'nonsense', 'external-events-agent'),
            ('[agent] source', 'nonsense', 'external-events-agent'),
        ):
            name = option.strip('[').replace('] ', '__')
            self.assert_says(option, (command, {name: value}))
