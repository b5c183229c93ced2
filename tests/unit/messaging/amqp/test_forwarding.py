"""The forwarding of agents' messages, against a broker that answers, refuses, or does neither."""

from __future__ import annotations

from external_events_router import exceptions
from external_events_router.messaging.amqp import broker as brokers
from external_events_router.messaging.amqp import forwarding
from external_events_router.messaging.amqp import frames
from tests import base

CHANNEL = 2
KEYS = {'events_reports': 'reports', 'events_acks': 'acks'}


class Link:
    """Keeps what is written."""

    def __init__(self):
        self.written = []

    def write(self, data):
        self.written.append(data)


class ForwardingTest(base.TestCase):
    def setUp(self):
        super().setUp()
        self.link = Link()
        self.forwarding = forwarding.Forwarding(brokers.Broker([], '/', 'events'), KEYS)
        self.forwarding.connected(self.link)
        self.forwarding.on_ready()

    def answer(self, method, times=1):
        for _ in range(times):
            self.forwarding.arrived(frames.Answered(CHANNEL, method))

    def requests(self, name):
        return sum(data.count(name.encode()) for data in self.link.written)

    def finish(self):
        self.answer(frames.CHANNEL_OPEN_OK)
        self.answer(frames.EXCHANGE_DECLARE_OK, times=2 * len(KEYS))
        self.answer(frames.EXCHANGE_BIND_OK, times=len(KEYS))

    def test_no_answer_ends_the_connection_in_time(self):
        self.patch(forwarding, 'ANSWER_TIMEOUT', 0.0)
        self.assertRaises(exceptions.BrokerUnavailable, self.forwarding.on_ready)

    def test_answers_and_the_next_time(self):
        self.patch(forwarding, 'ANSWER_TIMEOUT', 0.0)
        self.finish()
        self.forwarding.on_ready()
        before = self.requests('events_acks')
        self.assertEqual(2, before)
        self.patch(forwarding, 'INTERVAL', 0.0)
        self.forwarding.lost('reset')
        self.forwarding.connected(self.link)
        self.forwarding.on_ready()
        self.finish()
        self.assertEqual(2 * before, self.requests('events_acks'))

    def test_a_refusal_does_not_end_the_connection(self):
        text = "ACCESS_REFUSED - access to exchange 'events_reports' refused"
        self.answer(frames.CHANNEL_OPEN_OK)
        self.answer(frames.EXCHANGE_DECLARE_OK, times=2 * len(KEYS))
        for _ in range(2):
            self.forwarding.arrived(frames.Closed(CHANNEL, 403, text, frames.EXCHANGE_BIND))
            self.answer(frames.CHANNEL_OPEN_OK)
            self.forwarding.on_ready()
        warnings = [line for line in self.logs.output.splitlines() if 'refuses to forward' in line]
        self.assertEqual(len(KEYS), len(warnings))
        self.assertIn('external-events-manage broker permissions --role resolver', warnings[0])
