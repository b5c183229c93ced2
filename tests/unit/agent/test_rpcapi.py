"""Messages that the client of the agents sends, and the result of each cast."""

import time

from external_events_router import context
from external_events_router import events
from external_events_router import exceptions
from external_events_router import rejected
from external_events_router.agent import endpoint
from external_events_router.agent import rpcapi
from external_events_router.messaging import rpc
from external_events_router.messaging import transport as transports
from external_events_router.messaging.amqp import envelope
from tests import base


class Transport:
    def cast(self, messages, done, *, until):
        self.messages, self.done = messages, done


class Receiver:
    def __init__(self):
        self.received = []

    def receive(self, ctxt, delivery):
        self.received.append((ctxt.get().request_id, delivery))

    def take_token(self, token):
        self.received.append(token)


def delivery(name):
    return events.Delivery(
        name,
        'worker',
        time.time(),
        (events.Event('network-changed', '5bb6d8f4-5a5d-4c5c-9a3c-8a7c1d0a5a01', 'tag'),),
    )


class AgentAPITest(base.TestCase):
    def setUp(self):
        super().setUp()
        self.transport = Transport()
        self.results = []

    def cast(self, *casts, **kwargs):
        api = rpcapi.AgentAPI(self.transport, topic='compute', **kwargs)
        made = [
            rpcapi.Cast(
                host, [(context.RequestContext(request_id=f'req-{each.id}'), each) for each in deliveries]
            )
            for host, deliveries in casts
        ]
        api.cast(made, lambda index, error: self.results.append((index, error and str(error))), until=0.0)

    def received(self):
        receiver = Receiver()
        for message in self.transport.messages:
            listener = rpc.listener(endpoint.AgentEndpoint(receiver, message.server))
            listener(envelope.decode(envelope.encode(message.call)))
        return receiver.received

    def targets(self):
        return [(message.topic, message.server) for message in self.transport.messages]

    def take_token(self, host, **kwargs):
        return rpcapi.AgentAPI(self.transport, topic='compute', **kwargs).take_token(host, 'token')

    def test_token_is_cast_to_the_host(self):
        self.assertTrue(self.take_token('a'))
        self.assertEqual([('compute', 'a')], self.targets())
        self.assertEqual(['token'], self.received())
        self.transport.done(0, transports.Unroutable(routing_key='compute.a'))
        self.transport.done(0, None)

    def test_token_for_a_host_without_an_agent_fails(self):
        self.transport.cast = None
        self.assertFalse(self.take_token('a', version_cap='1.1'))
        self.assertRaises(exceptions.InvalidHost, self.take_token, '#')

    def test_deliveries_are_sent_together(self):
        one, two, three = map(delivery, '123')
        self.cast(('a', [one, two]), ('b', [three]))
        self.assertEqual([('compute', 'a'), ('compute', 'b')], self.targets())
        self.assertEqual([('req-1', one), ('req-2', two), ('req-3', three)], self.received())
        self.transport.done(0, None)
        self.transport.done(1, transports.Unroutable(routing_key='compute.b'))
        self.assertEqual([(0, None), (1, 'no agent listens for host b')], self.results)

    def test_deliveries_to_older_agents_are_sent_one_by_one(self):
        one, two, three = map(delivery, '123')
        self.cast(('a', [one, two]), ('b', [three]), version_cap='1.0')
        self.assertEqual(3, len(self.transport.messages))
        self.assertEqual([('req-1', one), ('req-2', two), ('req-3', three)], self.received())
        self.transport.done(0, None)
        self.assertEqual([], self.results)
        self.transport.done(1, None)
        self.transport.done(2, exceptions.BrokerUnavailable(reason='away'))
        self.assertEqual([0, 1], [index for index, _ in self.results])

    def test_messages_contain_their_host_unless_agents_are_older(self):
        one, two, three = map(delivery, '123')
        for cap, expected in (
            (None, [('deliver_all', '1.3', 'a'), ('deliver', '1.3', 'b')]),
            ('1.2', [('deliver_all', '1.1', None), ('deliver', '1.0', None)]),
        ):
            self.transport.messages = []
            self.cast(('a', [one, two]), ('b', [three]), version_cap=cap)
            calls = [message.call for message in self.transport.messages]
            self.assertEqual(
                expected, [(call.method, call.version, call.arguments.get('host')) for call in calls]
            )

    def test_one_of_several_deliveries_fails(self):
        self.cast(('a', [delivery('1'), delivery('2')]), version_cap='1.0')
        self.transport.done(0, exceptions.BrokerUnavailable(reason='away'))
        self.transport.done(1, None)
        self.assertEqual(1, len(self.results))
        self.assertIn('away', self.results[0][1])


class ListenerTest(base.TestCase):
    def test_message_for_an_unknown_method_is_dropped(self):
        before = rejected.ALL.counts().get('message', 0)
        receiver = Receiver()
        listener = rpc.listener(endpoint.AgentEndpoint(receiver, 'a'))
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
