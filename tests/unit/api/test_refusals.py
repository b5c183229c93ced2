"""Recording of refused requests in the journal."""

import threading
import time

from external_events_router import context
from external_events_router import events
from external_events_router import exceptions
from external_events_router.api import presence
from external_events_router.api import refusals
from tests import base

SERVER = '5BB6D8F4-5a5d-4c5c-9a3c-8a7c1d0a5a01'


def environ(**changed):
    return {'REQUEST_METHOD': 'POST', 'REMOTE_ADDR': '192.0.2.7', 'HTTP_X_USER_ID': 'mallory', **changed}


class TestRecorded(base.TestCase):
    def setUp(self):
        super().setUp()
        self.taken = []

    def answer(self, status, body=b'{"badRequest": {"code": 400, "message": "no"}}', **changed):
        def app(environ, start_response):
            start_response(status, [])
            return [body]

        recorded = refusals.Recorded(app, self.taken.extend)
        self.assertEqual([body], recorded(environ(**changed), lambda *args: None))
        return self.taken[-1] if self.taken else None

    def test_an_answer_without_an_error(self):
        self.assertIsNone(self.answer('207 Multi-Status'))
        self.assertIsNone(self.answer('404 Not Found', REQUEST_METHOD='GET'))

    def test_caller_is_the_authenticated_user(self):
        self.assertIsNone(self.answer('401 Unauthorized')['user_id'])
        taken = self.answer('403 Forbidden', **{refusals.IDENTIFIED: True, 'HTTP_X_USER_NAME': 'cinder'})
        self.assertEqual(('mallory', 'cinder'), (taken['user_id'], taken['user_name']))

    def test_reason_and_detail(self):
        keystone = b'{"serviceUnavailable": {"message": "Keystone does not answer."}}'
        for status, body, reason, detail in (
            ('400 Bad Request', b'{"badRequest": {"message": "the tag"}}', 'bad_request', 'the tag'),
            ('401 Unauthorized', b'<html>', 'not_authenticated', '<html>'),
            ('413 Too Large', b'[]', 'too_large', '[]'),
            ('415 Unsupported', b'', 'other', ''),
            ('503 Unavailable', b'{}', 'overloaded', '{}'),
            ('503 Unavailable', keystone, 'keystone_unavailable', 'Keystone does not answer.'),
            ('500 Error', b'{"a": {"message": "b"}}', 'failed', 'b'),
        ):
            taken = self.answer(status, body)
            self.assertEqual((reason, detail), (taken['reason'], taken['detail']))

    def test_servers_and_names_of_any_document(self):
        document = {'events': [{'server_uuid': SERVER, 'name': 'x'}, {'server_uuid': 7}, 'y', None]}
        taken = self.answer('400 Bad Request', **{refusals.DOCUMENT: document})
        self.assertEqual(([SERVER.lower()], ['x']), (taken['servers'], taken['names']))
        for other in (None, [], {'events': 3}, {'events': [[]]}):
            self.assertEqual([], self.answer('400 Bad', **{refusals.DOCUMENT: other})['servers'])
        many = {'events': [{'server_uuid': str(number)} for number in range(100)]}
        found = self.answer('400 Bad Request', **{refusals.DOCUMENT: many})['servers']
        self.assertEqual(refusals.MAX_NAMED, len(found))

    def test_servers_of_all_events_are_recorded_or_none(self):
        first = [{'server_uuid': 'first', 'name': 'x'}] * 30
        document = {'events': [*first, {'server_uuid': SERVER}]}
        taken = self.answer('400 Bad Request', **{refusals.DOCUMENT: document})
        self.assertEqual(['first', SERVER.lower()], taken['servers'])
        document = {'events': [*first * 40, {'server_uuid': SERVER}]}
        taken = self.answer('400 Bad Request', **{refusals.DOCUMENT: document})
        self.assertEqual(([], []), (taken['servers'], taken['names']))

    def test_requests_beyond_the_limit_have_one_record_without_servers(self):
        def app(environ, start_response):
            start_response('400 Bad Request', [])
            return [b'{}']

        recorded = refusals.Recorded(app, self.taken.extend)
        document = {'events': [{'server_uuid': SERVER, 'name': 'x'}]}
        for _ in range(refusals.PER_MINUTE + 3):
            recorded(environ(**{refusals.DOCUMENT: document}), lambda *args: None)
        self.assertEqual([1] * refusals.PER_MINUTE + [0], [len(each['servers']) for each in self.taken])
        self.assertEqual((1, []), (self.taken[-1]['suppressed'], self.taken[-1]['names']))
        self.assertIn('further ones are not recorded', self.taken[-1]['detail'])


