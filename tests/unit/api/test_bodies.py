"""The length and the syntax of request bodies. test_handlers has the answers to invalid bodies."""

from __future__ import annotations

import io
import json

from external_events_router.api import bodies
from external_events_router.api import faults
from tests import base


class ReadTest(base.TestCase):
    def read(self, body: bytes, **environ: object) -> bytes:
        return bodies.read({'wsgi.input': io.BytesIO(body), **environ}, 10)

    def fault(self, body: bytes, **environ: object) -> faults.Fault:
        return self.assertRaises(faults.Fault, self.read, body, **environ)

    def test_request_without_a_length_has_no_body(self) -> None:
        # NOTE: a server that does not end the input would block the read.
        self.assertEqual(b'', bodies.read({'CONTENT_LENGTH': ''}, 10))

    def test_body_with_a_length_or_until_the_end(self) -> None:
        self.assertEqual(b'0123456789', self.read(b'0123456789more', CONTENT_LENGTH='10'))
        self.assertEqual(b'0123456789', self.read(b'0123456789', **{'wsgi.input_terminated': True}))

    def test_body_that_is_too_long_or_too_short(self) -> None:
        self.assertEqual(413, self.fault(b'0123456789a', CONTENT_LENGTH='11').status)
        self.assertEqual(413, self.fault(b'0123456789a', **{'wsgi.input_terminated': True}).status)
        self.assertEqual(400, self.fault(b'0123', CONTENT_LENGTH='5').status)


class ParseTest(base.TestCase):
    def test_valid_documents(self) -> None:
        self.assertIsNone(bodies.parse(b''))
        for document in ({'events': []}, None, 'é', 1.5):
            self.assertEqual(document, bodies.parse(json.dumps(document).encode()))

    def test_invalid_documents(self) -> None:
        for body, words in (
            (b'{', 'at line 1 column 2'),
            (b' ', 'at line 1 column 2'),
            (b'"\xff"', 'not UTF-8 at byte 1'),
            (b'9' * 5000, 'too many digits'),
            (b'[' * 100_000, 'nested too deep'),
        ):
            fault = self.assertRaises(faults.Fault, bodies.parse, body)
            self.assertEqual(400, fault.status)
            self.assertIn('Malformed request body', fault.message)
            self.assertIn(words, fault.message)
