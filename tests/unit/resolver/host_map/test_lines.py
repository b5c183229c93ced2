"""Single lines and whole files of a host map."""

import contextlib
import io
import json
import uuid

import hypothesis
from hypothesis import strategies

from external_events_router import exceptions
from external_events_router import host_lines
from external_events_router.resolver.host_map import lines
from tests import base

A, B = (str(uuid.UUID(int=number)) for number in (1, 2))


class TestParse(base.TestCase):
    def test_valid_lines(self):
        for text, expected in (
            (f'{{"server": "{A}", "hosts": ["two", "one"]}}', host_lines.Entry(A, ('one', 'two'))),
            (f'  {{"hosts": [], "server": "{A.replace("-", "").upper()}"}}\r\n', host_lines.Entry(A, ())),
            (f'\ufeff{{"server": "urn:uuid:{A}"}}', host_lines.Entry(A, ())),
            (' \n', None),
        ):
            self.assertEqual(expected, host_lines.parse(1, text.encode()))

    def test_invalid_lines(self):
        for text, expected in (
            (b'{', 'not JSON'),
            (b'[' * 60_000, 'not JSON'),
            (b'"\xff"', 'not UTF-8'),
            (b'7', 'not an object'),
            (b'{}', 'not an object with a server'),
            (b'{"server": 7}', 'not an object with a server'),
            (b'{"server": "nonsense"}', "server uuid: 'nonsense'"),
            (f'{{"server": "{A}", "host": ["one"]}}'.encode(), "unknown member 'host'"),
            (f'{{"server": "{A}", "hosts": "one"}}'.encode(), 'not a list of names'),
            (f'{{"server": "{A}", "hosts": [1]}}'.encode(), 'not a list of names'),
            (f'{{"server": "{A}", "hosts": ["a b"]}}'.encode(), "host name: 'a b'"),
            (f'{{"server": "{A}", "hosts": ["one", "one"]}}'.encode(), 'names a host twice'),
            (b' ' * 70_000, 'longer than 65536 bytes'),
        ):
            bad = self.assertRaises(exceptions.BadLine, host_lines.parse, 7, text)
            self.assertTrue(str(bad).startswith('line 7: '), bad)
            self.assertIn(expected, str(bad))

    @hypothesis.given(strategies.binary() | strategies.text().map(lambda text: json.dumps(text).encode()))
    def test_any_bytes(self, line):
        with contextlib.suppress(exceptions.BadLine):
            host_lines.parse(2, line)

    @hypothesis.given(
        strategies.uuids(),
        strategies.sets(strategies.from_regex('[0-9A-Za-z._:@-]{1,247}', fullmatch=True), max_size=3),
    )
    def test_round_trip(self, server, hosts):
        entry = host_lines.Entry(str(server), tuple(sorted(hosts)))
        self.assertEqual(entry, host_lines.parse(1, entry.to_line().encode()))

    def test_file_without_line_ends_is_not_read_into_memory(self):
        first = next(host_lines.read(io.BytesIO(b'x' * 1_000_000)))
        self.assertEqual(host_lines.MAX_LINE + 1, len(first))


class TestSpool(base.TestCase):
    def filled(self, *texts):
        spool = lines.Spool()
        self.addCleanup(spool.__exit__, None, None, None)
        spool.fill(text.encode() for text in texts)
        return spool

    def entry(self, server, *hosts):
        return host_lines.Entry(server, hosts).to_line()

    def test_entries_are_sorted_by_server(self):
        spool = self.filled(self.entry(B, 'one'), '', self.entry(A))
        self.assertEqual(2, len(spool))
        self.assertEqual([{A: (), B: ('one',)}], list(spool.chunks()))

    def test_duplicate_server_is_refused(self):
        far = [self.entry(str(uuid.UUID(int=number + 10))) for number in range(2 * lines.CHUNK)]
        for between in ([], far):
            texts = [self.entry(B), self.entry(A), *between, self.entry(A.upper()), self.entry(B)]
            bad = self.assertRaises(exceptions.BadLine, self.filled, *texts)
            self.assertEqual(f'line {len(between) + 3}: server {A} is in line 2 too', str(bad))

    def test_first_invalid_line_is_reported(self):
        bad = self.assertRaises(exceptions.BadLine, self.filled, self.entry(A), self.entry(A), 'nonsense')
        self.assertTrue(str(bad).startswith('line 2: '), bad)
        bad = self.assertRaises(exceptions.BadLine, self.filled, self.entry(A), 'nonsense', self.entry(A))
        self.assertTrue(str(bad).startswith('line 2: '), bad)
