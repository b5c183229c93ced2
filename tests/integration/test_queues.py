"""Queues that the broker refuses, that have other properties, or that disappear; on real RabbitMQ nodes.

Other queues of the same connection are received without an interruption.
"""

import queue as queues
import socket
import time

import amqp
import fixtures
from oslo_config import cfg
import oslo_messaging as messaging
from oslo_messaging import conffixture

from external_events_router import context
from external_events_router import exceptions
from external_events_router.messaging import rpc
from external_events_router.messaging.amqp import consumer
from external_events_router.messaging.amqp import envelope
from external_events_router.messaging.amqp import notices
from external_events_router.messaging.amqp import publisher
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
        cls.rabbit = services.share(cls, services.RabbitMQ())

    def setUp(self):
        super().setUp()
        # NOTE: the tests wait for further attempts at refused queues.
        self.useFixture(fixtures.MonkeyPatch(f'{consumer.__name__}.FIRST_PAUSE', 0.2))
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

    def consume(self, *names):
        consuming = consumer.Consumer(self.broker, name='test')
        consuming.start()
        self.addCleanup(consuming.stop, PATIENCE)
        listens = {queue: self.listen(consuming, queue) for queue in names}
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
        results = []
        body = envelope.encode(envelope.Call('take', '1.0', {'number': number}, {}))

        def is_taken():
            results.clear()
            message = publisher.Message(queue, body)
            publishing.publish(
                [message], lambda _index, error: results.append(error), until=time.monotonic() + PATIENCE
            )
            deployment.wait_until(lambda: results, 'the end of a publish')
            return results[0] is None

        deployment.wait_until(is_taken, f'a publish to {queue}')

    def wait_for(self, queue, number):
        deployment.wait_until(lambda: (queue, number) in self.got, f'message {number} of {queue}')

    def lines(self, text):
        return [line for line in self.logs.output.splitlines() if text in line]

    def assert_delivers(self, publishing, *names, number):
        for queue in names:
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
        self.useFixture(fixtures.MonkeyPatch(f'{notices.__name__}.INTERVAL', 1.0))
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
        # Two further attempts.
        time.sleep(0.9)
        (line,) = self.lines('refuses queue compute.locked')
        self.assertIn('RESOURCE_LOCKED', line)
        self.assertIn('owner_pid', line)
        self.assertEqual([], self.lines('no connection to the broker'))
        self.assert_delivers(publishing, 'compute.free', number=2)
        self.admin.close()
        self.assertTrue(listens['compute.locked'].wait(PATIENCE))
        self.assert_delivers(publishing, 'compute.locked', number=3)
        self.assertEqual({}, consuming.refusals())

    def test_exclusively_consumed_queue_does_not_affect_other_queues(self):
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
        rabbit = self.useFixture(services.RabbitMQ(password='test', configure=r'^(?!compute\.secret)'))
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
        names = [f'compute.host-{number}' for number in range(5)]
        consuming, listens = self.consume(*names)
        for event in listens.values():
            self.assertTrue(event.wait(PATIENCE))
        self.declare('service', durable=self.broker.durable)
        consuming.keep_bound('service')
        publishing = self.publisher()
        self.assert_delivers(publishing, names[0], number=1)
        self.admin.channel().queue_unbind(names[0], self.broker.exchange, names[0])
        self.assert_delivers(publishing, names[0], number=2)
        self.admin.channel().exchange_delete(self.broker.exchange)
        self.assert_delivers(publishing, *names, number=3)
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


class SilentNodeTest(base.TestCase):
    """Several nodes, the first of which accepts connections and sends nothing."""

    TIMEOUT_SCALING_FACTOR = 3

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.rabbit = services.share(cls, services.RabbitMQ())

    def setUp(self):
        super().setUp()
        self.silent = socket.create_server(('127.0.0.1', 0), backlog=100)
        self.addCleanup(self.silent.close)
        credentials, _, rest = self.rabbit.url.partition('//')[2].rpartition('@')
        address, _, virtual_host = rest.partition('/')
        silent = f'127.0.0.1:{self.silent.getsockname()[1]}'
        self.useFixture(
            conffixture.ConfFixture(
                cfg.CONF,
                transport_url=f'rabbit://{credentials}@{silent},{credentials}@{address}/{virtual_host}',
            )
        )

    def test_the_other_node_is_used(self):
        for _ in range(4):
            # NOTE: a description of its own each time: one remembers which node failed.
            rpc.get_transport(cfg.CONF)
            rpc.get_broker(cfg.CONF).connect().collect()

    def test_a_node_that_failed_is_tried_last(self):
        rpc.get_transport(cfg.CONF)
        broker = rpc.get_broker(cfg.CONF)
        deployment.wait_until(lambda: broker.connect().collect() or broker.failed_at, 'the silent node')
        began = time.monotonic()
        for _ in range(10):
            broker.connect().collect()
        self.assertLess(time.monotonic() - began, 2.5)

    def test_both_clients_connect_at_start(self):
        for _ in range(2):
            rpc.check_broker(cfg.CONF)


