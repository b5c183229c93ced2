"""Declarations on a channel of their own, against a broker that answers as RabbitMQ does."""

from __future__ import annotations

import functools
import struct

from amqp import serialization

from external_events_router.messaging.amqp import broker as brokers
from external_events_router.messaging.amqp import declaring
from external_events_router.messaging.amqp import frames
from tests import base

CHANNEL = 2

#: Method to the types of its arguments, and to what answers it.
METHODS = {
    frames.QUEUE_DECLARE: ('BsbbbbbF', None),
    frames.QUEUE_BIND: ('BsssbF', frames.QUEUE_BIND_OK),
    frames.QUEUE_DELETE: ('Bsbbb', frames.QUEUE_DELETE_OK),
    frames.EXCHANGE_DECLARE: ('BssbbbbbF', frames.EXCHANGE_DECLARE_OK),
}

BROKER = brokers.Broker([], '/', 'events', durable=True)


class FakeBroker:
    """Answers frames; after a refusal it ignores what comes until the channel was opened again.

    :ivar queues: name to whether it is durable
    :ivar refused: name to code and text
    :ivar answers: frames that the client has not received yet
    """

    def __init__(self):
        self.queues = {}
        self.used = set()
        self.refused = {}
        self.bound = set()
        self.exchanges = {'events'}
        self.answers = []
        self.closing = False

    def write(self, data):
        while data:
            _kind, channel, size = struct.unpack_from('>BHI', data)
            payload, data = data[7 : 7 + size], data[8 + size :]
            assert channel == CHANNEL
            self.take(struct.unpack_from('>HH', payload), payload[4:])

    def take(self, method, payload):
        if method == frames.CHANNEL_CLOSE_OK:
            self.closing = False
        if self.closing or method == frames.CHANNEL_CLOSE_OK:
            return
        if method == frames.CHANNEL_OPEN:
            self.answers.append(frames.Answered(CHANNEL, frames.CHANNEL_OPEN_OK))
            return
        layout, answer = METHODS[method]
        values, _ = serialization.loads(layout, payload, 0)
        problem = self.problem(method, values)
        if problem is None and answer is None:
            self.answers.append(frames.Declared(values[1], 0, 0, CHANNEL))
        elif problem is None:
            self.answers.append(frames.Answered(CHANNEL, answer))
        else:
            self.closing = True
            self.answers.append(frames.Closed(CHANNEL, *problem, method))

    def problem(self, method, values):
        name = values[1]
        if method == frames.EXCHANGE_DECLARE:
            if values[3] and name not in self.exchanges:
                return 404, f"NOT_FOUND - no exchange '{name}' in vhost '/'"
            self.exchanges.add(name)
        elif name in self.refused:
            return self.refused[name]
        elif method == frames.QUEUE_DECLARE:
            durable = self.queues.setdefault(name, values[3])
            if not values[2] and durable != values[3]:
                return (
                    406,
                    f"inequivalent arg 'durable' for queue '{name}': received 'true' but current is 'false'",
                )
        elif method == frames.QUEUE_DELETE:
            if name in self.used:
                return 406, f"PRECONDITION_FAILED - queue '{name}' in vhost '/' in use"
            del self.queues[name]
        elif values[2] not in self.exchanges:
            return 404, f"NOT_FOUND - no exchange '{values[2]}' in vhost '/'"
        else:
            self.bound.add(name)
        return None


class DeclarerTest(base.TestCase):
    def setUp(self):
        super().setUp()
        self.broker = FakeBroker()
        self.declarer = declaring.Declarer(CHANNEL, self.broker.write)
        self.ended = {}

    def end(self, name, result, refused):
        self.assertNotIn(name, self.ended)
        self.ended[name] = refused.code if refused else result

    def declare(self, *names):
        for name in names:
            self.declarer.run(declaring.declare_queue(BROKER, name), functools.partial(self.end, name))

    def answer(self):
        while self.broker.answers:
            self.declarer.arrived(self.broker.answers.pop(0))

    def test_many_queues(self):
        names = [f'queue-{number}' for number in range(1000)]
        self.declare(*names)
        self.answer()
        self.assertEqual(dict.fromkeys(names), self.ended)
        self.assertEqual(set(names), self.broker.bound)

    def test_each_refusal_is_of_one_queue(self):
        names = [f'queue-{number}' for number in range(300)]
        self.broker.refused = dict.fromkeys(names[::3], (403, 'ACCESS_REFUSED'))
        self.declare(*names)
        self.answer()
        self.assertEqual({name: 403 if name in self.broker.refused else None for name in names}, self.ended)
        self.assertEqual(set(names) - set(self.broker.refused), self.broker.bound)

    def test_a_transient_queue_is_replaced_unless_it_is_used(self):
        self.broker.queues = {'free': False, 'used': False}
        self.broker.used = {'used'}
        self.declare('free', 'used')
        self.answer()
        self.assertEqual({'free': True, 'used': False}, self.broker.queues)
        self.assertIsNone(self.ended['free'])
        self.assertIn("current is 'false'", self.ended['used'])
        self.assertEqual({'free', 'used'}, self.broker.bound)

    def test_a_missing_exchange_is_declared(self):
        self.broker.exchanges.clear()
        self.declare('queue')
        self.answer()
        self.assertEqual({'queue'}, self.broker.bound)
        self.assertEqual({'events'}, self.broker.exchanges)

    def test_a_connection_that_ends_because_of_a_declaration(self):
        self.declare('first', 'second')
        self.declarer.lost('Queue.declare: (541) INTERNAL_ERROR - Feature is deprecated')
        self.assertEqual({'first': 541}, self.ended)

    def test_a_connection_that_ends_otherwise(self):
        self.declare('first', 'second')
        self.declarer.lost('Connection reset by peer')
        self.assertEqual({}, self.ended)
