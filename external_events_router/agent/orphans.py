"""Kills commands whose agent was killed with SIGKILL.

Otherwise such a command would run without its time limit, while the restarted agent starts another
command for the same event. A helper process reads the marks of running commands from a pipe. When
the pipe is closed, it kills the remaining commands and their children.

NOTE: ``PR_SET_PDEATHSIG`` would kill the command itself but none of its children, and setting it takes 15 ms
for each command with a small Python program, 1 ms with ``setpriv``. The helper takes a write of 33
bytes for each command, and 10 MB of memory after the first command.
"""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
import weakref

from external_events_router.agent import descendants

LOG = logging.getLogger(__name__)

#: Maximum seconds to wait for the end of the helper process.
END_TIMEOUT = 2.0


class OrphanKiller:
    """Controls the helper process of one handler. Not thread-safe. Only :meth:`close` waits."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._running: set[str] = set()
        self._failed = False

    def starting(self, mark: str) -> None:
        """Record that a command with this mark in its environment is about to start."""
        self._running.add(mark)
        if not self._write(f'+{mark}\n'):
            # The helper has not started yet, or was killed.
            self._start()

    def ended(self, mark: str) -> None:
        """Record that a command has ended, or was not started."""
        self._running.discard(mark)
        self._write(f'-{mark}\n')

    def close(self) -> None:
        """End the helper process, which kills the remaining commands."""
        process, self._process = self._process, None
        if process is not None and process.stdin is not None:
            process.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(END_TIMEOUT)

    def _start(self) -> None:
        self.close()
        try:
            process = subprocess.Popen(  # noqa: S603
                # NOTE: -S: without site-packages, whose import would take a second.
                [sys.executable, '-I', '-S', descendants.__file__],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                bufsize=0,
                start_new_session=True,
                env={},
                cwd='/',
            )
        except OSError as exc:
            self._warn(exc)
            return
        self._process = process
        if process.stdin is not None:
            # NOTE: a handler that is replaced by a reload is not closed, and subprocess keeps a
            # reference to a running process.
            weakref.finalize(self, process.stdin.close)
            os.set_blocking(process.stdin.fileno(), False)
        if not self._write(''.join(f'+{mark}\n' for mark in self._running)):
            self._warn(BrokenPipeError('the helper process does not read'))

    def _write(self, text: str) -> bool:
        """Return whether the helper process receives the text."""
        if self._process is None or self._process.stdin is None:
            return False
        try:
            return self._process.stdin.write(text.encode()) == len(text)
        except OSError:
            return False

    def _warn(self, exc: OSError) -> None:
        if not self._failed:
            LOG.warning(
                'Cannot start a helper process (%s). Commands continue to run if the agent is killed with '
                'SIGKILL. Run the agent with its systemd unit, which ends them',
                exc.strerror or exc,
            )
        self._failed = True
