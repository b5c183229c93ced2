import subprocess
import sys

from external_events_router.resolver import worker_name
from tests import base

HOLD_A_NAME = """
import sys
from external_events_router.resolver import worker_name
name = worker_name.WorkerName(sys.argv[1])
print(name.name, flush=True)
sys.stdin.read()
"""


class WorkerNameTest(base.TestCase):
    def claim(self):
        name = worker_name.WorkerName(self.id())
        self.addCleanup(name.release)
        return name

    def test_two_workers_never_share_a_name(self):
        self.assertEqual([f'{self.id()}:0', f'{self.id()}:1'], [self.claim().name, self.claim().name])

    def test_released_name_is_used_again(self):
        first = self.claim()
        self.claim()
        first.release()
        self.assertEqual(first.name, self.claim().name)

    def test_name_of_a_killed_process_is_released(self):
        process = subprocess.Popen(
            [sys.executable, '-c', HOLD_A_NAME, self.id()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)
        self.assertEqual(f'{self.id()}:0', process.stdout.readline().strip())
        self.assertEqual(f'{self.id()}:1', self.claim().name)
        process.kill()
        process.wait(30)
        self.assertEqual(f'{self.id()}:0', self.claim().name)