class OptionsTest(base.TestCase):
    """Options that only one of the clients refuses are found at start."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.rabbit = services.share(cls, services.RabbitMQ())

    def check(self, url, **options):
        fixture = self.useFixture(conffixture.ConfFixture(cfg.CONF, transport_url=url))
        for name, value in options.items():
            fixture.conf.set_override(name, value, group='oslo_messaging_rabbit')
        rpc.check_broker(cfg.CONF)

    def test_options_of_oslo_messaging(self):
        for options, text in (
            ({'rabbit_stream_fanout': True}, 'rabbit_qos_prefetch_count'),
            ({'use_queue_manager': True}, 'lock_path'),
        ):
            error = self.assertRaises(exceptions.ConfigurationError, self.check, self.rabbit.url, **options)
            self.assertIn(text, str(error))
            self.assertIn('[oslo_messaging_rabbit]', str(error))
            for name in options:
                cfg.CONF.clear_override(name, group='oslo_messaging_rabbit')

    def test_a_transient_exchange_is_logged(self):
        self.useFixture(conffixture.ConfFixture(cfg.CONF, transport_url=self.rabbit.url))
        rpc.get_transport(cfg.CONF)
        connection = rpc.get_broker(cfg.CONF).connect()
        self.addCleanup(connection.close)
        channel = connection.channel()
        # NOTE: another test of the class may have declared it.
        channel.exchange_delete(cfg.CONF.control_exchange)
        channel.exchange_declare(cfg.CONF.control_exchange, 'topic', durable=False, auto_delete=False)
        rpc.check_broker(cfg.CONF)
        self.assertIn(f'Exchange {cfg.CONF.control_exchange} has other arguments', self.logs.output)

    def test_a_slash_in_the_password(self):
        rabbit = self.useFixture(services.RabbitMQ(password='a/b@c:d%e'))
        self.check(rabbit.url)


class OsloMessagingTest(base.TestCase):
    """RPC servers of oslo.messaging on exchanges and queues that another release or an operator declared."""

    TIMEOUT_SCALING_FACTOR = 3

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.rabbit = services.share(cls, services.RabbitMQ())

    def setUp(self):
        super().setUp()
        self.useFixture(conffixture.ConfFixture(cfg.CONF, transport_url=self.rabbit.url))
        self.transport = rpc.get_transport(cfg.CONF)
        self.addCleanup(self.transport.cleanup)
        self.came = queues.SimpleQueue()

    @rpc.exposed()
    def take(self, _ctxt, number):
        self.came.put(number)

    def serve(self, topic, exchange):
        target = messaging.Target(topic=topic, server='host', exchange=exchange)
        server = rpc.get_server(self.transport, target, [self])
        server.start()
        self.addCleanup(server.wait)
        self.addCleanup(server.stop)

    def assert_receives(self, topic, exchange, number):
        target = messaging.Target(topic=topic, server='host', exchange=exchange)
        client = rpc.get_client(self.transport, target, routed=True)

        def is_cast():
            try:
                client.cast(context.RequestContext(), 'take', number=number)
            except (messaging.MessageUndeliverable, messaging.MessageDeliveryFailure):
                return False
            return True

        deployment.wait_until(is_cast, 'a binding')
        self.assertEqual(number, self.came.get(timeout=PATIENCE))

    def test_existing_exchanges_and_queues_are_used_unchanged(self):
        connection = rpc.get_broker(cfg.CONF).connect()
        self.addCleanup(connection.close)
        channel = connection.channel()
        for number, (durable_exchange, queue_arguments) in enumerate(
            (
                (False, {'durable': False}),
                (False, {'durable': True}),
                (True, {'durable': False}),
                (True, {'durable': True, 'arguments': QUORUM}),
            )
        ):
            exchange, topic = f'exchange-{number}', f'topic-{number}'
            channel.exchange_declare(exchange, 'topic', durable=durable_exchange, auto_delete=False)
            for name in (topic, f'{topic}.host'):
                channel.queue_declare(name, auto_delete=False, **queue_arguments)
            self.serve(topic, exchange)
            self.assert_receives(topic, exchange, number)

    def test_a_deleted_exchange_is_restored(self):
        self.useFixture(fixtures.MonkeyPatch(f'{consumer.__name__}.REBIND_INTERVAL', 1.0))
        self.serve('topic', None)
        bindings = rpc.get_bindings(cfg.CONF)
        bindings.keep_bound('topic.host')
        bindings.start()
        self.addCleanup(bindings.stop, PATIENCE)
        self.assert_receives('topic', None, 1)
        connection = rpc.get_broker(cfg.CONF).connect()
        self.addCleanup(connection.close)
        connection.channel().exchange_delete(cfg.CONF.control_exchange)
        self.assert_receives('topic', None, 2)
