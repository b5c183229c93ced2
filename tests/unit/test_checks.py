"""Checks of names, ids, numbers and texts that other processes send."""

import json
import time

from external_events_router import checks
from external_events_router import exceptions
from tests import base


class ChecksTest(base.TestCase):
    def test_host_names(self):
        for good in ('a', 'compute-1.example.org', 'cell1@compute_2', 'fe80::1', 'x' * 255):
            self.assertTrue(checks.is_host(good), good)
        for bad in (
            '',
            '#',
            '*',
            'a b',
            'a\n',
            'a/b',
            'h\xf6st',
            'x' * 256,
            '\ud800',
            'a\x00',
            None,
            1,
            ['a'],
        ):
            self.assertFalse(checks.is_host(bad), bad)

    def test_longest_host_name_fits_into_a_routing_key(self):
        self.assertEqual(247, checks.longest_host('compute'))
        self.assertTrue(checks.is_host('x' * 247, checks.longest_host('compute')))
        self.assertFalse(checks.is_host('x' * 248, checks.longest_host('compute')))

    def test_ids(self):
        for good in ('5bb6d8f4-5a5d-4c5c-9a3c-8a7c1d0a5a01', '17a2b.4', 'x' * 64):
            self.assertTrue(checks.is_id(good), good)
        for bad in ('', 'x' * 65, 'a b', '\xe9', 'a\n', None, 3, {}):
            self.assertFalse(checks.is_id(bad), bad)

    def test_numbers(self):
        for good in (0, 1.5, -2, 10**17):
            self.assertTrue(checks.is_number(good), good)
        for bad in (float('nan'), float('inf'), -float('inf'), 10**400, True, '1', None, [1]):
            self.assertFalse(checks.is_number(bad), bad)

    def test_characters_that_a_database_cannot_store_are_removed(self):
        self.assertEqual('a?b?c\xe9', checks.clean_text('a\ud800b\x00c\xe9'))
        self.assertEqual('x' * 1000, checks.clean_text('x' * 5000))

    def test_large_value_is_shown_in_part(self):
        began = time.monotonic()
        for value in ('x' * 20_000_000, b'x' * 20_000_000, [['x' * 1000] * 1000] * 1000, {'a': 'x' * 10**7}):
            self.assertLessEqual(len(checks.shown(value)), checks.MAX_SHOWN)
            self.assertLess(len(str(exceptions.MalformedMessage(what='event', value=value))), 300)
        self.assertLess(time.monotonic() - began, 5)

    def test_shown_value_can_be_written_to_a_log(self):
        for value in ('\ud800', '\x1b[2J\n', json.loads('[' * 500 + ']' * 500)):
            self.assertTrue(checks.shown(value).isprintable())
            checks.shown(value).encode()
