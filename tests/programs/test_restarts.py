"""Two hundred restarts of workers while the metrics are read."""

from __future__ import annotations

import pathlib
import subprocess
import sys

import fixtures

from tests import base
from tests.unit.metrics import fixtures as metrics_fixtures

ROOT = pathlib.Path(__file__).parents[2]

#: Workers that run at a time, restarts of them all together, and events that each counts.
WORKERS = 4
RESTARTS = 200
EVENTS = 25

#: Starts the workers, each a fork; half of them are killed in the middle of their work, the other half end by
#: themselves. Each binds a name of its slot, which fails if another process has the same slot.
PROGRAM = f"""
import os, pathlib, signal, socket, sys
from external_events_router.metrics import catalogue, values
folder, WORKERS, EVENTS = pathlib.Path(sys.argv[1]), {WORKERS}, {EVENTS}

def work(number):
    stored = values.claim(folder, catalogue.stored(catalogue.EVERY_ROLE))
    owner = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    owner.bind(f'\\0external-events-tests/{{folder}}/{{stored.slot.number}}')
    stored.set(catalogue.BREAKERS_OPEN, 1.0)
    for _ in range(EVENTS):
        stored.add([(catalogue.ENDED, ('expired',), 1.0)])
        stored.observe(catalogue.LOOKUP_SECONDS, 0.01)
    if number % 2:
        os.kill(os.getpid(), signal.SIGKILL)

running, failed = set(), 0
for number in range({WORKERS} + {RESTARTS}):
    pid = os.fork()
    if not pid:
        try:
            work(number)
        except BaseException as exc:
            print('failed', repr(exc), flush=True)
            os._exit(1)
        os._exit(0)
    running.add(pid)
    while len(running) >= WORKERS:
        running.discard(os.wait()[0])
    print(number, flush=True)
while running:
    running.discard(os.wait()[0])
"""


class RestartsTest(base.TestCase):
    TIMEOUT_SCALING_FACTOR = 3

    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.useFixture(fixtures.TempDir()).path)

    def counted(self):
        """Every sample that must never decrease."""
        return {
            key: value
            for key, value in metrics_fixtures.read(self.folder).items()
            if key[0].endswith(('_total', '_bucket', '_count', '_sum'))
        }

    def files(self):
        return {path.name: path.stat().st_size for path in self.folder.iterdir() if path.suffix != '.new'}

    def test_files_stay_the_same_and_counters_never_decrease(self):
        process = subprocess.Popen(
            [sys.executable, '-c', PROGRAM, str(self.folder)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        self.addCleanup(process.wait, 30)
        self.addCleanup(process.kill)
        before, after_some, decreased = self.counted(), {}, []
        for line in process.stdout:
            self.assertNotIn('failed', line)
            after_some = self.files() if line == '30\n' else after_some
            if int(line) % 5:
                continue
            now = self.counted()
            decreased += [key for key, value in now.items() if value < before.get(key, 0.0)]
            before = now
        self.assertEqual(0, process.wait(30))
        self.assertEqual([], decreased)
        starts = WORKERS + RESTARTS
        end = {name: value for (name, labels), value in self.counted().items() if not labels}
        self.assertEqual(starts, end['external_events_worker_starts_total'])
        self.assertEqual(starts * EVENTS, end['external_events_lookup_seconds_count'])
        expired = self.counted()['external_events_ended_total', frozenset({('state', 'expired')})]
        self.assertEqual(starts * EVENTS, expired)
        self.assertEqual(0.0, end['external_events_metrics_damaged_files_total'])
        # Gauges of processes that have ended are gone.
        self.assertNotIn(('external_events_breakers_open', frozenset()), metrics_fixtures.read(self.folder))
        slots = {name for name in self.files() if name.startswith('slot_')}
        self.assertLessEqual(len(slots), WORKERS + 1)
        sizes = [
            {size for name, size in found.items() if name.endswith('.db')}
            for found in (after_some, self.files())
        ]
        self.assertEqual(*sizes)
        self.assertLessEqual(len(self.files()), (WORKERS + 1) * 6)
