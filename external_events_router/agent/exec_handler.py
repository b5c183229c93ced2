"""The handler that runs a command of the operator for each event.

The event is one JSON object on the standard input of the command, and the exit status determines the
result. The command runs without a shell, with a time limit, with a limit on its logged output, and
only with the environment variables that the configuration names.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
import json
import logging
import os
import selectors
import shlex
import shutil
import subprocess
import tempfile
import threading
import time
from typing import IO

from oslo_config import cfg

from external_events_router import context
from external_events_router import events
from external_events_router import exceptions
from external_events_router.agent import descendants
from external_events_router.agent import orphans
from external_events_router.conf import exec_handler as exec_options

LOG = logging.getLogger(__name__)

#: Exit status of a command if the server is not on this host.
EXIT_NOT_HERE = 3

#: Maximum bytes of the output of a command that are logged; the rest is read and discarded.
MAX_OUTPUT = 4096

_READ = 65536

#: Seconds between two checks of a command, if the system cannot report its end.
_LOOK = 0.05


class ExecHandler:
    """Runs a command for each event, in a new session and process group."""

    def __init__(
        self, command: list[str], *, timeout: float, environment: Mapping[str, str] | None = None
    ) -> None:
        """Create the handler.

        :param command: program and arguments
        :param timeout: seconds after which the command and its children are killed
        :param environment: environment of the command, to which ``descendants.MARK`` is added; None:
            the default of ``[exec] environment``
        """
        self._command = command
        self._timeout = timeout
        self._environment = make_environment() if environment is None else dict(environment)
        # Guards the attributes below. _running: process id to the mark in its environment.
        self._lock = threading.Lock()
        self._running: dict[int, str] = {}
        self._orphans = orphans.OrphanKiller()
        self._closed = False

    @classmethod
    def from_conf(cls, conf: cfg.ConfigOpts) -> ExecHandler:
        """Build the handler from the configuration.

        :raises ConfigurationError: no command is configured, or it cannot be run
        """
        try:
            command = shlex.split(conf.exec.command or '')
        except ValueError as exc:
            raise exceptions.ConfigurationError(option='[exec] command', reason=str(exc)) from exc
        if not command:
            raise exceptions.ConfigurationError(
                option='[exec] command', reason='is not set, but the exec handler needs a command'
            )
        if shutil.which(command[0]) is None:
            raise exceptions.ConfigurationError(
                option='[exec] command', reason=f'{command[0]!r} is not an executable program'
            )
        return cls(command, timeout=conf.exec.timeout, environment=make_environment(conf.exec.environment))

    def __call__(self, ctxt: context.RequestContext, event: events.Event) -> None:
        """Run the command.

        :raises NotHere: the command ended with status 3
        :raises Refused: the command ended with another status, could not be started, or took too long
        """
        process = self._start(event)
        try:
            output, in_time = _attend(process, time.monotonic() + self._timeout)
        finally:
            self._end(process)
        self._judge(event, process.returncode, output, in_time=in_time)

    def close(self) -> None:
        """Kill running commands, and start no more commands."""
        with self._lock:
            self._closed = True
            for pid, mark in self._running.items():
                descendants.kill(pid, mark)
            self._orphans.close()

    def _start(self, event: events.Event) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._closed:
                raise exceptions.Refused(reason='the agent is stopping')
            mark = descendants.new_mark()
            self._orphans.starting(mark)
            try:
                with _as_file(event) as stdin:
                    process = subprocess.Popen(  # noqa: S603
                        self._command,
                        stdin=stdin,
                        stdout=subprocess.PIPE,
                        stderr=subprocess.STDOUT,
                        start_new_session=True,
                        env={**self._environment, descendants.MARK: mark},
                    )
            except OSError as exc:
                self._orphans.ended(mark)
                raise exceptions.Refused(reason=f'{self._command[0]}: {exc.strerror}') from exc
            self._running[process.pid] = mark
        return process

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        # Before the process is waited for, so that its process id is still valid.
        with self._lock:
            mark = self._running.pop(process.pid)
            if process.poll() is None:
                descendants.kill(process.pid, mark)
            self._orphans.ended(mark)
        process.wait()
        if process.stdout is not None:
            process.stdout.close()

    def _judge(self, event: events.Event, status: int, output: bytes, *, in_time: bool) -> None:
        LOG.log(
            logging.INFO if status == 0 else logging.WARNING,
            'Command for %s of server %s: exit status %d, output %r',
            event.name,
            event.server_uuid,
            status,
            output.decode(errors='replace'),
        )
        if not in_time:
            raise exceptions.Refused(reason=f'the command took longer than {self._timeout} s')
        if status == EXIT_NOT_HERE:
            raise exceptions.NotHere(server_uuid=event.server_uuid)
        if status != 0:
            raise exceptions.Refused(reason=f'exit status {status}')


def make_environment(names: Sequence[str] = exec_options.ENVIRONMENT) -> dict[str, str]:
    """Return the environment of a command: the named variables of the agent that are set."""
    return {name: os.environ[name] for name in names if name in os.environ}


def _as_file(event: events.Event) -> IO[bytes]:
    # A file instead of a pipe: writing does not block if the command does not read its input.
    stdin = tempfile.TemporaryFile()  # noqa: SIM115
    stdin.write(json.dumps(event.to_dict()).encode())
    stdin.seek(0)
    return stdin


def _attend(process: subprocess.Popen[bytes], deadline: float) -> tuple[bytes, bool]:
    """Read the output of a command until the command ends, or until the deadline.

    The end of the output does not matter: a child process may keep the output open.

    :param deadline: a ``time.monotonic()`` instant
    :returns: the first bytes of the output, and whether the command ended in time
    """
    stdout = process.stdout
    if stdout is None:
        raise ValueError('the process has no pipe')
    os.set_blocking(stdout.fileno(), False)
    output = bytearray()
    with selectors.DefaultSelector() as selector, _end_of(process.pid) as end:
        selector.register(stdout, selectors.EVENT_READ)
        if end is not None:
            selector.register(end, selectors.EVENT_READ)
        while process.poll() is None:
            left = deadline - time.monotonic()
            if left <= 0:
                return bytes(output), False
            for key, _ready in selector.select(left if end is not None else min(left, _LOOK)):
                if key.fileobj is stdout and not _drain(stdout.fileno(), output):
                    selector.unregister(stdout)
    _drain(stdout.fileno(), output)
    return bytes(output), True


@contextlib.contextmanager
def _end_of(pid: int) -> Iterator[int | None]:
    """Yield a descriptor that becomes readable when a process ends; None if the system has none."""
    try:
        end = os.pidfd_open(pid)
    except (AttributeError, OSError):
        yield None
        return
    try:
        yield end
    finally:
        os.close(end)


def _drain(descriptor: int, output: bytearray) -> bool:
    """Read available output, and keep up to :data:`MAX_OUTPUT` bytes; return False at its end."""
    try:
        read = os.read(descriptor, _READ)
    except BlockingIOError:
        return True
    output += read[: MAX_OUTPUT - len(output)]
    return bool(read)
