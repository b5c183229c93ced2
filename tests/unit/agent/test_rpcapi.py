"""The casts of the direct AMQP transport; tests/unit/messaging/test_rpc.py has those of oslo.messaging."""

import time

from external_events_router import context
from external_events_router import events
from external_events_router import exceptions
from external_events_router import rejected
from external_events_router.agent import endpoint
from external_events_router.agent import rpcapi
from external_events_router.messaging import rpc
from external_events_router.messaging.amqp import envelope
from external_events_router.messaging.amqp import publisher
from tests import base


class Publisher:
    def publish(self, messages, done, *, until):
        self.messages, self.done = messages, done


class Receiver:
    def __init__(self):
        self.received = []

    def receive(self, ctxt, delivery):
        self.received.append((ctxt.request_id, delivery))

    def take_token(self, token):
        self.received.append(token)


def delivery(name):
    return events.Delivery(
        name,
        'worker',
        time.time(),
        (events.Event('network-changed', '5bb6d8f4-5a5d-4c5c-9a3c-8a7c1d0a5a01', 'tag'),),
    )


class FastAgentAPITest(base.TestCase):
    def setUp(self):
        super().setUp()
        self.publisher = Publisher()
        self.told = []

    def cast(self, *casts, **kwargs):
        api = rpcapi.FastAgentAPI(self.publisher, topic='compute', **kwargs)
        made = [
            rpcapi.Cast(
                host, [(context.RequestContext(request_id=f'req-{each.id}'), each) for each in deliveries]
            )
            for host, deliveries in casts
        ]
        api.cast(made, lambda index, error: self.told.append((index, error and str(error))), until=0.0)

    def received(self):
        receiver = Receiver()
        listener = rpc.listener(endpoint.AgentEndpoint(receiver))
        for message in self.publisher.messages:
            listener(envelope.decode(message.body))
        return receiver.received

    def take_token(self, host, **kwargs):
        return rpcapi.FastAgentAPI(self.publisher, topic='compute', **kwargs).take_token(host, 'token')

    def test_a_token(self):
        self.assertTrue(self.take_token('a'))
        self.assertEqual(['compute.a'], [each.routing_key for each in self.publisher.messages])
        self.assertEqual(['token'], self.received())
        self.publisher.done(0, publisher.Unroutable(routing_key='compute.a'))
        self.publisher.done(0, None)

    def test_a_token_for_nobody(self):
        self.publisher.publish = None
        self.assertFalse(self.take_token('a', version_cap='1.1'))
        self.assertRaises(exceptions.InvalidHost, self.take_token, '#')

    def test_together(self):
        one, two, three = map(delivery, '123')
        self.cast(('a', [one, two]), ('b', [three]))
        self.assertEqual(['compute.a', 'compute.b'], [each.routing_key for each in self.publisher.messages])
        self.assertEqual([('req-1', one), ('req-2', two), ('req-3', three)], self.received())
        self.publisher.done(0, None)
        self.publisher.done(1, publisher.Unroutable(routing_key='compute.b'))
        self.assertEqual([(0, None), (1, 'no agent listens for host b')], self.told)

    def test_to_older_agents_one_by_one(self):
        one, two, three = map(delivery, '123')
        self.cast(('a', [one, two]), ('b', [three]), version_cap='1.0')
        self.assertEqual(3, len(self.publisher.messages))
        self.assertEqual([('req-1', one), ('req-2', two), ('req-3', three)], self.received())
        self.publisher.done(0, None)
        self.assertEqual([], self.told)
        self.publisher.done(1, None)
        self.publisher.done(2, exceptions.BrokerUnavailable(reason='away'))
        self.assertEqual([0, 1], [index for index, _ in self.told])

    def test_one_of_several_fails(self):
        self.cast(('a', [delivery('1'), delivery('2')]), version_cap='1.0')
        self.publisher.done(0, exceptions.BrokerUnavailable(reason='away'))
        self.publisher.done(1, None)
        self.assertEqual(1, len(self.told))
        self.assertIn('away', self.told[0][1])


class ListenerTest(base.TestCase):
    def test_what_nobody_offers_is_dropped(self):
        before = rejected.ALL.counts().get('message', 0)
        receiver = Receiver()
        listener = rpc.listener(endpoint.AgentEndpoint(receiver))
        for call in (
            envelope.Call('deliver', '2.0', {}, {}),
            envelope.Call('deliver', '1.9', {}, {}),
            envelope.Call('_receive', '1.0', {}, {}),
            envelope.Call('nothing', '1.0', {}, {}),
            envelope.Call('deliver', '1.0', {}, {}, namespace='other'),
        ):
            listener(call)
        self.assertEqual([], receiver.received)
        self.assertEqual(5, rejected.ALL.counts()['message'] - before)
