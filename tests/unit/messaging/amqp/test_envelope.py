import json

from external_events_router import exceptions
from external_events_router.messaging.amqp import envelope
from tests import base

CALL = envelope.Call(
    'deliver', '1.1', {'events': [{'tag': 'a "quoted" \N{SNOWMAN} one'}]}, {'request_id': 'req-1'}
)


class EnvelopeTest(base.TestCase):
    def test_round_trip(self):
        self.assertEqual(CALL, envelope.decode(envelope.encode(CALL)))

    def test_unpaired_surrogate(self):
        """The output of a handler's command may contain one, and it must not prevent the delivery."""
        call = envelope.Call('acknowledge', '1.1', {'reason': 'half \udc80'}, {})
        self.assertEqual(call, envelope.decode(envelope.encode(call)))
        inner = json.dumps({'method': 'acknowledge', 'args': {'reason': '\udc80'}})
        body = json.dumps({'oslo.version': '2.0', 'oslo.message': inner}).encode()
        self.assertEqual({'reason': '\udc80'}, envelope.decode(body).arguments)

    def test_as_oslo_messaging_has_it(self):
        outer = json.loads(envelope.encode(CALL, extra={'_msg_id': 'm'}))
        self.assertEqual('2.0', outer['oslo.version'])
        inner = json.loads(outer['oslo.message'])
        self.assertEqual(32, len(inner.pop('_unique_id')))
        expected = {
            'method': 'deliver',
            'version': '1.1',
            'args': CALL.arguments,
            '_context_request_id': 'req-1',
            '_msg_id': 'm',
        }
        self.assertEqual(expected, inner)

    def test_invalid_messages(self):
        for body in (
            b'',
            b'no json',
            b'[]',
            b'{"oslo.message": 7}',
            b'{"oslo.message": "[]"}',
            b'{"method": 7}',
        ):
            self.assertRaises(exceptions.MalformedMessage, envelope.decode, body)
