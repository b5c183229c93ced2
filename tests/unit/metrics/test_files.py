import os
import pathlib
import struct

import fixtures

from external_events_router.metrics import catalogue
from external_events_router.metrics import files
from tests import base

METRICS = (catalogue.ENDED,)
EXPIRED = files.key(catalogue.ENDED.name, catalogue.ENDED, ('expired',))


class FilesTest(base.TestCase):
    def setUp(self):
        super().setUp()
        self.path = pathlib.Path(self.useFixture(fixtures.TempDir()).path) / 'counter_0.db'

    def create(self, values):
        file, _texts = files.create(self.path, METRICS, values)
        file.close()

    def test_values_are_read_as_they_were_written(self):
        self.create({EXPIRED: 3.0})
        found = files.read(self.path)
        self.assertEqual(3.0, found.pop(EXPIRED))
        self.assertEqual({0.0}, set(found.values()))
        self.assertEqual(set(files.keys_of(catalogue.ENDED)), {EXPIRED, *found})

    def test_all_space_of_a_file_is_allocated(self):
        # Writing to a page without space kills a process.
        self.create({})
        found = self.path.stat()
        self.assertGreaterEqual(found.st_blocks * 512, found.st_size)
        self.assertEqual(files.STEP, found.st_size)

    def test_only_the_owner_may_read_a_file(self):
        self.create({})
        self.assertEqual(0o600, self.path.stat().st_mode & 0o777)

    def test_damaged_files(self):
        self.create({EXPIRED: 3.0})
        good = self.path.read_bytes()
        used = struct.unpack_from('i', good)[0]
        damages = {
            'empty': b'',
            'cut in the header': good[:5],
            'cut in an entry': good[:40],
            'used bytes negative': struct.pack('i', -8) + good[4:],
            'used bytes beyond the end': struct.pack('i', len(good) + 8) + good[4:],
            'used bytes in the middle of an entry': struct.pack('i', used - 12) + good[4:],
            'length of an entry': good[:8] + struct.pack('i', 1 << 20) + good[12:],
            'length of an entry is 0': good[:8] + struct.pack('i', 0) + good[12:],
            'key is no JSON': good[:12] + b'x' * 20 + good[32:],
            'key is another JSON': good[:12] + b'[1,2,{"a":1},4]'.ljust(20) + good[32:],
            'labels are a list': good[:12] + b'["a","a",[1,2,3],4]'.ljust(20) + good[32:],
            'zeroes': bytes(len(good)),
            'noise': os.urandom(len(good)),
        }
        for name, damaged in damages.items():
            with self.subTest(name):
                self.path.write_bytes(damaged)
                self.assertRaises(files.Damaged, files.read, self.path)

    def test_values_that_are_not_possible(self):
        for value in (-1.0, float('nan'), float('inf')):
            with self.subTest(value):
                self.create({EXPIRED: value})
                self.assertRaises(files.Damaged, files.read, self.path)

    def test_a_file_of_any_bytes_raises_nothing_else(self):
        self.create({EXPIRED: 3.0})
        good = bytearray(self.path.read_bytes()[:1024])
        for at in range(0, len(good), 3):
            changed = bytearray(good)
            changed[at] ^= 0xFF
            self.path.write_bytes(changed)
            try:
                files.read(self.path)
            except files.Damaged:
                continue

    def test_names(self):
        for text, prefix, is_live in (
            ('counter_0.db', 'counter', False),
            ('histogram_12.db', 'histogram', False),
            ('gauge_max_3.db', 'gauge_max', False),
            ('gauge_livemin_3.db', 'gauge_livemin', True),
        ):
            found = files.parse_name(text)
            self.assertEqual((text, prefix, is_live), (str(found), found.prefix, found.is_live))
        for text in ('counter_0.new', 'counter_x.db', 'slot_0.lock', 'counter_0.db.damaged', 'other_0.db'):
            self.assertIsNone(files.parse_name(text), text)
