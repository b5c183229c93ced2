"""The service with the least permissions of RabbitMQ, and what these refuse."""

import json
import shlex
import threading

import amqp
from oslo_config import cfg
from oslo_messaging import conffixture

from external_events_router import context
from external_events_router import events
from external_events_router import exceptions
from external_events_router.messaging import rpc
from external_events_router.resolver import rpcapi
from tests import base
from tests.faults import broker
from tests.integration import deployment
from tests.integration import services

SERVER_A, SERVER_B, SERVER_C, SERVER_D = (f'2b4b6f0a-7d3e-4c89-8a51-6e1f0c9d7a0{number}' for number in '1234')
PASSWORD = 'p4ssw0rd'
VIRTUAL_HOST = 'events of nova'

EXCHANGE = 'external_events'
ACKS, REPORTS = f'{EXCHANGE}_acks', f'{EXCHANGE}_reports'


class Node(broker.Broker):
    """A node with a virtual host in which no user has permissions yet."""

    def _setUp(self):
        super()._setUp()
        self.control('add_vhost', VIRTUAL_HOST)

    def url_of(self, user):
        return f'rabbit://{user}:{PASSWORD}@127.0.0.1:{self.port}/{VIRTUAL_HOST}'

    def run(self, script):
        """Run what ``broker permissions`` printed."""
        for arguments in commands_of(script):
            self.control(*arguments, *([PASSWORD] if arguments[0] == 'add_user' else []))

    def load(self, *scripts):
        """Do the same for many users at once: each run of rabbitmqctl takes a second."""
        definitions = {'users': [], 'permissions': [], 'topic_permissions': []}
        for script in scripts:
            for command, *values in commands_of(script):
                if command == 'add_user':
                    user = {'name': values[0], 'password': PASSWORD, 'tags': ''}
                    definitions['users'].append(user)
                elif command != 'clear_topic_permissions':
                    _option, vhost, user, *rest = values
                    names = ['exchange', 'write', 'read']
                    kind = 'topic_permissions'
                    if command == 'set_permissions':
                        names, kind = ['configure', 'write', 'read'], 'permissions'
                    entry = {'vhost': vhost, 'user': user, **dict(zip(names, rest, strict=True))}
                    definitions[kind].append(entry)
        path = self.folder / 'definitions.json'
        path.write_text(json.dumps(definitions))
        self.control('import_definitions', path)

    def refusals(self):
        """The refusals in the log of the node."""
        return [line for line in self.process.text().splitlines() if 'refused' in line]


def commands_of(script):
    """The arguments of each command of a script for the shell."""
    lines = [shlex.split(line) for line in script.splitlines() if not line.startswith('#')]
    assert {line[0] for line in lines} == {'rabbitmqctl'}, script
    return [line[1:] for line in lines]


class Restricted(deployment.Deployment):
    """A deployment whose services have a user each."""

    def __init__(self, node, **options):
        self.node = node
        super().__init__(transport_url=node.url_of('resolver'), **options)

    def start(self):
        self.source = self.folder / 'servers.jsonl'
        servers = {SERVER_A: 'host-a', SERVER_B: 'host-b', SERVER_C: 'host-a', SERVER_D: 'host-b'}
        lines = [json.dumps({'server': server, 'hosts': [host]}) for server, host in servers.items()]
        self.source.write_text('\n'.join(lines))
        source = {'agent__source': 'file', 'agent__source_file': self.source}
        self.configs = {
            'resolver': self.config,
            'api': self.write_config('api.conf', transport_url=self.node.url_of('api')),
            'host-a': self.write_config('host-a.conf', transport_url=self.node.url_of('agent-a'), **source),
            'host-b': self.write_config(
                'host-b.conf',
                transport_url=self.node.url_of('agent-b'),
                compute__direct_amqp='false',
                **source,
            ),
            'operator': self.write_config('operator.conf', api__resolver='rpc'),
        }
        self.node.run(self.script('host-a', 'agent-a', '--role', 'agent', '--host', 'host-a'))
        resolver = self.script('resolver', 'resolver', '--role', 'resolver')
        self.node.load(
            resolver,
            resolver.replace(' resolver', ' api'),
            self.script('host-b', 'agent-b', '--role', 'agent', '--host', 'host-b'),
            self.script('operator', 'operator', '--role', 'operator'),
        )
        self.resolver = self.start_resolver()
        self.agents = {
            host: self.start_agents(host, host, config=self.configs[host]) for host in ('host-a', 'host-b')
        }
        self.api = self.start_api(config=self.configs['api'])

    def script(self, config, user, *arguments):
        config, self.config = self.config, self.configs[config]
        try:
            return self.manage('broker', 'permissions', '--user', user, *arguments)
        finally:
            self.config = config

    def hosts_on_map(self, server):
        return json.loads(self.manage('host-map', 'show', server, '-f', 'json'))['hosts']


