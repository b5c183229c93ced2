"""Unconfirmed messages; the integration tests publish to a real broker."""

import time
from unittest import mock

from external_events_router import exceptions
from external_events_router.messaging.amqp import broker as brokers
from external_events_router.messaging.amqp import frames
from external_events_router.messaging.amqp import publisher
from tests import base


class UnconfirmedTest(base.TestCase):
    def setUp(self):
        super().setUp()
        self.publisher = publisher.Publisher(None, name='test')
        self.results = []
        for tag, age in ((1, publisher.CONFIRM_TIMEOUT + 1), (2, publisher.CONFIRM_TIMEOUT + 1), (3, 0)):
            self.publisher._sent[tag] = publisher._Sent('key', self.done, tag, time.monotonic() - age)

    def done(self, index, error):
        self.results.append((index, error and str(error)))

    def test_broker_that_confirms_nothing_is_disconnected(self):
        self.assertRaises(exceptions.BrokerUnavailable, self.publisher.on_ready)
        self.assertEqual([], self.results)

    def test_in_an_alarm_waiting_messages_fail_and_the_connection_stays(self):
        self.publisher._link.blocked = 'low on memory'
        self.publisher.on_ready()
        self.assertEqual([1, 2], [index for index, _error in self.results])
        for _index, error in self.results:
            self.assertIn('low on memory', error)

    def test_late_confirm_has_no_effect(self):
        self.publisher._link.blocked = 'low on memory'
        self.publisher.on_ready()
        self.publisher.arrived(frames.Returned('1'))
        self.publisher.arrived(frames.Confirmed(1, False, True))
        self.publisher.arrived(frames.Confirmed(3, True, True))
        self.assertEqual([1, 2, 3], [index for index, _error in self.results])
        self.assertIsNone(self.results[-1][1])


class SentTest(base.TestCase):
    def test_message_that_was_given_to_the_connection_is_sent(self):
        publishing, written = publisher.Publisher(brokers.Broker((), '/', 'e'), name='test'), []
        publishing._link = mock.Mock(blocked=None, frame_max=131072, write=written.append)
        publishing._link.channel.channel_id = 1
        late, sent = publisher.Message('a', b''), publisher.Message('b', b'')
        publishing.publish([late], lambda index, error: None, until=time.monotonic() - 1)
        publishing.publish([sent], lambda index, error: None, until=float('inf'))
        self.assertFalse(sent.is_sent)
        publishing.on_ready()
        self.assertEqual((False, True, 1), (late.is_sent, sent.is_sent, len(written)))


class LostTest(base.TestCase):
    def test_waiting_messages_fail_immediately(self):
        results = []

        def publish(names):
            publishing.publish(
                [publisher.Message(name, b'') for name in names],
                lambda index, error: results.append((names[index], type(error))),
                until=float('inf'),
            )

        publishing = publisher.Publisher(None, name='test')
        publishing._link.wake = lambda: None
        publish('ab')
        publish('c')
        publishing.lost('away')
        # Until there is a connection again.
        publish('d')
        self.assertEqual([(name, exceptions.BrokerUnavailable) for name in 'abcd'], results)
