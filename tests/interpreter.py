"""Short programs in Python processes of their own, without the time that imports take.

A command fills the global ``cfg.CONF`` of its process, so its tests need processes. An
interpreter that imports the package anew takes about a second of processor time. Here
one process per test worker imports it once, and each program runs in a fork of that process:
it has the exit status, descriptors, environment and signals of any other process.

The imports of a program cannot be tested in this way, nor the start of the interpreter. Python 3.11 has
a wrong ``native_id`` for the main thread of a fork.
"""

from __future__ import annotations

import atexit
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback

#: Modules that the programs of the tests import.
PRELOADED = (
    'external_events_router.cmd.agent',
    'external_events_router.cmd.all_in_one',
    'external_events_router.cmd.manage.app',
    'external_events_router.cmd.manage.held',
    'external_events_router.cmd.manage.host_map',
    'alembic.command',
    'pymysql',
    'psycopg',
    'oslo_messaging._drivers.impl_fake',
)

#: Bytes of a request.
_LONGEST = 1024 * 1024


def run(code, *argv, input='', cwd=None, env=None, timeout=50, check=False):
    """Run a program, like ``subprocess.run([sys.executable, '-c', code, *argv])``.

    :param input: its standard input
    :returns: ``subprocess.CompletedProcess`` with text
    :raises subprocess.TimeoutExpired: it was killed after the timeout
    """
    with tempfile.TemporaryFile('w+') as source, _output() as out, _output() as err:
        source.write(input)
        source.seek(0)
        status = _wait(_server().fork(code, argv, (source, out, err), cwd=cwd, env=env), timeout)
        out.seek(0)
        err.seek(0)
        done = subprocess.CompletedProcess(argv, status, out.read(), err.read())
    if check:
        done.check_returncode()
    return done


def _output():
    return tempfile.TemporaryFile('w+', errors='backslashreplace')


def _wait(answers, timeout):
    with answers:
        answers.settimeout(timeout)
        lines = answers.makefile()
        pid = int(lines.readline())
        try:
            return int(lines.readline())
        except TimeoutError:
            os.kill(pid, signal.SIGKILL)
            raise subprocess.TimeoutExpired(str(pid), timeout) from None


class _Server:
    """The process that is forked."""

    def __init__(self):
        self._requests, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._requests.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _LONGEST)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, '-c', f'import {__name__} as i; i.serve({theirs.fileno()})'],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                cwd=pathlib.Path(__file__).parents[1],
            )
        atexit.register(self.close)

    def fork(self, code, argv, files, *, cwd, env):
        """Start a program.

        :param files: standard input, output and error
        :returns: a socket with its pid and, after its end, its exit status, a line each
        """
        answers, theirs = socket.socketpair()
        request = json.dumps(
            [code, [str(word) for word in argv], str(cwd or os.getcwd()), env or {**os.environ}]
        )
        with theirs:
            fds = [*(file.fileno() for file in files), theirs.fileno()]
            socket.send_fds(self._requests, [request.encode()], fds)
        return answers

    def close(self):
        """End, which the server sees by itself if this process is killed."""
        self._requests.close()
        self._process.wait(10)


_lock = threading.Lock()
_servers: dict[int, _Server] = {}


def _server():
    with _lock:
        # NOTE: a fork of this process must not use the same socket.
        if os.getpid() not in _servers:
            _servers[os.getpid()] = _Server()
        return _servers[os.getpid()]


def serve(descriptor):
    """Run programs until the other end of the socket is closed; in the server's process."""
    for module in PRELOADED:
        __import__(module)
    requests = socket.socket(fileno=descriptor)
    while True:
        data, fds, _flags, _address = socket.recv_fds(requests, _LONGEST, 4)
        if not data:
            return
        pid = os.fork()
        if not pid:
            requests.close()
            _watch(data, fds)
        for fd in fds:
            os.close(fd)
        _reap()


def _reap():
    """Forget the watchers that have ended."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def _watch(data, fds):
    """Run one program in a child, and send its pid and its end; does not return."""
    *files, answers = fds
    try:
        pid = os.fork()
        if not pid:
            os.close(answers)
            _become(data, files)
        for fd in files:
            os.close(fd)
        os.write(answers, f'{pid}\n'.encode())
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        os.write(answers, f'{status}\n'.encode())
    except BrokenPipeError:
        # The test has given up.
        pass
    finally:
        os._exit(0)


def _become(data, files):
    """Be the program; does not return."""
    status = 1
    try:
        code, argv, cwd, env = json.loads(data)
        for target, fd in enumerate(files):
            os.dup2(fd, target)
            os.close(fd)
        os.chdir(cwd)
        os.environ.clear()
        os.environ.update(env)
        sys.argv = ['-c', *argv]
        exec(compile(code, '<string>', 'exec'), {'__name__': '__main__'})  # noqa: S102
        status = 0
    except SystemExit as exc:
        status = exc.code if isinstance(exc.code, int) else int(exc.code is not None)
        if status and not isinstance(exc.code, int):
            print(exc.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
