"""A load that would take a wrong answer for a right one measures nothing."""

import json
import random

from bench import answers
from bench import http
from tests import base

SERVERS = [f'{number:08x}-0000-4000-8000-000000000000' for number in range(3)]


class AnswersTest(base.TestCase):
    def setUp(self):
        super().setUp()
        self.batch = answers.make(SERVERS, random.Random(1))
        self.right = [dict(event.answer) for event in self.batch]

    def problem(self, events, status=200):
        return answers.check(status, json.dumps({'events': events}).encode(), self.batch).problem

    def test_answer_must_contain_the_posted_events(self):
        posted = json.loads(answers.body(self.batch))['events']
        self.assertEqual(
            posted, [{k: each[k] for k in ('name', 'server_uuid', 'tag')} for each in self.right]
        )
        self.assertIsNone(self.problem(self.right))

    def test_more_members_are_no_matter(self):
        self.assertIsNone(self.problem([{**event, 'more': 1} for event in self.right]))

    def test_everything_else_is_wrong(self):
        first, *rest = self.right
        for expected, events, status in (
            ('2 answers to 3 events', rest, 200),
            ('another order', [*rest, first], 200),
            ('another order', [{**first, 'tag': 'other'}, *rest], 200),
            ('codes 200, 503', [{**first, 'code': 503}, *rest], 207),
            ('status 207 though every code is 200', self.right, 207),
            ('a status that is not completed', [{**first, 'status': 'failed'}, *rest], 200),
        ):
            self.assertEqual(expected, self.problem(events, status))
        self.assertIn('no events', answers.check(500, b'Oops', self.batch).problem)


class ReaderTest(base.TestCase):
    def feed(self, text):
        """Feed the reader byte by byte, and return the result."""
        reader, came = http.Reader(), []
        for at in range(len(text)):
            if (answer := reader.feed(text[at : at + 1])) is not None:
                came.append(answer)
        return came, reader

    def test_answers_one_after_the_other(self):
        text = (
            b'HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcHTTP/1.1 207 Multi\r\ncontent-length: 0\r\n\r\n'
        )
        came, reader = self.feed(text)
        self.assertEqual([(200, b'abc'), (207, b'')], came)
        self.assertFalse(reader.closes)

    def test_chunks(self):
        text = b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x\r\nabc\r\n2\r\nde\r\n0\r\n\r\n'
        self.assertEqual([(200, b'abcde')], self.feed(text)[0])

    def test_a_server_that_closes(self):
        _, reader = self.feed(b'HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\na')
        self.assertTrue(reader.closes)

    def test_what_is_no_answer(self):
        for text in (b'SSH-2.0\r\n\r\n', b'HTTP/1.1 200 OK\r\n\r\n'):
            self.assertRaises(http.Broken, http.Reader().feed, text)
