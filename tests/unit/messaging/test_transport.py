"""Casts over oslo.messaging, which blocks: the caller does not wait, and each message has one result."""

import threading
import time

import oslo_messaging as messaging

from external_events_router import exceptions
from external_events_router.messaging import gate
from external_events_router.messaging import transport as transports
from external_events_router.messaging.amqp import envelope
from tests import base

#: Seconds. The longest wait of a test; the expected events are much earlier.
LONG = 30.0


class Client:
    """Replaces a client of oslo.messaging: its casts fail or block for the given servers."""

    def __init__(self, *, errors=None, hanging=()):
        self.errors = errors or {}
        self.hanging = hanging
        self.release = threading.Event()
        self.hangs = threading.Event()
        self.sent = []
        self.tried = 0

    def prepare(self, *, server, version):
        return _Prepared(self, server)


class _Prepared:
    def __init__(self, client, server):
        self._client = client
        self._server = server

    def cast(self, ctxt, method, **arguments):
        client = self._client
        client.tried += 1
        if self._server in client.hanging:
            client.hangs.set()
            client.release.wait(LONG)
        if self._server in client.errors:
            raise client.errors[self._server]
        client.sent.append((self._server, method))


class OsloTransportTest(base.TestCase):
    def setUp(self):
        super().setUp()
        self.results = {}
        self.settled = threading.Semaphore(0)

    def transport(self, client, **options):
        made = transports.OsloTransport(None, **options)
        made._client = lambda topic: client
        self.addCleanup(made.stop)
        self.addCleanup(client.release.set)
        return made

    def done(self, number, error):
        self.results.setdefault(number, []).append(error and str(error))
        self.settled.release()

    def cast(self, transport, *targets, seconds=LONG):
        messages = [
            transports.Message('topic', server, envelope.Call(method, '1.0', {}, {}))
            for server, method in targets
        ]
        transport.cast(messages, self.done, until=time.monotonic() + seconds)
        return messages

    def wait(self, results):
        for _ in range(results):
            self.assertTrue(self.settled.acquire(timeout=LONG))

    def test_each_message_has_a_result(self):
        client = Client(
            errors={
                'a': messaging.MessageUndeliverable('', '', '', ''),
                'b': ZeroDivisionError(),
                'c': messaging.MessageDeliveryFailure(),
            }
        )
        self.cast(self.transport(client), *((server, 'm') for server in 'abcd'))
        self.wait(4)
        self.assertEqual([1] * 4, [len(self.results[number]) for number in range(4)])
        self.assertEqual('the broker has no queue for topic.a', self.results[0][0])
        self.assertIn('ZeroDivisionError', self.results[1][0])
        self.assertIn('MessageDeliveryFailure', self.results[2][0])
        self.assertIsNone(self.results[3][0])
        self.assertEqual([('d', 'm')], client.sent)

    def test_messages_to_a_server_keep_their_order(self):
        client = Client(hanging=('a',))
        transport = self.transport(client, threads=4)
        self.cast(transport, *(('a', str(number)) for number in range(20)), ('b', 'other'))
        # The cast to the other server does not wait.
        self.wait(1)
        self.assertEqual([('b', 'other')], client.sent)
        client.release.set()
        self.wait(20)
        self.assertEqual([('a', str(number)) for number in range(20)], client.sent[1:])

    def test_message_behind_a_blocked_cast_is_not_sent_after_its_deadline(self):
        client = Client(hanging=('a',))
        transport = self.transport(client, threads=1)
        (hangs,) = self.cast(transport, ('a', 'hangs'))
        self.assertTrue(client.hangs.wait(LONG))
        (late,) = self.cast(transport, ('b', 'late'), seconds=0.0)
        client.release.set()
        self.wait(2)
        self.assertIn('not sent in time', self.results[0][1])
        self.assertEqual([('a', 'hangs')], client.sent)
        self.assertEqual((True, False), (hangs.is_sent, late.is_sent))

    def test_stop_does_not_wait_for_a_blocked_cast(self):
        client = Client(hanging=('a',))
        transport = self.transport(client)
        self.cast(transport, ('a', 'hangs'))
        self.assertTrue(client.hangs.wait(LONG))
        transport.stop()
        self.assertEqual([], client.sent)
        self.cast(transport, ('b', 'after the end'))
        self.assertIn('no thread is left', self.results[0][0])

    def test_gate_makes_casts_fail_immediately(self):
        client = Client(errors={'a': messaging.MessageDeliveryFailure()})
        transport = self.transport(client, broker_gate=gate.BrokerGate('The broker'))
        self.cast(transport, *[('a', 'm')] * 10)
        self.wait(10)
        self.assertLess(client.tried, 5)


class Recorder:
    """A transport that records the messages; if ``fails`` is set, it raises an exception after that."""

    def __init__(self, *, fails=False):
        self._fails = fails
        self.messages, self.done = [], None

    def cast(self, messages, done, *, until):
        self.messages, self.done = messages, done
        if self._fails:
            raise ZeroDivisionError


class GroupsTest(base.TestCase):
    def setUp(self):
        super().setUp()
        self.results = []

    def groups(self, *sizes):
        made = transports.Groups(len(sizes), lambda group, error: self.results.append((group, error)))
        for group, size in enumerate(sizes):
            made.add(group, ['message'] * size)
        return made

    def test_a_group_is_reported_when_all_its_messages_have_a_result(self):
        transport, away = Recorder(), exceptions.BrokerUnavailable(reason='away')
        self.groups(2, 1).cast(transport, until=0.0)
        transport.done(0, away)
        self.assertEqual([], self.results)
        transport.done(2, None)
        transport.done(1, None)
        self.assertEqual([(1, None), (0, away)], self.results)

    def test_a_transport_that_raises_fails_the_rest(self):
        self.groups(1, 1).cast(Recorder(fails=True), until=0.0)
        self.assertEqual([0, 1], [group for group, _error in self.results])
        self.assertIn('ZeroDivisionError', str(self.results[0][1]))
