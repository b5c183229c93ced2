"""Direct AMQP on a real RabbitMQ, beside oslo.messaging's own clients and servers on the same queues."""

import threading
import time
import uuid

from oslo_config import cfg
import oslo_messaging as messaging
from oslo_messaging import conffixture

from external_events_router import context
from external_events_router import events
from external_events_router import exceptions
from external_events_router.messaging import rpc
from external_events_router.messaging.amqp import consumer
from external_events_router.messaging.amqp import envelope
from external_events_router.messaging.amqp import publisher
from external_events_router.resolver.drivers.agent import acks
from tests import base
from tests.integration import services
from tests.unit.resolver import agents

#: Seconds; longer than anything takes.
PATIENCE = 20.0


class Endpoint:
    target = messaging.Target(version='1.0')

    def __init__(self):
        self.got = []
        self.came = threading.Semaphore(0)

    @rpc.exposed()
    def take(self, ctxt, **arguments):
        self.got.append((ctxt.request_id, arguments))
        self.came.release()


class FastRoadCase(base.TestCase):
    TIMEOUT_SCALING_FACTOR = 3

    def setUp(self):
        super().setUp()
        rabbit = self.useFixture(services.RabbitMQ())
        self.useFixture(
            conffixture.ConfFixture(cfg.CONF, transport_url=getattr(rabbit, 'url', rabbit.ADDRESS))
        )
        self.transport = rpc.get_transport(cfg.CONF)
        self.addCleanup(self.transport.cleanup)
        self.topic = f'eer-test-{uuid.uuid4().hex}'
        self.queue = f'{self.topic}.host'
        self.broker = rpc.get_broker(cfg.CONF, exchange=f'{self.topic}-exchange')
        self.addCleanup(self._delete)
        self.results = {}
        self.done = threading.Semaphore(0)

    def _delete(self):
        connection = self.broker.connect()
        channel = connection.channel()
        for queue in (self.queue, self.topic):
            channel.queue_delete(queue)
        channel.exchange_delete(self.broker.exchange)
        channel.exchange_delete(f'{self.topic}_fanout')
        connection.close()

    def consume(self, endpoint):
        consuming = consumer.Consumer(self.broker, name='test')
        consuming.start()
        self.addCleanup(consuming.stop, PATIENCE)
        self.assertTrue(consuming.listen(self.queue, rpc.listener(endpoint)).wait(PATIENCE))
        return consuming

    def publisher(self):
        publishing = publisher.Publisher(self.broker, name='test')
        publishing.start()
        self.addCleanup(publishing.stop, PATIENCE)
        return publishing

    def publish(self, publishing, *bodies, queue=None):
        def done(index, error):
            self.results[index] = error
            self.done.release()

        messages = [publisher.Message(queue or self.queue, body) for body in bodies]
        publishing.publish(messages, done, until=time.monotonic() + PATIENCE)
        for _ in bodies:
            self.assertTrue(self.done.acquire(timeout=PATIENCE))
        return [self.results[index] for index in range(len(bodies))]

    def call(self, **arguments):
        return envelope.encode(envelope.Call('take', '1.0', arguments, {'request_id': 'req-1'}))

    def received(self, endpoint, number):
        for _ in range(number):
            self.assertTrue(endpoint.came.acquire(timeout=PATIENCE))
        return endpoint.got


