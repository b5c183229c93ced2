"""Queues that the broker refuses, that differ from ours, that disappear; on real nodes of RabbitMQ.

Other queues of the same connection are received without an interruption.
"""

import time

import amqp
import fixtures
from oslo_config import cfg
from oslo_messaging import conffixture

from external_events_router import rpc
from external_events_router.amqp import consumer
from external_events_router.amqp import envelope
from external_events_router.amqp import publisher
from tests import base
from tests.integration import deployment
from tests.integration import services

#: Seconds; longer than anything takes.
PATIENCE = 30.0

QUORUM = {'x-queue-type': 'quorum'}


class QueuesTest(base.TestCase):
    TIMEOUT_SCALING_FACTOR = 3

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        # NOTE: to make one takes seconds. The tests use different names of queues, or the same arguments.
        cls.rabbit = services.RabbitMQ()
        cls.rabbit.setUp()
        cls.addClassCleanup(cls.rabbit.cleanUp)

    def setUp(self):
        super().setUp()
        self.use_broker(self.rabbit.url, amqp_durable_queues=True)
        self.admin = self.broker.connect()
        self.addCleanup(self.admin.close)
        self.got = []

    def use_broker(self, url, **options):
        """The broker that the configuration describes, for consumers and publishers."""
        fixture = self.useFixture(conffixture.ConfFixture(cfg.CONF, transport_url=url))
        self.addCleanup(rpc.get_transport(cfg.CONF).cleanup)
        for name, value in options.items():
            fixture.conf.set_override(name, value, group='oslo_messaging_rabbit')
        self.broker = rpc.get_broker(cfg.CONF)

    def declare(self, queue, *, durable=True, exclusive=False, arguments=None, connection=None):
        channel = (connection or self.admin).channel()
        channel.queue_declare(
            queue, durable=durable, exclusive=exclusive, auto_delete=False, arguments=arguments
        )
        return channel

    def consume(self, *queues):
        consuming = consumer.Consumer(self.broker, name='test')
        consuming.start()
        self.addCleanup(consuming.stop, PATIENCE)
        listens = {queue: self.listen(consuming, queue) for queue in queues}
        return consuming, listens

    def listen(self, consuming, queue):
        return consuming.listen(queue, lambda call: self.got.append((queue, call.arguments['number'])))

    def publisher(self):
        publishing = publisher.Publisher(self.broker, name='test-publisher')
        publishing.start()
        self.addCleanup(publishing.stop, PATIENCE)
        return publishing

    def publish(self, publishing, queue, number):
        """Publish until the broker takes it, which is until the queue is bound."""
        told = []
        body = envelope.encode(envelope.Call('take', '1.0', {'number': number}, {}))

        def is_taken():
            told.clear()
            message = publisher.Message(queue, body)
            publishing.publish(
                [message], lambda _index, error: told.append(error), until=time.monotonic() + PATIENCE
            )
            deployment.wait_until(lambda: told, 'the end of a publish')
            return told[0] is None

        deployment.wait_until(is_taken, f'a publish to {queue}')

    def wait_for(self, queue, number):
        deployment.wait_until(lambda: (queue, number) in self.got, f'message {number} of {queue}')

    def lines(self, text):
        return [line for line in self.logs.output.splitlines() if text in line]

    def assert_delivers(self, publishing, *queues, number):
        for queue in queues:
            self.publish(publishing, queue, number)
            self.wait_for(queue, number)

    def test_a_queue_with_other_arguments_is_used_as_it_is(self):
        self.declare('compute.quorum', arguments=QUORUM)
        self.declare('compute.limited', arguments={'x-max-length': 10})
        _consuming, listens = self.consume('compute.plain', 'compute.quorum', 'compute.limited')
        for queue, event in listens.items():
            self.assertTrue(event.wait(PATIENCE), queue)
        self.assert_delivers(self.publisher(), *listens, number=1)
        deployment.wait_until(lambda: self.lines('compute.quorum has other arguments'), 'a message')
        (line,) = self.lines('queue compute.quorum has other arguments')
        self.assertIn("received none but current is the value 'quorum'", line)
        self.assertIn(f'rabbitmqctl delete_queue --vhost {self.broker.virtual_host} compute.quorum', line)

    def test_a_transient_queue_of_an_older_release_is_replaced(self):
        self.declare('compute.host', durable=False)
        _consuming, listens = self.consume('compute.host')
        self.assertTrue(listens['compute.host'].wait(PATIENCE))
        # NOTE: it would be refused if it were transient.
        self.declare('compute.host', durable=True)

    def test_a_transient_queue_with_messages_is_used_as_it_is(self):
        channel = self.declare('compute.filled', durable=False)
        body = envelope.encode(envelope.Call('take', '1.0', {'number': 7}, {}))
        channel.queue_declare('compute.used', durable=False, auto_delete=False)
        channel.basic_consume('compute.used')
        channel.basic_publish(amqp.Message(body), routing_key='compute.filled')
        deployment.wait_until(
            lambda: channel.queue_declare('compute.filled', passive=True).message_count, 'the message'
        )
        self.consume('compute.filled', 'compute.used')
        self.wait_for('compute.filled', 7)
        deployment.wait_until(lambda: len(self.lines('has other arguments')) == 2, 'two messages')

    def test_a_locked_queue_does_not_affect_the_others(self):
        self.declare('compute.locked', durable=False, exclusive=True, connection=self.admin)
        consuming, listens = self.consume('compute.free', 'compute.locked')
        self.assertTrue(listens['compute.free'].wait(PATIENCE))
        publishing = self.publisher()
        self.assert_delivers(publishing, 'compute.free', number=1)
        deployment.wait_until(lambda: 'compute.locked' in consuming.refusals(), 'the refusal')
        self.assertFalse(listens['compute.locked'].is_set())
        time.sleep(3.5)
        (line,) = self.lines('refuses queue compute.locked')
        self.assertIn('RESOURCE_LOCKED', line)
        self.assertIn('owner_pid', line)
        self.assertEqual([], self.lines('no connection to the broker'))
        self.assert_delivers(publishing, 'compute.free', number=2)
        self.admin.close()
        self.assertTrue(listens['compute.locked'].wait(PATIENCE))
        self.assert_delivers(publishing, 'compute.locked', number=3)
        self.assertEqual({}, consuming.refusals())

    def test_a_queue_that_somebody_consumes_exclusively_does_not_affect_the_others(self):
        channel = self.declare('compute.taken', durable=self.broker.durable)
        channel.basic_consume('compute.taken', exclusive=True)
        _consuming, listens = self.consume('compute.free', 'compute.taken', 'compute.other')
        for queue in ('compute.free', 'compute.other'):
            self.assertTrue(listens[queue].wait(PATIENCE))
        deployment.wait_until(lambda: self.lines('refuses queue compute.taken'), 'the refusal')
        publishing = self.publisher()
        self.assert_delivers(publishing, 'compute.free', 'compute.other', number=1)
        channel.close()
        self.assertTrue(listens['compute.taken'].wait(PATIENCE))
        self.assert_delivers(publishing, 'compute.taken', 'compute.free', number=2)
        self.assertEqual([], self.lines('no connection to the broker'))

    def test_access_to_one_queue_is_refused(self):
        rabbit = self.useFixture(services.RabbitMQ(password='test'))
        user = rabbit.url.partition('//')[2].partition(':')[0]
        rabbit._control('set_permissions', '-p', user, user, r'^(?!compute\.secret)', '.*', '.*')
        self.use_broker(rabbit.url, amqp_durable_queues=True)
        _consuming, listens = self.consume('compute.secret', 'compute.free')
        self.assertTrue(listens['compute.free'].wait(PATIENCE))
        deployment.wait_until(lambda: self.lines('refuses queue compute.secret'), 'the refusal')
        self.assertIn('list_permissions', self.lines('refuses queue compute.secret')[0])
        self.assert_delivers(self.publisher(), 'compute.free', number=1)

    def test_a_deleted_queue_is_declared_again(self):
        _consuming, listens = self.consume('compute.gone', 'compute.free')
        for event in listens.values():
            self.assertTrue(event.wait(PATIENCE))
        self.admin.channel().queue_delete('compute.gone')
        publishing = self.publisher()
        self.assert_delivers(publishing, 'compute.gone', 'compute.free', number=1)
        self.assertEqual([], self.lines('no connection to the broker'))

    def test_a_deleted_exchange_and_a_lost_binding_are_restored(self):
        self.useFixture(fixtures.MonkeyPatch(f'{consumer.__name__}.REBIND_INTERVAL', 2.0))
        queues = [f'compute.host-{number}' for number in range(5)]
        consuming, listens = self.consume(*queues)
        for event in listens.values():
            self.assertTrue(event.wait(PATIENCE))
        self.declare('service', durable=self.broker.durable)
        consuming.keep_bound('service')
        publishing = self.publisher()
        self.assert_delivers(publishing, queues[0], number=1)
        self.admin.channel().queue_unbind(queues[0], self.broker.exchange, queues[0])
        self.assert_delivers(publishing, queues[0], number=2)
        self.admin.channel().exchange_delete(self.broker.exchange)
        self.assert_delivers(publishing, *queues, number=3)
        self.publish(publishing, 'service', 4)

    def test_many_refused_queues_are_one_message(self):
        for number in range(300):
            self.declare(f'compute.locked-{number}', durable=False, exclusive=True)
        names = [f'compute.{kind}-{number}' for number in range(300) for kind in ('free', 'locked')]
        consuming, listens = self.consume(*names)
        for number in range(300):
            self.assertTrue(listens[f'compute.free-{number}'].wait(PATIENCE))
        deployment.wait_until(lambda: len(consuming.refusals()) == 300, 'all refusals')
        deployment.wait_until(lambda: len(self.lines('refuses queue')) > 1, 'the summary')
        self.assertEqual(2, len(self.lines('refuses queue')))
