"""The syntax of request bodies. test_handlers has the answers to invalid bodies."""

from __future__ import annotations

import json

from external_events_router.api import bodies
from external_events_router.api import faults
from tests import base


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
