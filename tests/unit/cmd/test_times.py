"""Times and durations as operators type them."""

import argparse

from external_events_router.cmd.manage import times
from tests import base

NOW = 1_790_000_000.0


class TimesTest(base.TestCase):
    def test_durations(self):
        expected = {'90s': 90.0, '15m': 900.0, '1h': 3600.0, '1.5h': 5400.0, '2d': 172800.0, '1w': 604800.0}
        expected |= {'30': 30.0, '0s': 0.0}
        self.assertEqual(expected, {text: times.duration(text) for text in expected})
        self.assertEqual(NOW - 5400.0, times.Moment('1.5h').seconds(NOW))

    def test_times(self):
        for text in (
            '1789999000',
            '2026-09-21T13:56:40',
            '2026-09-21T13:56:40Z',
            '2026-09-21T15:56:40+02:00',
        ):
            self.assertEqual(1_789_999_000.0, times.Moment(text).seconds(NOW), text)
        self.assertEqual(1_789_948_800.0, times.Moment('2026-09-21').seconds(NOW))

    def test_invalid_values(self):
        for text in ('', 'yesterday', '-1h', '1y', '2026-13-01', 'nan', '1e9'):
            self.assertRaises(argparse.ArgumentTypeError, times.Moment, text)
            self.assertRaises(argparse.ArgumentTypeError, times.duration, text)
