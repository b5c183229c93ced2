"""Messages of other processes to an agent: an invalid delivery or event is dropped alone."""

import time

import hypothesis
from hypothesis import strategies

from external_events_router import context
from external_events_router import events
from external_events_router import rejected
from external_events_router.agent import endpoint
from external_events_router.messaging import rpc
from external_events_router.messaging.amqp import envelope
from tests import base
from tests import generated
from tests.unit.resolver import test_endpoint

HOST = 'node-1'
SERVER = '5bb6d8f4-5a5d-4c5c-9a3c-8a7c1d0a5a01'


class Receiver:
    def __init__(self):
        self.received = []
        self.contexts = []

    def receive(self, ctxt, delivery):
        self.received.append(delivery)
        self.contexts.append(ctxt.get())

    def take_token(self, token):
        self.received.append(token)


class AgentEndpointTest(base.TestCase):
    def setUp(self):
        super().setUp()
        rejected.ALL.reset()
        self.addCleanup(rejected.ALL.reset)
        self.receiver = Receiver()
        self.listener = rpc.listener(endpoint.AgentEndpoint(self.receiver, HOST))

    def delivery(self, **changes):
        return {
            'delivery_id': 'd',
            'reply_to': 'worker:0',
            'deadline': time.time() + 60,
            'events': [events.Event('network-changed', SERVER, 'tag').to_dict()],
            **changes,
        }

    def deliver(self, **changes):
        self.listener(envelope.Call('deliver', '1.0', self.delivery(**changes), {}))

    def test_valid_token_is_accepted_and_an_invalid_token_is_not(self):
        for token in ('a.b', '', None, 3, [], 'x' * 65, '\ud800'):
            self.listener(envelope.Call('take_token', '1.2', {'token': token}, {}))
        self.listener(envelope.Call('take_token', '1.2', {'token': 'c', 'more': 1}, {}))
        self.assertEqual(['a.b'], self.receiver.received)
        self.assertEqual({'take_token': 7}, rejected.ALL.counts())

    def test_invalid_delivery_is_dropped(self):
        bad = [
            {'reply_to': 'x' * 300},
            {'reply_to': 'x' * 235},
            {'reply_to': '#'},
            {'reply_to': None},
            {'delivery_id': 'x' * 65},
            {'delivery_id': ''},
            {'delivery_id': 7},
            {'deadline': float('nan')},
            {'deadline': float('inf')},
            {'deadline': '1'},
            {'deadline': True},
            {'events': {}},
            {'events': None},
            {'more': 1},
        ]
        for changes in bad:
            self.deliver(**changes)
        self.listener(envelope.Call('deliver', '1.0', {}, {}))
        self.assertEqual([], self.receiver.received)
        self.assertEqual({'deliver': len(bad) + 1}, rejected.ALL.counts())
        self.assertNotIn('Traceback', self.logs.output)
        self.deliver()
        self.assertEqual(1, len(self.receiver.received))

    def test_delivery_for_another_host_is_dropped(self):
        for host in ('node-2', '', '#', 7, ['node-1'], 'x' * 300):
            several = [{**self.delivery(), 'context': {}}]
            self.listener(envelope.Call('deliver', '1.3', self.delivery(host=host), {}))
            self.listener(envelope.Call('deliver_all', '1.3', {'deliveries': several, 'host': host}, {}))
        self.assertEqual([], self.receiver.received)
        self.assertEqual({'delivery for another host': 12}, rejected.ALL.counts())
        self.assertIn('this agent serves host node-1', self.logs.output)
        self.assertNotIn('Traceback', self.logs.output)
        for arguments in ({'host': HOST}, {}):
            self.listener(envelope.Call('deliver', '1.3', {**self.delivery(), **arguments}, {}))
            several = {'deliveries': [{**self.delivery(), 'context': {}}], **arguments}
            self.listener(envelope.Call('deliver_all', '1.3', several, {}))
        self.assertEqual(4, len(self.receiver.received))

    def test_deadline_is_bounded(self):
        self.deliver(deadline=time.time() + 10**9)
        self.assertLess(self.receiver.received[0].deadline, time.time() + endpoint.MAX_LIFETIME + 1)

    def test_invalid_event_is_dropped_alone(self):
        good = [events.Event('network-changed', SERVER, tag) for tag in '12']
        self.deliver(
            events=[good[0].to_dict(), {}, None, good[1].to_dict(), {**good[0].to_dict(), 'name': 'no'}]
        )
        self.assertEqual(tuple(good), self.receiver.received[0].events)
        self.assertEqual({'event': 3}, rejected.ALL.counts())

    def test_invalid_delivery_among_several_is_dropped_alone(self):
        several = [
            None,
            {},
            {**self.delivery(reply_to='x' * 300), 'context': {}},
            {
                **self.delivery(delivery_id='e'),
                'context': {'request_id': ['x'], 'roles': 3, 'user_id': 'u', 'x': 1},
            },
            {**self.delivery(delivery_id='f'), 'context': 'nonsense'},
        ]
        self.listener(envelope.Call('deliver_all', '1.1', {'deliveries': several}, {}))
        self.assertEqual(['e', 'f'], [delivery.id for delivery in self.receiver.received])
        self.assertEqual('u', self.receiver.contexts[0].user_id)
        self.assertEqual({'delivery': 3}, rejected.ALL.counts())
        self.listener(envelope.Call('deliver_all', '1.1', {'deliveries': {}}, {}))
        self.assertNotIn('Traceback', self.logs.output)

    @generated.examples(30)
    @hypothesis.given(
        strategies.sampled_from(('deliver', 'deliver_all', 'target', '__init__', '')),
        strategies.dictionaries(
            strategies.sampled_from(
                ('deliveries', 'events', 'delivery_id', 'reply_to', 'deadline', 'ctxt', 'self')
            ),
            test_endpoint._json,
        ),
        test_endpoint._json,
        test_endpoint._json,
    )
    def test_any_message_raises_no_exception(self, method, arguments, version, namespace):
        self.listener(envelope.Call(method, '1.0', arguments, {}))
        self.listener(envelope.Call(method, version, arguments, {'roles': namespace}, namespace=namespace))


class ContextTest(base.TestCase):
    @generated.examples(30)
    @hypothesis.given(
        strategies.dictionaries(strategies.sampled_from((*context.CARRIED, 'user', 'x')), test_endpoint._json)
        | test_endpoint._json
    )
    def test_any_context_is_accepted(self, values):
        made = context.from_wire(values)
        self.assertTrue(made.request_id)
        self.assertLessEqual(len(str(made.to_dict())), 100_000)
