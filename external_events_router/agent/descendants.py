"""Finds and kills the processes that a command has started, on Linux.

A process group does not contain a child that has started its own session. Such a child is found by
its parent, while the parent runs, and by a variable in its environment, which children inherit and
keep after the end of their parent. A child that has replaced its environment *and* whose parent has
ended is not found, nor are processes of other users. Only cgroups have no such exceptions: the systemd
unit of the agent uses them (``KillMode``).

As a program, this module waits for the end of an agent and then kills the agent's commands; see
``orphans``. It imports only the standard library, so that the program starts fast and stays small.
"""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Iterator
import contextlib
import os
import pathlib
import secrets
import signal
import sys
import time

#: The variable that marks the processes of one command.
MARK = 'EXTERNAL_EVENTS_COMMAND_ID'

#: Maximum number of searches. A process that forks during a search is found by the next search.
MAX_LOOKS = 10

#: Seconds until the next search. A command has its environment a short time after its start.
_LOOK_AGAIN = 0.1

#: A number that is never the parent or the group of a process.
_NO_PROCESS = -1

_PROC = pathlib.Path('/proc')


def new_mark() -> str:
    """Return a new unique value of :data:`MARK`."""
    return secrets.token_hex(16)


def kill(pid: int, mark: str) -> int:
    """Kill a command, its process group, and its descendants in other sessions.

    :param pid: process id of the command, which leads a process group and was not waited for
    :param mark: value of :data:`MARK` in its environment
    :returns: number of killed processes outside the process group
    """
    with contextlib.ExitStack() as stack:
        # NOTE: search before the group is killed, because the group contains parents of descendants.
        killed = outside = 0
        handles = _open_descendants(stack, pid, mark)
        _kill_group(pid)
        for _look in range(MAX_LOOKS):
            killed = sum(map(_kill_process, handles))
            outside += killed
            if not killed and _look:
                break
            handles = _open_descendants(stack, pid, mark)
    return outside


def kill_marked(marks: Collection[str]) -> None:
    """Kill the commands with these marks, and their children, after the end of their agent."""
    found = True
    for look in range(MAX_LOOKS):
        if not found and look > 1:
            return
        found = sum(map(_kill_marked, marks)) > 0
        time.sleep(_LOOK_AGAIN)


def _kill_marked(mark: str) -> bool:
    marked = [(pid, group) for pid, _parent, group in _processes() if _is_marked(pid, mark)]
    for pid, group in marked:
        if pid == group:
            kill(pid, mark)
    with contextlib.ExitStack() as stack:
        for handle in _open_descendants(stack, _NO_PROCESS, mark):
            _kill_process(handle)
    return bool(marked)


def _open_descendants(stack: contextlib.ExitStack, pid: int, mark: str) -> list[int]:
    """Open descriptors of processes outside the group that descend from a process or have a mark."""
    opened = {}
    for each in _descendants(pid, mark):
        with contextlib.suppress(AttributeError, OSError):
            opened[each] = os.pidfd_open(each)
            stack.callback(os.close, opened[each])
    # NOTE: search again. While a descriptor is open, its number cannot belong to another process.
    still = _descendants(pid, mark) if opened else ()
    return [handle for each, handle in opened.items() if each in still]


def _descendants(pid: int, mark: str) -> set[int]:
    found = list(_processes())
    parents = {child: parent for child, parent, _group in found}
    outside = (child for child, _parent, group in found if group != pid)
    return {each for each in outside if _is_below(each, pid, parents) or _is_marked(each, mark)}


def _is_below(pid: int, ancestor: int, parents: dict[int, int]) -> bool:
    seen = set()
    while pid in parents and pid not in seen:
        seen.add(pid)
        pid = parents[pid]
        if pid == ancestor:
            return True
    return False


def _processes() -> Iterator[tuple[int, int, int]]:
    """Yield process id, parent and process group of each running process."""
    for folder in _PROC.iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError, ValueError, IndexError):
                # NOTE: the name of the program, before the last ")", may contain spaces and brackets.
                state, parent, group = (folder / 'stat').read_text().rpartition(')')[2].split()[:3]
                if state not in 'ZX':
                    yield int(folder.name), int(parent), int(group)


def _is_marked(pid: int, mark: str) -> bool:
    try:
        environment = (_PROC / str(pid) / 'environ').read_bytes()
    except OSError:
        return False
    return f'{MARK}={mark}'.encode() in environment.split(b'\0')


def _kill_process(handle: int) -> bool:
    try:
        signal.pidfd_send_signal(handle, signal.SIGKILL)
    except OSError:
        return False
    return True


def _kill_group(group: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


def main() -> None:
    """Read marks from the standard input until its end, then kill the commands that are still running.

    A line is ``+`` and a mark before the start of a command, or ``-`` and a mark after its end.
    """
    running = set()
    for line in sys.stdin:
        mark = line[1:].strip()
        if line[0] == '+':
            running.add(mark)
        else:
            running.discard(mark)
    if running:
        kill_marked(running)


if __name__ == '__main__':
    main()
