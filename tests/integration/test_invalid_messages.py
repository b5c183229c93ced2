"""Invalid messages on a real RabbitMQ: they leave no traceback, and valid ones are processed beside them."""

import bz2
import json
import resource
import time
import uuid
import zlib

import amqp
from oslo_config import cfg
from oslo_messaging import conffixture

from external_events_router import events
from external_events_router import rejected
from external_events_router.agent import endpoint
from external_events_router.messaging import rpc
from external_events_router.messaging import transport as transports
from external_events_router.messaging.amqp import consumer
from external_events_router.messaging.amqp import envelope
from tests import base
from tests.integration import services

SERVER = '5bb6d8f4-5a5d-4c5c-9a3c-8a7c1d0a5a01'

#: Bytes of spaces in a stream of bzip2, and streams in a body.
STREAM, STREAMS = 50_000_000, 10

#: Ids and names of queues that oslo.messaging would keep and log as they are.
ODD_IDS = ('x' * 300_000, 'x\x1b[2J', '\ud800', ['x'], {'x': 1}, 7)


def bodies():
    """Bodies that the clients of the service never send."""
    yield from (b'', b'\xff\xfe', b'{', b'null', b'[]', b'"text"', b'3', b'[' * 100_000, b'x' * 1_000_000)
    for inner in (
        None,
        3,
        '',
        '[]',
        '{}',
        'x',
        '[' * 5000,
        '{"method": {}}',
        '{"method": "deliver", "args": 3}',
    ):
        yield json.dumps({'oslo.version': '2.0', 'oslo.message': inner}).encode()
    for changes in (
        {'method': 'nothing'},
        {'method': '__init__'},
        {'version': '9.9'},
        {'version': 'nonsense'},
        {'version': 3},
        {'namespace': []},
        {'args': {}},
        {'args': {'ctxt': 1, 'self': 2}},
        {'args': {'delivery_id': [], 'reply_to': {}, 'deadline': 'x', 'events': 3}},
        {'_timeout': []},
        {'_msg_id': 'x', '_reply_q': 'reply_of_nobody'},
        {'_msg_id': 'x', '_reply_q': 'reply_of_nobody_else', '_timeout': 4},
        {'_msg_id': 'x', '_reply_q': {}, '_timeout': float('inf')},
        {'_context_request_id': [1], '_context_roles': 3},
        *({'_msg_id': value, '_reply_q': 'reply_of_nobody'} for value in ODD_IDS),
        *({'_msg_id': 'x', '_reply_q': value} for value in ODD_IDS),
        *({'_unique_id': value} for value in ODD_IDS),
    ):
        message = {
            'method': 'deliver',
            'version': '1.0',
            'args': {},
            '_unique_id': uuid.uuid4().hex,
            **changes,
        }
        yield json.dumps({'oslo.version': '2.0', 'oslo.message': json.dumps(message)}).encode()


class Receiver:
    def __init__(self):
        self.received = []

    def receive(self, ctxt, delivery):
        self.received.append(delivery.id)


class InvalidMessagesTest(base.TestCase):
    def setUp(self):
        super().setUp()
        rabbit = self.useFixture(services.RabbitMQ())
        url = getattr(rabbit, 'url', rabbit.ADDRESS)
        self.useFixture(conffixture.ConfFixture(cfg.CONF, transport_url=url))
        self.transport = rpc.get_transport(cfg.CONF)
        self.addCleanup(self.transport.cleanup)
        self.topic, self.receiver = f'test-{uuid.uuid4()}', Receiver()
        self.broker = rpc.get_broker(cfg.CONF)
        rejected.ALL.reset()

    def publish(self, body, **headers):
        connection = self.broker.connect(name='test')
        try:
            message = amqp.Message(
                body, content_type='application/json', content_encoding='utf-8', application_headers=headers
            )
            connection.channel().basic_publish(message, self.broker.exchange, f'{self.topic}.a')
        finally:
            connection.close()

    def deliver(self, delivery_id, *, compress=bytes, **headers):
        event = events.Event('network-changed', SERVER).to_dict()
        arguments = {
            'delivery_id': delivery_id,
            'reply_to': 'worker',
            'deadline': time.time() + 60,
            'events': [event],
        }
        self.publish(compress(envelope.encode(envelope.Call('deliver', '1.0', arguments, {}))), **headers)

    def check(self):
        self.deliver('first')
        for body in bodies():
            self.publish(body)
        self.deliver('second')
        end = time.monotonic() + 30
        while self.receiver.received != ['first', 'second'] and time.monotonic() < end:
            time.sleep(0.05)
        self.assertEqual(['first', 'second'], self.receiver.received)
        self.assertNotIn('Traceback', self.logs.output)
        lines = [line for line in self.logs.output.splitlines() if ' DEBUG ' not in line]
        self.assertLess(max(map(len, lines)), 1000)

    def test_direct_connection(self):
        consuming = consumer.Consumer(self.broker, name='test')
        consuming.start()
        self.addCleanup(consuming.stop, 5)
        listens = consuming.listen(
            f'{self.topic}.a', rpc.listener(endpoint.AgentEndpoint(self.receiver, 'a'))
        )
        self.assertTrue(listens.wait(30))
        self.addCleanup(self.delete_queue)
        self.check()
        self.assertLess(len([line for line in self.logs.output.splitlines() if 'WARNING' in line]), 10)

    def test_oslo_messaging(self):
        transport = transports.OsloTransport(self.transport)
        listener = transport.listener(self.topic, 'a', endpoint.AgentEndpoint(self.receiver, 'a'))
        listener.start()
        self.addCleanup(listener.stop, 30)
        self.check()
        self.check_compression()

    def check_compression(self):
        """kombu decompresses what has this header; a body of 810 bytes must not become 500 MB."""
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        self.publish(bz2.compress(b' ' * STREAM) * STREAMS, compression='application/x-bz2')
        for compression in ('application/x-bz2', 'application/x-gzip', 'application/no-such', 7):
            self.publish(b'nonsense', compression=compression)
        self.deliver('third', compress=zlib.compress, compression='application/x-gzip')
        end = time.monotonic() + 30
        while 'third' not in self.receiver.received and time.monotonic() < end:
            time.sleep(0.05)
        self.assertEqual(['first', 'second', 'third'], self.receiver.received)
        self.assertLess(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, 200_000)
        self.assertNotIn('Traceback', self.logs.output)

    def delete_queue(self):
        connection = self.broker.connect(name='test')
        connection.channel().queue_delete(f'{self.topic}.a')
        connection.close()
