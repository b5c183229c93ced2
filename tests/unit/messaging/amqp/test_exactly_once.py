"""Publisher and consumer: each message has one end, whatever raises, and the thread goes on."""

import types

import hypothesis
from hypothesis import strategies

from external_events_router import exceptions
from external_events_router.messaging.amqp import consumer
from external_events_router.messaging.amqp import envelope
from external_events_router.messaging.amqp import frames
from external_events_router.messaging.amqp import publisher
from tests import base
from tests import generated
from tests.unit import exactly_once

BROKER = types.SimpleNamespace(
    exchange='events', durable=False, auto_delete=False, queue_arguments={}, virtual_host='/'
)

STEPS = ('publish', 'turn', 'confirm', 'return', 'block', 'lost')


class Link:
    """What ``connection.Connection`` is to its role: an exception of the role ends the connection.

    :ivar confirmed: the tag up to which the broker has confirmed
    """

    frame_max = 131072

    def __init__(self, role, faults):
        self.role, self.faults = role, faults
        self.blocked = None
        self.up = False
        self.published = 0
        self.channel = types.SimpleNamespace(
            channel_id=1,
            exchange_declare=lambda *args, **kwargs: faults.step('exchange_declare'),
            confirm_select=lambda: faults.step('confirm_select'),
            basic_qos=lambda *args: faults.step('basic_qos'),
            basic_cancel=lambda *args, **kwargs: faults.step('basic_cancel'),
            queue_declare=lambda *args, **kwargs: faults.step('queue_declare'),
            queue_bind=lambda *args, **kwargs: faults.step('queue_bind'),
            send_method=lambda *args, **kwargs: faults.step('send_method'),
        )

    def wake(self):
        self.faults.step('wake')

    def write(self, data):
        self.faults.step('write')
        self.published += data.count(b'application/json')

    def on_thread(self, call, *args):
        """A call on the link's thread; if it raises, the role is notified of a lost connection."""
        try:
            call(*args)
        except Exception as exc:
            self.up = False
            self.role.lost(str(exc))

    def on_ready(self):
        if not self.up:
            self.published, self.blocked, self.up = 0, None, True
            self.on_thread(self.role.connected, self)
        if self.up:
            self.on_thread(self.role.on_ready)


class PublisherTest(base.TestCase):
    @generated.examples(40)
    @hypothesis.given(strategies.data())
    def test_each_message_has_one_result(self, data):
        faults = exactly_once.Faults(data, strategies)
        results = exactly_once.Results(faults)
        publishing = publisher.Publisher(BROKER, name='test')
        link = publishing._link = Link(publishing, faults)
        items = 0
        for _step in range(data.draw(strategies.integers(1, 8))):
            match data.draw(
                strategies.sampled_from(('publish', 'turn', 'confirm', 'return', 'block', 'lost'))
            ):
                case 'publish':
                    keys = data.draw(strategies.lists(strategies.sampled_from(('a', 'x' * 300, '\ud800'))))
                    first, items = items, items + len(keys)
                    publishing.publish(
                        [publisher.Message(key, b'body') for key in keys],
                        lambda index, error, first=first: results.note(first + index, error),
                        until=data.draw(strategies.sampled_from((0.0, float('inf')))),
                    )
                case 'turn':
                    link.on_ready()
                case 'confirm':
                    tag = data.draw(strategies.integers(0, link.published))
                    confirmed = frames.Confirmed(tag, data.draw(strategies.booleans()), True)
                    link.on_thread(publishing.arrived, confirmed)
                case 'return':
                    name = data.draw(strategies.sampled_from(('1', '2', 'nonsense')))
                    link.on_thread(publishing.arrived, frames.Returned(name))
                case 'block':
                    link.blocked = data.draw(strategies.sampled_from((None, 'alarm')))
                case 'lost':
                    link.up = False
                    publishing.lost('away')
        faults.stop()
        link.blocked = None
        # Later messages still work.
        link.on_ready()
        first, items = items, items + 3
        publishing.publish(
            [publisher.Message(key, b'body') for key in ('a', 'x' * 300, 'b')],
            lambda index, error: results.note(first + index, error),
            until=float('inf'),
        )
        link.on_ready()
        publishing.arrived(frames.Confirmed(link.published, True, True))
        self.assertEqual(dict.fromkeys(range(items), 1), dict(results.times))
        self.assertEqual(
            [None, exceptions.Unsendable, None],
            [results.errors[item] and type(results.errors[item]) for item in range(first, items)],
        )

    def test_message_that_cannot_be_encoded_fails_alone(self):
        results = []
        publishing = publisher.Publisher(BROKER, name='test')
        link = publishing._link = Link(publishing, exactly_once.Faults(None, strategies, at_most=0))
        link.on_ready()
        for key in ('compute.a', 'compute.' + 'x' * 248, 'compute.b'):
            publishing.publish(
                [publisher.Message(key, b'')],
                lambda _, error, key=key: results.append((key, error)),
                until=1e18,
            )
        link.on_ready()
        self.assertTrue(link.up)
        publishing.arrived(frames.Confirmed(2, True, True))
        self.assertEqual(['compute.' + 'x' * 248, 'compute.a', 'compute.b'], [key for key, _error in results])
        self.assertIsInstance(results[0][1], exceptions.Unsendable)
        self.assertEqual([None, None], [error for _key, error in results[1:]])
        self.assertNotIn('Traceback', self.logs.output)


class Watcher:
    def connected(self):
        raise exactly_once.Unexpected

    def disconnected(self, reason):
        raise exactly_once.Unexpected


class ConsumerTest(base.TestCase):
    @generated.examples(40)
    @hypothesis.given(strategies.data())
    def test_each_message_is_passed_on_once_and_the_thread_continues(self, data):
        faults = exactly_once.Faults(data, strategies)
        results = exactly_once.Results(faults)
        consuming = consumer.Consumer(BROKER, name='test')
        link = consuming._link = Link(consuming, exactly_once.Faults(data, strategies))
        link.wake = lambda: None
        consuming.listen('q', lambda call: results.note(call.method))
        tag, items, cancelled = 0, 0, []
        for _step in range(data.draw(strategies.integers(1, 8))):
            match data.draw(strategies.sampled_from(('message', 'nonsense', 'turn', 'cancel'))):
                case 'message':
                    tag, items = tag + 1, items + 1
                    body = envelope.encode(envelope.Call(str(items), '1.0', {}, {}))
                    link.on_thread(consuming.arrived, frames.Delivered('q', tag, body, 1))
                case 'nonsense':
                    tag += 1
                    link.on_thread(consuming.arrived, frames.Delivered('q', tag, b'\xff{[', 1))
                case 'turn':
                    link.on_ready()
                case 'cancel':
                    consuming.listen('other', results.note, watcher=Watcher())
                    consuming._queues['other'].channel = 1
                    cancelled.append(consuming.cancel('other'))
        faults.stop()
        link.faults.stop()
        link.on_ready()
        self.assertEqual({str(item + 1): 1 for item in range(items)}, dict(results.times))
        self.assertTrue(all(each.is_set() for each in cancelled))
        self.assertTrue(link.up)