class TestLimit(base.TestCase):
    def setUp(self):
        super().setUp()
        self.now = 60.0
        self.limit = refusals.Limit(clock=lambda: self.now)

    def take(self, number, sender='a', status=401):
        return [self.limit.take(sender, status) for _ in range(number)]

    def test_so_many_in_a_minute(self):
        most = refusals.PER_MINUTE
        self.assertEqual([(count, 0) for count in range(1, most + 5)], self.take(most + 4))
        self.assertEqual([(1, 0)], self.take(1, sender='b'))
        self.assertEqual([(1, 0)], self.take(1, status=403))
        self.now += 60
        # The first request beyond the limit has a record.
        self.assertEqual([(1, 3), (2, 0)], self.take(2))

    def test_so_many_senders(self):
        for number in range(3 * refusals.SENDERS):
            for _ in range(2):
                self.limit.take(str(number), 401)
        self.assertLessEqual(len(self.limit._counts), refusals.SENDERS + 1)
        self.assertGreater(self.limit.take('another', 401)[0], refusals.PER_MINUTE)


class TestForwarder(base.TestCase):
    def setUp(self):
        super().setUp()
        for name, value in (('INTERVAL', 0.0), ('PAUSE', 0.01), ('WAITING', 5)):
            self.patch(refusals, name, value)
        self.sent, self.states = [], []
        self.broken = threading.Event()

    def send(self, some, dropped, state):
        if self.broken.is_set():
            raise exceptions.BrokerUnavailable(reason='unavailable')
        self.states.append(state)
        self.sent.append(([each['status'] for each in some], dropped))

    def statuses(self):
        return [status for some, _dropped in self.sent for status in some]

    def wait_for(self, condition):
        deadline = time.monotonic() + 20
        while not condition():
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.01)

    def test_in_their_order_with_their_age(self):
        forwarder = refusals.Forwarder(self.send)
        forwarder([{'status': 1}, {'status': 2}])
        self.wait_for(lambda: self.statuses() == [1, 2])

    def test_while_no_resolver_is_available(self):
        forwarder = refusals.Forwarder(self.send)
        self.broken.set()
        for number in range(9):
            forwarder([{'status': number}])
        self.wait_for(lambda: 'cannot be passed to a resolver' in self.logs.output)
        self.assertEqual([], self.sent)
        self.broken.clear()
        self.wait_for(lambda: self.statuses()[-5:] == [4, 5, 6, 7, 8])
        sent = sum(len(some) for some, _ in self.sent)
        self.assertEqual(9, sent + sum(dropped for _, dropped in self.sent))

    def test_state_of_the_process(self):
        for name, value in (('HEARTBEAT', 0.01), ('SETTLE', 0.3)):
            self.patch(refusals, name, value)
        state = presence.Presence(f'host-{id(self)}', 'all')
        forwarder = refusals.Forwarder(self.send, state=state)
        forwarder.start()
        self.wait_for(lambda: len(self.states) > 1)
        first = self.states[0]
        self.assertEqual(
            (f'host-{id(self)}:api-0', 'all', False), (first['name'], first['record'], first['stopped'])
        )
        # Until the resolvers have had time to write, nothing is complete.
        self.assertAlmostEqual(first['age_ms'], first['complete_ms'], delta=100)
        self.wait_for(lambda: self.states[-1]['age_ms'] > self.states[-1]['complete_ms'] + 200)
        self.broken.set()
        for number in range(9):
            forwarder([{'status': number}])
        failed = time.monotonic()
        self.wait_for(lambda: 'cannot be passed to a resolver' in self.logs.output)
        time.sleep(0.05)
        self.broken.clear()
        self.wait_for(lambda: sum(dropped for _, dropped in self.sent) == 4)
        number = next(number for number, (_, dropped) in enumerate(self.sent) if dropped)
        age = (time.monotonic() - failed) * 1000
        self.assertTrue(40 <= self.states[number]['dropped_ms'] <= age + 1000, self.states[number])
        forwarder.stop(20.0)
        self.assertEqual((True, True), (self.states[-1]['stopped'], self.states[-1]['complete_ms'] < 5000))
        self.assertEqual({first['id']}, {each['id'] for each in self.states})

    def test_what_waits_is_sent_before_the_end(self):
        self.patch(refusals, 'INTERVAL', 60.0)
        forwarder = refusals.Forwarder(self.send)
        forwarder([{'status': 1}])
        self.wait_for(lambda: self.statuses() == [1])
        forwarder([{'status': 2}, {'status': 3}])
        forwarder.stop(20.0)
        self.assertEqual([1, 2, 3], self.statuses())

    def test_stop_while_no_resolver_is_available(self):
        self.broken.set()
        forwarder = refusals.Forwarder(self.send)
        forwarder([{'status': 1}] * 5)
        forwarder.stop(20.0)
        self.assertFalse(forwarder._thread.is_alive())


class TestNotRouted(base.TestCase):
    def test_described(self):
        ctxt = context.RequestContext(request_id='req-1', user_id='neutron', overwrite=False)
        batch = [events.Event('network-changed', SERVER.lower()), events.Event('x', SERVER.lower())]
        described = refusals.not_routed(ctxt, batch, 'no resolver answered')
        self.assertEqual(
            ([SERVER.lower()], ['network-changed', 'x']), (described['servers'], described['names'])
        )
        self.assertEqual('no resolver answered', described['detail'])
