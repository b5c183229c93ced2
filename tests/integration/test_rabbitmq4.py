"""The service on RabbitMQ 4 of Debian 13, which denies transient queues as RabbitMQ 4.3 does by default."""

import json

from tests import base
from tests.integration import debian13
from tests.integration import deployment
from tests.integration import services

SERVER = '2b4b6f0a-7d3e-4c89-8a51-6e1f0c9d7a02'
EVENT = {'name': 'network-changed', 'server_uuid': SERVER}

#: As RabbitMQ 4.3 has it by default.
DENIED = 'deprecated_features.permit.transient_nonexcl_queues = false'


#: One for each test that declares queues, because they declare the same queues in different ways.
VIRTUAL_HOSTS = ('default', 'quorum', 'oslo')


def definitions():
    """The virtual hosts and their permissions, in the format of ``rabbitmqctl import_definitions``."""
    everything = {'user': 'guest', 'configure': '.*', 'write': '.*', 'read': '.*'}
    return {
        'vhosts': [{'name': name} for name in VIRTUAL_HOSTS],
        'permissions': [{'vhost': name, **everything} for name in VIRTUAL_HOSTS],
    }


class Small(deployment.Deployment):
    """An API with its own resolver, and one agent."""

    def start(self):
        self.agents = self.start_agents('agents', *self.hosts)
        self.api = self.start_api()


class RabbitMQ4Test(base.TestCase):
    TIMEOUT_SCALING_FACTOR = 5

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.rabbit = services.share(cls, debian13.Broker(DENIED))
        # NOTE: in one command, because each run of rabbitmqctl takes seconds.
        path = cls.rabbit.folder / 'definitions.json'
        path.write_text(json.dumps(definitions()))
        cls.rabbit.control('import_definitions', path)

    def deploy(self, virtual_host, **options):
        self.virtual_host = virtual_host
        return self.useFixture(
            Small(
                transport_url=f'{self.rabbit.url()}{virtual_host}',
                connection=self.useFixture(services.PostgreSQL()).url,
                hosts=['host-a'],
                hosts_of={SERVER: ['host-a']},
                api__workers=1,
                delivery__ack_timeout=2.0,
                delivery__retry_interval=1.0,
                **options,
            )
        )

    def queues(self):
        """Name to type and whether it is durable, of the queues of the test."""
        columns = self.rabbit.control(
            'list_queues', '-p', self.virtual_host, '--no-table-headers', 'name', 'type', 'durable'
        )
        return {name: (kind, durable) for name, kind, durable in map(str.split, columns.splitlines())}

    def assert_delivers(self, router):
        self.assertEqual((200, [200]), router.post(EVENT))
        deployment.wait_until(lambda: len(router.handled()) == 1, 'the event on the host')

    def test_default_configuration(self):
        router = self.deploy('default')
        self.assert_delivers(router)
        queues = self.queues()
        self.assertEqual(('classic', 'true'), queues['compute.host-a'])
        self.assertEqual({'true'}, {durable for _kind, durable in queues.values()})
        router.agents.stop()
        self.assertEqual((200, [200]), router.post(EVENT))
        self.assertEqual(1, len(router.handled()))
        router.start_agents('agents-again', 'host-a')
        deployment.wait_until(lambda: len(router.handled()) == 2, 'the event that was held')

    def test_quorum_queues(self):
        router = self.deploy('quorum', oslo_messaging_rabbit__rabbit_quorum_queue='true')
        self.assert_delivers(router)
        self.assertEqual(('quorum', 'true'), self.queues()['compute.host-a'])

    def test_oslo_messaging(self):
        router = self.deploy('oslo', compute__direct_amqp='false')
        self.assert_delivers(router)
        self.assertEqual(('classic', 'true'), self.queues()['compute.host-a'])

    def test_transient_queues_are_refused_at_start(self):
        folder = self.useFixture(services.Folder()).path
        for option in ('amqp_durable_queues', 'rabbit_transient_quorum_queue'):
            config = folder / f'{option}.conf'
            config.write_text(
                f'[DEFAULT]\ntransport_url = {self.rabbit.url()}\n[oslo_messaging_rabbit]\n{option} = false\n'
            )
            command = [deployment.BIN / 'external-events-agent', '--config-file', config, '--host', 'host-b']
            agent = self.useFixture(deployment.Process(f'agent-{option}', command, folder))
            self.assertEqual(1, agent.process.wait(deployment.PATIENCE), agent.text())
            *_announced, line = agent.text().splitlines()
            self.assertIn(f'[oslo_messaging_rabbit] {option}: the broker refuses', line)
