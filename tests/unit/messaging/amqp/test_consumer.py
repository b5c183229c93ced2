"""The messages of a consumer to the broker; the integration tests have queues that the broker refuses."""

import collections
import struct
from unittest import mock

import hypothesis
from hypothesis import strategies

from external_events_router import rejected
from external_events_router.messaging.amqp import broker as brokers
from external_events_router.messaging.amqp import connection as links
from external_events_router.messaging.amqp import consumer
from external_events_router.messaging.amqp import declaring
from external_events_router.messaging.amqp import envelope
from external_events_router.messaging.amqp import frames
from external_events_router.process import parts
from tests import base
from tests import generated
from tests.unit import exactly_once
from tests.unit.messaging.amqp import test_exactly_once

_HEAD = struct.Struct('>BHIHH')
_TAG = struct.Struct('>QB')


class Broker(test_exactly_once.Link):
    """As a broker: it sends a message again if the connection ends before the acknowledgement.

    :ivar deliveries: message to the number of times that it was sent
    :ivar acknowledged: messages, as often as they were acknowledged
    :ivar problems: acknowledgements for which a broker closes the channel
    :ivar reasons: of the ends of connections
    """

    def __init__(self, role, faults):
        super().__init__(role, faults)
        self.deliveries = collections.Counter()
        self.acknowledged = collections.Counter()
        self.problems, self.reasons = [], []
        self._waiting = collections.deque()
        self._unacknowledged = {}
        self._tag = 0

    def send(self, message):
        self._waiting.append(message)
        while self._waiting and self.up:
            self._tag += 1
            message = self._unacknowledged[self._tag] = self._waiting.popleft()
            self.deliveries[message] += 1
            body = envelope.encode(envelope.Call(message, '1.0', {}, {}))
            self.on_thread(self.role.arrived, frames.Delivered('q', self._tag, body, 1))

    def write(self, data):
        super().write(data)
        while data:
            kind, channel, size, *method = _HEAD.unpack_from(data)
            if (kind, channel, tuple(method)) == (frames.METHOD, 1, frames.ACK):
                tag, multiple = _TAG.unpack_from(data, _HEAD.size)
                self._acknowledge(tag, multiple=bool(multiple))
            data = data[7 + size + 1 :]

    def _acknowledge(self, tag, *, multiple):
        if tag not in self._unacknowledged:
            self.problems.append(f'unknown delivery tag {tag}')
        for each in sorted(self._unacknowledged):
            if each == tag or (multiple and each < tag):
                self.acknowledged[self._unacknowledged.pop(each)] += 1

    def on_thread(self, call, *args):
        super().on_thread(call, *args)
        if not self.up:
            self.end('an exception')

    def end(self, reason):
        self.up = False
        self.reasons.append(reason)
        self._waiting.extendleft(reversed(self._unacknowledged.values()))
        self._unacknowledged, self._tag = {}, 0


class AutomaticTest(base.TestCase):
    """A queue whose messages count as acknowledged when the broker sends them."""

    def test_no_message_is_acknowledged(self):
        consuming = consumer.Consumer(test_exactly_once.BROKER, name='test')
        link = consuming._link = mock.create_autospec(links.Connection, instance=True)
        link.channel = mock.Mock(channel_id=1)
        got = []
        listens = consuming.listen('a', lambda call: got.append(call.method), automatic=True)
        consuming.listen('q', lambda call: got.append(call.method))
        for name in ('a', 'q'):
            consuming._consume(name, consuming._queues[name])
        self.assertEqual(
            [frames.consume(1, 'a', automatic=True), frames.consume(1, 'q')],
            [call.args[0] for call in link.write.call_args_list],
        )
        self.assertNotEqual(frames.consume(1, 'q', automatic=True), frames.consume(1, 'q'))
        link.write.reset_mock()

        def deliver(tag, queue):
            body = envelope.encode(envelope.Call(f'{queue}{tag}', '1.0', {}, {}))
            consuming.arrived(frames.Delivered(queue, tag, body, 1))

        deliver(1, 'a')
        consuming._news = False
        consuming.on_ready()
        link.write.assert_not_called()
        deliver(2, 'q')
        deliver(3, 'a')
        # The broker may send more before it has handled the end of the consumer.
        consuming.cancel('a')
        deliver(4, 'a')
        consuming._news = False
        consuming.on_ready()
        link.write.assert_called_once_with(frames.acknowledge(1, 2))
        self.assertEqual(['a1', 'q2', 'a3'], got)
        self.assertFalse(listens.is_set())