class PermissionsTest(base.TestCase):
    """One node for all; each test leaves it working."""

    TIMEOUT_SCALING_FACTOR = 5

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.node = services.share(cls, Node())
        database = services.share(cls, services.PostgreSQL())
        cls.router = services.share(
            cls,
            Restricted(
                cls.node,
                connection=database.url,
                hosts=['host-a', 'host-b'],
                hosts_of={SERVER_A: ['host-a'], SERVER_B: ['host-b'], SERVER_C: [], SERVER_D: []},
                resolver__workers=2,
                api__workers=1,
                delivery__ack_timeout=2.0,
                delivery__retry_interval=1.0,
                agent__report_interval=1.0,
                resolver__require_report_token='true',
            ),
        )

        cls.refused_at_start = cls.node.refusals()

    def transport(self, user):
        self.useFixture(conffixture.ConfFixture(cfg.CONF, transport_url=self.node.url_of(user)))
        rpc.set_defaults()
        transport = rpc.get_transport(cfg.CONF)
        self.addCleanup(transport.cleanup)
        return transport

    def channel(self, user):
        connection = amqp.Connection(
            f'127.0.0.1:{self.node.port}', user, PASSWORD, virtual_host=VIRTUAL_HOST, read_timeout=60
        )
        connection.connect()
        self.addCleanup(connection.collect)
        return connection.channel()

    def test_everything_works_and_nothing_is_refused(self):
        self.assertEqual([], self.refused_at_start)
        refused_before = self.node.refusals()
        for server, host in ((SERVER_A, 'host-a'), (SERVER_B, 'host-b')):
            posted = self.router.post({'name': 'network-changed', 'server_uuid': server})
            self.assertEqual((200, [200]), posted)
            self.assertIn((host, server), [(e['host'], e['server_uuid']) for e in self.router.handled()])
        deployment.wait_until(
            lambda: self.router.hosts_on_map(SERVER_C) == ['host-a'], 'the report of host-a'
        )
        deployment.wait_until(
            lambda: self.router.hosts_on_map(SERVER_D) == ['host-b'], 'the report of host-b'
        )
        self.redeliver('host-a', SERVER_A)
        self.redeliver('host-b', SERVER_B)
        self.call('operator')
        self.assertEqual(refused_before, self.node.refusals())
        for process in self.router.processes:
            self.assertNotIn('ACCESS_REFUSED', process.text())

    def redeliver(self, host, server):
        """An event is held while its agent is stopped, and delivered afterwards; other workers know it."""
        self.router.agents[host].stop()
        posted = self.router.post({'name': 'volume-extended', 'server_uuid': server, 'tag': server})
        self.assertEqual((200, [200]), posted)
        self.router.agents[host].start()
        deployment.wait_until(
            lambda: 'volume-extended' in [e['name'] for e in self.router.handled() if e['host'] == host],
            f'the held event of {host}',
        )

    def call(self, user):
        """Call the methods that the API and operators use."""
        transport, ctxt = self.transport(user), context.for_service()
        hosts = rpcapi.HostMapAPI(transport)
        hosts.assign(ctxt, SERVER_A, 'host-c')
        self.assertEqual(['host-a', 'host-c'], self.router.hosts_on_map(SERVER_A))
        hosts.unassign(ctxt, SERVER_A, 'host-c')
        (outcome,) = rpcapi.ResolverAPI(transport).route(
            ctxt, [events.Event('network-changed', SERVER_A)], ack_timeout=30.0, timeout=40.0
        )
        self.assertEqual(events.Code.DELIVERED, outcome.code)

    def test_an_agent_cannot_call_what_the_api_calls(self):
        for user in ('agent-a', 'agent-b'):
            transport, ctxt = self.transport(user), context.for_service()
            hosts, batch = rpcapi.HostMapAPI(transport), [events.Event('network-changed', SERVER_B)]
            for call in (
                lambda hosts=hosts, ctxt=ctxt: hosts.assign(ctxt, SERVER_B, 'host-a'),
                lambda hosts=hosts, ctxt=ctxt: hosts.forget(ctxt, SERVER_B),
                lambda transport=transport, ctxt=ctxt, batch=batch: rpcapi.ResolverAPI(transport).route(
                    ctxt, batch, ack_timeout=1.0, timeout=2.0
                ),
            ):
                self.assertRaises(
                    (exceptions.BrokerUnavailable, exceptions.ResolverUnavailable), _in_time, call
                )
        self.assertEqual(['host-b'], self.router.hosts_on_map(SERVER_B))

    def test_an_agent_cannot_report_for_another_host(self):
        deployment.wait_until(
            lambda: self.router.hosts_on_map(SERVER_C) == ['host-a'], 'the report of host-a'
        )
        self.router.agents['host-b'].stop()
        event = {'name': 'volume-extended', 'server_uuid': SERVER_B, 'tag': SERVER_C}
        self.assertEqual((200, [200]), self.router.post(event))
        before = self.responded('host-b')
        transport, ctxt = self.transport('agent-a'), context.for_service()
        api = rpcapi.HostMapAPI(transport)
        # More than there are workers, with and without what an attacker may make up.
        for token in ('', '9999999999.' + 'A' * 43, *[''] * 4):
            answer = api.report(ctxt, 'host-b', [SERVER_A, SERVER_C], token)
            self.assertTrue(answer.proof_needed)
            self.assertTrue(api.report(ctxt, 'host-b', None, token).proof_needed)
        old = rpcapi.HostMapAPI(transport, version_cap='1.1')
        self.assertTrue(old.report(ctxt, 'host-b', [SERVER_A]).proof_needed)
        other = {'name': 'network-changed', 'server_uuid': SERVER_A}
        self.assertEqual((200, [200]), self.router.post(other))
        self.assertEqual(before, self.responded('host-b'))
        for server, host in ((SERVER_A, 'host-a'), (SERVER_B, 'host-b'), (SERVER_C, 'host-a')):
            self.assertEqual([host], self.router.hosts_on_map(server))
        # Its own agent finds tokens in its queue, and works.
        self.router.agents['host-b'].start()
        deployment.wait_until(
            lambda: SERVER_C in [e['tag'] for e in self.router.handled() if e['host'] == 'host-b'],
            'the held event of host-b',
        )

    def responded(self, host):
        """How often workers have noted that a host responds again."""
        return sum(process.text().count(f'Host {host} responds again') for process in self.router.processes)

    def test_operations_refused_to_an_agent(self):
        own = 'compute.host-a'
        self.refuse(
            'agent-a',
            *(
                lambda ch, key=key: ch.queue_bind(own, EXCHANGE, routing_key=key)
                for key in ('#', '*.*', 'compute.#', 'compute.host-b', 'external-events-resolver')
            ),
            *(
                lambda ch, queue=queue: ch.basic_get(queue)
                for queue in ('compute.host-b', 'external-events-resolver', 'external-events-reports')
            ),
            lambda ch: ch.queue_declare('compute.host-b'),
            lambda ch: ch.queue_delete('compute.host-b'),
            lambda ch: ch.queue_purge('external-events-resolver'),
            lambda ch: ch.queue_bind(own, REPORTS, routing_key='external-events-reports'),
            lambda ch: ch.queue_bind(own, ACKS, routing_key='external-events-acks.#'),
            lambda ch: ch.exchange_delete(EXCHANGE),
            lambda ch: ch.exchange_delete(ACKS),
            lambda ch: ch.exchange_declare(EXCHANGE, 'fanout'),
            lambda ch: ch.exchange_declare('external-events-resolver_fanout', 'fanout'),
            *(
                lambda ch, to=to: publish(ch, *to)
                for to in (
                    (EXCHANGE, 'external-events-resolver'),
                    (EXCHANGE, 'compute.host-b'),
                    (ACKS, 'external-events-resolver'),
                    (ACKS, 'compute.host-b'),
                    (REPORTS, 'external-events-resolver'),
                    (REPORTS, 'compute.host-b'),
                    ('', 'compute.host-b'),
                    ('', 'external-events-resolver'),
                    ('external-events-resolver_fanout', ''),
                )
            ),
        )

    def test_exchange_of_an_agent_cannot_forward_messages(self):
        # An agent may declare an exchange with the name of its queue, whose type checks no routing keys.
        channel = self.channel('agent-a')
        channel.exchange_declare('compute.host-a', 'fanout', auto_delete=True)
        self.addCleanup(lambda: self.channel('agent-a').exchange_delete('compute.host-a'))
        for exchange in (ACKS, REPORTS):
            channel.exchange_bind(exchange, 'compute.host-a', routing_key='')
        returned = []
        channel.events['basic_return'].add(lambda *message: returned.append(message[2]))
        for key in ('external-events-resolver', 'compute.host-b'):
            channel.basic_publish(amqp.Message('{}'), 'compute.host-a', key, mandatory=True)
        channel.basic_qos(0, 1, False)
        self.assertEqual(['external-events-resolver', 'compute.host-b'], returned)
        self.refuse('agent-a', lambda ch: ch.exchange_bind(EXCHANGE, 'compute.host-a', routing_key='#'))

    def test_operations_refused_to_the_callers(self):
        self.refuse(
            'operator',
            lambda ch: publish(ch, EXCHANGE, 'compute.host-a'),
            lambda ch: publish(ch, ACKS, 'external-events-acks.x'),
            lambda ch: publish(ch, '', 'compute.host-a'),
            lambda ch: ch.basic_get('external-events-resolver'),
            lambda ch: ch.queue_declare('compute.host-a'),
        )

    def refuse(self, user, *operations):
        for number, operation in enumerate(operations):
            channel = self.channel(user)
            try:
                operation(channel)
            except amqp.exceptions.AccessRefused:
                continue
            self.fail(f'{user} may do operation {number}')


def publish(channel, exchange, key):
    """Publish, and wait until the broker has read it."""
    channel.basic_publish(amqp.Message('{}'), exchange, key)
    channel.basic_qos(0, 1, False)


def _in_time(call):
    """Call something that may try again without end.

    :raises ResolverUnavailable: it has not returned in time
    """
    raised = []

    def run():
        try:
            call()
        except exceptions.RouterError as exc:
            raised.append(exc)
        else:
            raised.append(None)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(20.0)
    if not raised:
        raise exceptions.ResolverUnavailable(reason='it tries again without end')
    if raised[0] is not None:
        raise raised[0]