class FastRoadTest(FastRoadCase):
    def test_messages_without_acknowledgements_arrive_in_order(self):
        """Also on the channel of a queue with acknowledgements; and the broker keeps none of them."""
        endpoint, other = Endpoint(), Endpoint()
        consuming = self.consume(other)
        queue = f'{self.queue}.automatic'
        self.addCleanup(self._delete_queue, queue)
        listens = consuming.listen(queue, rpc.listener(endpoint), automatic=True)
        self.assertTrue(listens.wait(PATIENCE))
        publishing = self.publisher()
        for start in range(0, 1000, 100):
            calls = [self.call(number=number) for number in range(start, start + 100)]
            self.assertEqual({None}, set(self.publish(publishing, *calls, queue=queue)))
            self.publish(publishing, self.call(number=start))
        got = self.received(endpoint, 1000)
        self.assertEqual([('req-1', {'number': number}) for number in range(1000)], got)
        self.received(other, 10)
        consuming.stop(PATIENCE)
        connection = self.broker.connect()
        self.addCleanup(connection.close)
        for name in (queue, self.queue):
            self.assertEqual(0, connection.channel().queue_declare(name, passive=True).message_count)

    def _delete_queue(self, name):
        connection = self.broker.connect()
        connection.channel().queue_delete(name)
        connection.close()

    def test_fast_to_fast_in_order(self):
        endpoint = Endpoint()
        self.consume(endpoint)
        results = self.publish(self.publisher(), *(self.call(number=number) for number in range(2000)))
        self.assertEqual({None}, set(results))
        got = self.received(endpoint, 2000)
        self.assertEqual([('req-1', {'number': number}) for number in range(2000)], got)

    def test_the_first_connection_declares_the_exchange_and_stays(self):
        self.consume(Endpoint())
        self.assertNotIn('no connection to the broker', self.logs.output)

    def test_many_threads_that_publish_more_than_the_connection_takes(self):
        endpoint = Endpoint()
        self.consume(endpoint)
        publishing = self.publisher()
        # So that there is a connection, and threads need not wait for that.
        self.publish(publishing, self.call(thread=0, number=0))
        results, everything = {}, threading.Semaphore(0)

        def publish(thread):
            for number in range(1, 61):
                # NOTE: some queues do not exist, which shows whether each cast gets its own result.
                queue = 'no-such-queue' if number % 3 == 0 else self.queue
                text = 'x' * (300_000 if number % 10 == 0 else 10)

                def done(_index, error, number=number):
                    results[thread, number] = type(error)
                    everything.release()

                message = publisher.Message(queue, self.call(thread=thread, number=number, text=text))
                publishing.publish([message], done, until=time.monotonic() + PATIENCE)

        threads = [threading.Thread(target=publish, args=(thread,)) for thread in range(1, 9)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for _ in range(8 * 60):
            self.assertTrue(everything.acquire(timeout=PATIENCE))
        for (_thread, number), error in results.items():
            self.assertEqual(publisher.Unroutable if number % 3 == 0 else type(None), error)
        got = [arguments for _ctxt, arguments in self.received(endpoint, 1 + 8 * 40)]
        for thread in range(1, 9):
            numbers = [each['number'] for each in got if each['thread'] == thread]
            self.assertEqual([number for number in range(1, 61) if number % 3], numbers)

    def test_longer_than_a_frame(self):
        endpoint = Endpoint()
        self.consume(endpoint)
        self.assertEqual([None], self.publish(self.publisher(), self.call(text='x' * 500_000)))
        self.assertEqual([('req-1', {'text': 'x' * 500_000})], self.received(endpoint, 1))

    def test_no_queue(self):
        publishing = self.publisher()
        (error,) = self.publish(publishing, self.call(), queue='nobody')
        self.assertIsInstance(error, publisher.Unroutable)

    def test_fast_to_oslo_messaging(self):
        endpoint = Endpoint()
        target = messaging.Target(topic=self.topic, server='host', exchange=self.broker.exchange)
        server = rpc.get_server(self.transport, target, [endpoint])
        server.start()
        self.addCleanup(server.wait)
        self.addCleanup(server.stop)
        self.assertEqual([None], self.publish(self.publisher(), self.call(number=1)))
        self.assertEqual([('req-1', {'number': 1})], self.received(endpoint, 1))

    def test_oslo_messaging_to_fast(self):
        endpoint = Endpoint()
        self.consume(endpoint)
        target = messaging.Target(
            topic=self.topic, server='host', exchange=self.broker.exchange, version='1.0'
        )
        client = rpc.get_client(self.transport, target, routed=True)
        client.cast(context.RequestContext(request_id='req-2'), 'take', number=2)
        self.assertEqual([('req-2', {'number': 2})], self.received(endpoint, 1))

    def test_cancelled_queue_keeps_new_messages(self):
        endpoint = Endpoint()
        consuming = self.consume(endpoint)
        self.assertTrue(consuming.cancel(self.queue).wait(PATIENCE))
        self.assertEqual([None], self.publish(self.publisher(), self.call(number=3)))
        self.assertTrue(consuming.listen(self.queue, rpc.listener(endpoint)).wait(PATIENCE))
        self.assertEqual([('req-1', {'number': 3})], self.received(endpoint, 1))

    def test_connects_again_after_its_connection_was_lost(self):
        endpoint = Endpoint()
        consuming, publishing = self.consume(endpoint), self.publisher()
        self.assertEqual([None], self.publish(publishing, self.call(number=1)))
        for link in (consuming._link, publishing._link):
            link._socket.shutdown(2)
        deadline = time.monotonic() + PATIENCE
        while self.publish(publishing, self.call(number=2)) != [None]:
            self.assertLess(time.monotonic(), deadline)
            self.assertIsInstance(self.results[0], exceptions.BrokerUnavailable)
        while ('req-1', {'number': 2}) not in self.received(endpoint, 1):
            self.assertLess(time.monotonic(), deadline)


class RoundsTest(FastRoadCase):
    """Rounds that wait for acknowledgements on a queue of their own."""

    def setUp(self):
        super().setUp()
        self.collector = acks.Collector()
        self.consuming = consumer.Consumer(self.broker, name='test')
        self.consuming.start()
        self.addCleanup(self.consuming.stop, PATIENCE)
        listens = self.consuming.listen(self.queue, lambda call: None, watcher=self.collector)
        self.assertTrue(listens.wait(PATIENCE))

    def fails_at_once(self, break_it):
        event = events.Event('network-changed', str(uuid.uuid4()))
        sent = events.Delivery('one', 'worker', time.time() + 60, (event,))
        with agents.expect(self.collector, {'host': sent}) as waiting:
            self.assertFalse(waiting.abandoned)
            break_it()
            (answer,) = waiting.wait(time.monotonic() + PATIENCE).values()
        self.assertIn(acks.CONNECTION_LOST, answer.reason)
        # And it works again, by itself.
        deadline = time.monotonic() + PATIENCE
        while not self.collector.is_connected():
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.01)

    def test_lost_connection(self):
        self.fails_at_once(lambda: self.consuming._link._socket.shutdown(2))

    def test_deleted_queue(self):
        self.fails_at_once(self._delete_queue)

    def _delete_queue(self):
        connection = self.broker.connect()
        connection.channel().queue_delete(self.queue)
        connection.close()


class BrokerAwayTest(base.TestCase):
    def test_publishes_fail_at_once_after_the_failure_is_detected(self):
        self.useFixture(conffixture.ConfFixture(cfg.CONF, transport_url='rabbit://u:s3cret@127.0.0.1:1/'))
        transport = rpc.get_transport(cfg.CONF)
        self.addCleanup(transport.cleanup)
        publishing = publisher.Publisher(rpc.get_broker(cfg.CONF), name='test')
        publishing.start()
        self.addCleanup(publishing.stop, PATIENCE)
        for _ in range(2):
            results, done = [], threading.Event()

            def note(_index, error, results=results, done=done):
                results.append(error)
                done.set()

            publishing.publish([publisher.Message('q', b'{}')], note, until=time.monotonic() + PATIENCE)
            self.assertTrue(done.wait(PATIENCE))
            self.assertIsInstance(results[0], exceptions.BrokerUnavailable)
            self.assertNotIn('s3cret', str(results[0]))
        self.assertTrue(done.is_set())
