"""The commands of a killed agent, as real processes."""

from __future__ import annotations

import os
import pathlib
import signal
import subprocess
import sys
import time

from external_events_router import agent
from tests import base

#: Seconds. The processes normally end much earlier.
LONG = 40.0

#: A process of an agent that runs a command, which writes its process ids and waits.
PROGRAM = """
import sys, threading
from external_events_router import context, events
from external_events_router.agent import exec_handler
script = '{ setsid sleep 300 & echo $! $$; } > $0.new; mv $0.new $0; sleep 301'
command = ['/bin/sh', '-c', script, sys.argv[1]]
handler = exec_handler.ExecHandler(command, timeout=300.0)
event = events.Event(name='network-changed', server_uuid='00000001-0000-4000-8000-000000000000')
handler(context.for_service(), event)
"""


def is_alive(pid: int) -> bool:
    try:
        state = pathlib.Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0]
    except OSError:
        return False
    return state not in 'ZX'


class OrphansTest(base.TestCase):
    def wait_until(self, condition, what):
        deadline = time.monotonic() + LONG
        while not condition():
            self.assertLess(time.monotonic(), deadline, what)
            time.sleep(0.02)

    def start(self):
        """Start the program.

        :returns: the process, and the ids of the command and of its child in another session
        """
        program = self.create_tempfiles([('program', PROGRAM)], ext='.py')[0]
        written = pathlib.Path(program).with_name('pids')
        folder = pathlib.Path(agent.__file__).parents[2]
        process = subprocess.Popen(
            [sys.executable, program, written],
            env={**os.environ, 'PYTHONPATH': str(folder)},
        )
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        self.wait_until(written.exists, 'the command')
        pids = [int(pid) for pid in written.read_text().split()]
        self.assertEqual([True, True], [is_alive(pid) for pid in pids])
        return process, pids

    def test_commands_end_when_their_agent_is_killed(self):
        process, pids = self.start()
        process.send_signal(signal.SIGKILL)
        self.wait_until(lambda: not any(map(is_alive, pids)), f'the end of {pids}')