class SettlingTest(base.TestCase):
    def make(self, faults, listener):
        consuming = consumer.Consumer(test_exactly_once.BROKER, name='test')
        broker = consuming._link = Broker(consuming, faults)
        broker.wake = lambda: None
        consuming.listen('q', listener)
        broker.on_ready()
        return consuming, broker

    @generated.examples(60)
    @hypothesis.given(strategies.data())
    def test_each_message_is_acknowledged_once(self, data):
        faults = exactly_once.Faults(data, strategies)
        results = exactly_once.Results(exactly_once.Faults(data, strategies))
        consuming, broker = self.make(faults, lambda call: results.note(call.method))
        sent = []
        for _step in range(data.draw(strategies.integers(1, 8))):
            match data.draw(strategies.sampled_from(('message', 'turn', 'lost'))):
                case 'message':
                    sent.append(f'message {len(sent)}')
                    broker.send(sent[-1])
                case 'turn':
                    broker.on_ready()
                case 'lost' if broker.up:
                    broker.end('lost')
                    consuming.lost('away')
        faults.stop()
        broker.on_ready()
        sent.append('the last')
        broker.send(sent[-1])
        broker.on_ready()
        broker.on_ready()
        self.assertEqual([], broker.problems)
        self.assertEqual(dict.fromkeys(sent, 1), dict(broker.acknowledged))
        # A listener gets a message as often as it was sent, whatever it raises.
        self.assertEqual(broker.deliveries, results.times)

    def test_an_exception_of_a_listener_does_not_end_the_connection(self):
        def listener(_call):
            raise exactly_once.Unexpected

        _consuming, broker = self.make(exactly_once.Faults(None, strategies, at_most=0), listener)
        broker.send('a')
        broker.on_ready()
        self.assertEqual([], broker.reasons)
        self.assertEqual({'a': 1}, dict(broker.acknowledged))

    def test_a_message_that_is_too_large_is_dropped_and_acknowledged(self):
        rejected.ALL.reset()
        self.addCleanup(rejected.ALL.reset)
        consuming, broker = self.make(exactly_once.Faults(None, strategies, at_most=0), self.fail)
        broker.on_thread(consuming.arrived, frames.Delivered('q', 1, b'', 1, too_large=40_000_000))
        broker.on_ready()
        self.assertIn('it is dropped, because it has 40000000 bytes', self.logs.output)
        self.assertEqual(['unknown delivery tag 1'], broker.problems)


class BackOffTest(base.TestCase):
    def setUp(self):
        super().setUp()
        self.now = 1000.0
        self.patch(consumer.time, 'monotonic', lambda: self.now)
        self.consumer = consumer.Consumer(test_exactly_once.BROKER, name='test')
        link = self.consumer._link = test_exactly_once.Link(
            self.consumer, exactly_once.Faults(None, strategies, at_most=0)
        )
        link.wake = lambda: None
        self.consumer.listen('q', lambda call: None)
        self.entry = self.consumer._queues['q']

    def refuse(self):
        """Have the broker refuse the queue.

        :returns: seconds until it is declared again
        """
        self.consumer._refused('q', self.entry, declaring.Refused(405, 'locked'))
        return self.entry.due - self.now

    def test_a_refused_queue_is_declared_again_later_and_later(self):
        self.assertEqual([1, 2, 4, 8, 16, 30, 30], [self.refuse() for _ in range(7)])

    def test_it_begins_with_the_first_pause_after_the_queue_was_consumed_for_a_while(self):
        pauses = [self.refuse() for _ in range(3)]
        self.consumer._confirmed(frames.Consuming('q', 1))
        self.now += consumer.LONGEST_PAUSE / 2
        pauses.append(self.refuse())
        self.consumer._confirmed(frames.Consuming('q', 1))
        self.now += consumer.LONGEST_PAUSE + 1
        pauses.append(self.refuse())
        self.assertEqual([1, 2, 4, 8, 1], pauses)

    def test_a_queue_without_consumer_is_a_failure_while_the_connection_works(self):
        connected = False
        self.consumer._link.is_connected_for = lambda seconds: connected
        self.refuse()
        self.now += consumer.CONSUME_TIME + 1
        self.assertIs(parts.State.OK, self.consumer.status().state)
        connected = True
        status = self.consumer.status()
        self.assertIs(parts.State.FAILED, status.state)
        self.assertEqual({'queues': 1, 'without_consumer': 1, 'missing': ['q']}, status.details)
        # A consumer that the broker has not confirmed receives nothing.
        self.consumer._consume('q', self.entry)
        self.assertIs(parts.State.FAILED, self.consumer.status().state)
        self.consumer._confirmed(frames.Consuming('q', 1))
        self.assertIs(parts.State.OK, self.consumer.status().state)

    def test_each_queue_has_the_time_for_its_consumer(self):
        self.consumer._link.is_connected_for = lambda seconds: True
        self.consumer._confirmed(frames.Consuming('q', 1))
        self.now += 1000
        # A queue that is added later, and one whose consumer is refused later, on the old connection.
        self.consumer.listen('new', lambda call: None)
        self.refuse()
        status = self.consumer.status()
        self.assertEqual((parts.State.OK, 2), (status.state, status.details['without_consumer']))
        self.now += consumer.CONSUME_TIME + 1
        self.consumer._confirmed(frames.Consuming('new', 1))
        self.refuse()
        status = self.consumer.status()
        self.assertEqual((parts.State.FAILED, ['q']), (status.state, status.details['missing']))

    def test_a_new_connection_does_not_end_the_pause(self):
        self.refuse()
        due = self.entry.due
        self.consumer.lost('away')
        link = self.consumer._link
        link.on_ready()
        self.assertEqual(due, self.entry.due)
        self.now = due
        link.on_ready()
        self.assertIsNone(self.entry.due)


class CancelledTest(base.TestCase):
    def test_queue_that_was_cancelled_meanwhile_is_not_consumed(self):
        consuming, written = consumer.Consumer(brokers.Broker((), '/', 'e'), name='test'), []
        consuming._link = mock.Mock(write=written.append)
        consuming._link.channel.channel_id = 1
        is_current = consuming._is_current

        def cancelled_after(name, entry):
            current = is_current(name, entry)
            self.cancelled = consuming.cancel(name)
            return current

        consuming._is_current = cancelled_after
        consuming.listen('queue', lambda call: None)
        consuming._declared('queue', consuming._queues['queue'], None, None)
        self.assertEqual([], written)
        consuming._see_to_queues(0.0)
        self.assertTrue(self.cancelled.is_set())
