"""The book of the fault runs reads each line of the agents once and completely."""

import json
import pathlib

import fixtures

from tests import base
from tests.faults import ledger
from tests.faults import load

LINE = {
    'host': 'host-a',
    'server_uuid': 'server-1',
    'tag': 'server-1.1',
    'incarnation': '7',
    'at': 2.0,
    'id': 'any',
}
HANDLED = ledger.Handled('server-1.1', 'server-1', 'host-a', '7', 2.0)


class TestBook(base.TestCase):
    def setUp(self):
        super().setUp()
        self.path = pathlib.Path(self.useFixture(fixtures.TempDir()).path) / 'ledger.jsonl'
        self.path.touch()
        self.book = load.Book(self.path)

    def append(self, text):
        with open(self.path, 'a') as file:
            file.write(text)

    def test_lines_are_read_while_they_are_written(self):
        self.assertEqual([], self.book.handled())
        line = json.dumps(LINE)
        self.append(f'{line}\n{line[:20]}')
        self.assertEqual([HANDLED], self.book.handled())
        self.append(f'{line[20:]}\n')
        self.assertEqual([HANDLED] * 2, self.book.handled())
        self.assertEqual([HANDLED] * 2, self.book.handled())

    def test_events_are_numbered_per_server(self):
        numbers = [self.book.next_event(server, 'any')[1] for server in ('one', 'two', 'one')]
        self.assertEqual([1, 1, 2], numbers)
        self.assertEqual({'one.1', 'two.1', 'one.2'}, self.book.begun())

    def test_answers_of_a_period(self):
        events = [ledger.Answered(str(n), 'one', n, 200, float(n), n + 0.1, 0.1) for n in range(4)]
        self.book.add(events)
        self.assertEqual(events, self.book.answered())
        self.assertEqual(events[1:3], self.book.answered(1.0, 3.0))
