import errno
import os
import pathlib
import subprocess
import sys

import fixtures

from external_events_router.process import slots
from tests import base

HOLD_A_SLOT = """
import pathlib, sys
from external_events_router.process import slots
print(slots.claim_first(slots.FileClaims(pathlib.Path(sys.argv[1]))).number, flush=True)
sys.stdin.read()
"""


class _Contract:
    """What both kinds of claims have to do; the subclass makes them."""

    def claim(self):
        slot = slots.claim_first(self.claims)
        self.addCleanup(slot.release)
        return slot

    def test_the_lowest_free_number_is_claimed(self):
        first, second, third = (self.claim() for _ in range(3))
        self.assertEqual([0, 1, 2], [slot.number for slot in (first, second, third)])
        second.release()
        self.assertEqual(1, self.claim().number)

    def test_release_again_has_no_effect(self):
        first = self.claim()
        first.release()
        self.claim()
        first.release()
        self.assertEqual(1, self.claim().number)


class SocketClaimsTest(_Contract, base.TestCase):
    def setUp(self):
        super().setUp()
        self.claims = slots.SocketClaims('external-events-tests', self.id())

    def test_numbers_of_different_names_are_independent(self):
        self.claim()
        other = slots.claim_first(slots.SocketClaims('external-events-tests', f'{self.id()}-other'))
        self.addCleanup(other.release)
        self.assertEqual(0, other.number)


class FileClaimsTest(_Contract, base.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
        self.claims = slots.FileClaims(self.folder)

    def start(self):
        process = subprocess.Popen(
            [sys.executable, '-c', HOLD_A_SLOT, str(self.folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)
        return process, int(process.stdout.readline())

    def test_processes_do_not_share_a_number(self):
        mine = self.claim()
        process, number = self.start()
        self.assertEqual([0, 1], [mine.number, number])
        self.assertEqual({0: os.getpid(), 1: process.pid}, self.claims.claimed())

    def test_the_number_of_a_killed_process_is_free(self):
        process, number = self.start()
        process.kill()
        process.wait(30)
        self.assertEqual({}, self.claims.claimed())
        self.assertEqual(number, self.claim().number)

    def test_reading_the_claims_does_not_end_a_claim(self):
        # A POSIX lock would end with the first descriptor that is closed.
        self.claim()
        for _ in range(3):
            self.assertEqual({0: os.getpid()}, self.claims.claimed())
        self.assertIsNone(self.claims.claim(0))

    def test_file_that_cannot_be_read_does_not_hide_the_others(self):
        (self.folder / 'slot_7.lock').mkdir()
        self.claim()
        self.assertEqual({0: os.getpid()}, self.claims.claimed())

    def test_other_and_damaged_files_are_not_claims(self):
        (self.folder / 'slot_x.lock').touch()
        (self.folder / 'counter_0.db').touch()
        slot = self.claim()
        (self.folder / f'slot_{slot.number}.lock').write_text('no number')
        self.assertEqual({}, self.claims.claimed())

    def test_folder_that_does_not_exist(self):
        claims = slots.FileClaims(self.folder / 'missing')
        error = self.assertRaises(OSError, slots.claim_first, claims)
        self.assertEqual(errno.ENOENT, error.errno)
