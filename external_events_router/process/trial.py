"""Runs a check in a fork of this process, so that the check cannot change this process."""

from __future__ import annotations

from collections.abc import Callable
import multiprocessing
from multiprocessing import connection
import signal

from oslo_config import cfg

from external_events_router import exceptions
from external_events_router.process import startup


def run(check: Callable[[], None], *, timeout: float) -> str | None:
    """Run a check, and return why it failed; None if it succeeded.

    :param check: raises ``RouterError``, or an error of oslo.config, if it fails
    :param timeout: seconds after which the check counts as failed
    """
    processes = multiprocessing.get_context('fork')
    reader, writer = processes.Pipe(duplex=False)
    process = processes.Process(target=_run, args=(check, writer), name='trial', daemon=True)
    process.start()
    writer.close()
    try:
        return _read(reader, timeout)
    finally:
        reader.close()
        process.kill()
        process.join()


def _read(reader: connection.Connection, timeout: float) -> str | None:
    if not reader.poll(timeout):
        return f'the check did not end within {timeout:.0f} s'
    try:
        problem: str | None = reader.recv()
    except EOFError:
        return 'the check ended with an unexpected error, which is on the standard error'
    return problem


def _run(check: Callable[[], None], writer: connection.Connection) -> None:
    # NOTE: the descriptor belongs to the parent, which would handle the signals of this process.
    signal.set_wakeup_fd(-1)
    problem = None
    try:
        check()
    except exceptions.RouterError as exc:
        problem = str(exc)
    except (cfg.Error, OSError, ValueError) as exc:
        problem = f'configuration: {startup.reason_of(exc)}'
    writer.send(problem)
