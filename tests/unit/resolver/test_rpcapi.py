"""Messages of the client for acknowledgements, and their results."""

import time

from external_events_router import events
from external_events_router import exceptions
from external_events_router.messaging import transport as transports
from external_events_router.messaging.amqp import envelope
from external_events_router.resolver import rpcapi
from tests import base

ACKNOWLEDGEMENTS = [
    events.Acknowledgement(name, 'host-a', (events.Result('1', events.Verdict.HANDLED),)) for name in 'de'
]


class Transport:
    def cast(self, messages, done, *, until):
        self.messages, self.done, self.until = messages, done, until


class AckAPITest(base.TestCase):
    def setUp(self):
        super().setUp()
        self.transport = Transport()
        self.results = []

    def begin(self, **kwargs):
        rpcapi.AckAPI(self.transport, **kwargs).acknowledge_all(
            'worker', ACKNOWLEDGEMENTS, self.results.append
        )
        self.assertEqual(
            {('external-events-acks', 'worker')},
            {(each.topic, each.server) for each in self.transport.messages},
        )
        return [envelope.decode(envelope.encode(message.call)) for message in self.transport.messages]

    def test_acknowledgements_are_sent_in_one_message(self):
        (call,) = self.begin()
        self.assertEqual(('acknowledge_all', '1.2'), (call.method, call.version))
        acknowledgements = [
            events.Acknowledgement.from_dict(each) for each in call.arguments['acknowledgements']
        ]
        self.assertEqual(ACKNOWLEDGEMENTS, acknowledgements)
        self.assertLess(time.monotonic(), self.transport.until)
        self.assertEqual([], self.results)
        self.transport.done(0, None)
        self.assertEqual([None], self.results)

    def test_details_of_the_handling_are_sent(self):
        acknowledgements = [
            events.Acknowledgement(
                'd',
                'host-a',
                (
                    events.Result('1', events.Verdict.HANDLED, handling=events.NOT_HANDLED),
                    events.Result('2', events.Verdict.HANDLED, handling=events.Handling(True, 40, 'log', 3)),
                ),
            )
        ]
        for cap, expected in ((None, True), ('1.4', True), ('1.3', False)):
            client = rpcapi.AckAPI(self.transport, version_cap=cap)
            client.acknowledge_all('worker', acknowledgements, self.results.append)
            (message,) = self.transport.messages
            call = envelope.decode(envelope.encode(message.call))
            # Servers of 1.2 must accept it: they ignore the additional members.
            self.assertEqual('1.2', call.version)
            (data,) = call.arguments['acknowledgements']
            self.assertEqual(expected, data.get('details', False))
            self.assertEqual([3, 6 if expected else 3], [len(result) for result in data['results']])
            taken = events.Acknowledgement.from_dict(data)
            self.assertEqual(acknowledgements[0] == taken, expected)
            if not expected:
                self.assertEqual([None, None], [result.handling for result in taken.results])

    def test_worker_that_does_not_exist_any_longer(self):
        self.begin()
        self.transport.done(0, transports.Unroutable(routing_key='external-events-acks.worker'))
        self.assertEqual([None], self.results)

    def test_acknowledgements_to_an_older_resolver_are_sent_one_by_one(self):
        calls = self.begin(version_cap='1.0')
        self.assertEqual(['acknowledge'] * 2, [call.method for call in calls])
        self.transport.done(0, None)
        self.assertEqual([], self.results)
        self.transport.done(1, None)
        self.assertEqual([None], self.results)

    def test_done_is_called_when_all_messages_have_ended(self):
        for errors in ((True, False), (False, True)):
            self.begin(version_cap='1.1')
            away = exceptions.BrokerUnavailable(reason='away')
            for number, fails in enumerate(errors):
                self.transport.done(number, away if fails else None)
            self.assertIs(away, self.results.pop())
            self.assertEqual([], self.results)
