"""Use of the processor and memory by processes, from ``/proc``."""

from __future__ import annotations

import collections
from collections.abc import Mapping
import contextlib
import dataclasses
import os
import pathlib
import time

#: Seconds of one tick, the unit of the kernel's counters.
TICK = 1 / os.sysconf('SC_CLK_TCK')

PROC = pathlib.Path('/proc')

#: State of a listening TCP socket in ``/proc/net/tcp``.
_LISTENING = '0A'


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """Processor time until an instant.

    :ivar at: value of ``time.perf_counter()``
    :ivar busy: seconds of all cores together
    :ivar groups: name of a group to seconds
    """

    at: float
    busy: float
    groups: Mapping[str, float]


@dataclasses.dataclass(frozen=True)
class Usage:
    """Processor time between two instants.

    :ivar groups: name of a group to seconds of CPU
    :ivar other_cores: cores that other processes used, without the groups and this process
    """

    seconds: float
    groups: Mapping[str, float]
    other_cores: float


def snapshot(groups):
    """Take a snapshot.

    :param groups: name to pids; the descendants of each process are included
    """
    times, children = _processes()
    return Snapshot(
        time.perf_counter(),
        _busy(PROC.joinpath('stat').read_text()),
        {
            name: sum(times[pid] for pid in tree(pids, children) if pid in times)
            for name, pids in groups.items()
        },
    )


def between(before, after, *, own=0.0):
    """The use between two snapshots of the same groups.

    :param own: seconds of CPU of this process
    """
    groups = {name: seconds - before.groups[name] for name, seconds in after.groups.items()}
    elapsed = after.at - before.at
    others = after.busy - before.busy - own - sum(groups.values())
    return Usage(elapsed, groups, max(0.0, others / elapsed))


def tree(pids, children):
    """The processes and their descendants.

    :param children: pid to the pids of its children
    """
    found, todo = set(), list(pids)
    while todo:
        pid = todo.pop()
        if pid not in found:
            found.add(pid)
            todo += children.get(pid, ())
    return found


def resident(pids):
    """MiB of memory of each of the processes and their descendants, by pid."""
    _, children = _processes()
    found = {}
    for pid in sorted(tree(pids, children)):
        with contextlib.suppress(OSError):
            found[pid] = _resident(PROC.joinpath(str(pid), 'status').read_text())
    return found


def listener(port):
    """The process that listens on a port of this machine; None: no visible process."""
    sockets = set()
    for name in ('tcp', 'tcp6'):
        for line in PROC.joinpath('net', name).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == _LISTENING and int(fields[1].rpartition(':')[2], 16) == port:
                sockets.add(f'socket:[{fields[9]}]')
    found = []
    for folder in PROC.glob('[0-9]*/fd'):
        with contextlib.suppress(OSError):
            if any(os.readlink(file) in sockets for file in folder.iterdir()):
                found.append(int(folder.parent.name))
    # The oldest process, because forked processes share the socket.
    return min(found, default=None)


def _processes():
    """Pid to seconds of CPU, including ended children; pid to its children."""
    times, children = {}, collections.defaultdict(list)
    for name in os.listdir(PROC):
        if name.isdigit():
            with contextlib.suppress(OSError):
                parent, ticks = _stat(PROC.joinpath(name, 'stat').read_text())
                times[int(name)] = ticks * TICK
                children[parent].append(int(name))
    return times, children


def _stat(text):
    """Parse ``/proc/PID/stat``: the parent, and the ticks."""
    # NOTE: the name, in parentheses, may contain any characters.
    fields = text.rpartition(')')[2].split()
    return int(fields[1]), sum(map(int, fields[11:15]))


def _busy(text):
    """Parse ``/proc/stat``: the seconds in which cores were not idle."""
    ticks = [int(field) for field in text.partition('\n')[0].split()[1:9]]
    user, nice, system, _idle, _iowait, irq, softirq, steal = ticks
    return (user + nice + system + irq + softirq + steal) * TICK


def _resident(text):
    """Of ``/proc/PID/status``: MiB."""
    for line in text.splitlines():
        if line.startswith('VmRSS:'):
            return int(line.split()[1]) / 1024
    return 0.0
