"""Metrics of the worker processes, read from ``/proc``."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping
import contextlib
import os
import pathlib
import resource

from prometheus_client import core

from external_events_router.metrics import catalogue
from external_events_router.metrics import collector

_PROC = pathlib.Path('/proc')

#: Positions in ``/proc/PID/stat`` after the name of the command; see proc(5).
_USER_TIME, _SYSTEM_TIME, _START, _VIRTUAL, _RESIDENT = 11, 12, 19, 20, 21


def collect(claimed: Mapping[int, int]) -> Iterator[core.Metric]:
    """Return the metrics of processes, without processes that end meanwhile.

    :param claimed: slot to process id
    """
    found: dict[str, dict[catalogue.LabelValues, float]] = {each.name: {} for each in catalogue.PROCESSES}
    for slot, pid in sorted(claimed.items()):
        with contextlib.suppress(OSError, ValueError, IndexError):
            for name, value in _of_process(pid).items():
                found[f'process_{name}'][str(slot),] = value
    for metric in catalogue.PROCESSES:
        yield collector.simple(metric, found[metric.name])


def _of_process(pid: int) -> Mapping[str, float]:
    # NOTE: the name of the command may contain spaces and parentheses.
    stat = (_PROC / str(pid) / 'stat').read_text().rpartition(')')[2].split()
    ticks, page = os.sysconf('SC_CLK_TCK'), resource.getpagesize()
    return {
        'cpu_seconds_total': (int(stat[_USER_TIME]) + int(stat[_SYSTEM_TIME])) / ticks,
        'resident_memory_bytes': float(int(stat[_RESIDENT]) * page),
        'virtual_memory_bytes': float(stat[_VIRTUAL]),
        'open_fds': float(len(os.listdir(_PROC / str(pid) / 'fd'))),
        'max_fds': _max_fds(pid),
        'start_time_seconds': _boot_time() + int(stat[_START]) / ticks,
    }


def _max_fds(pid: int) -> float:
    for line in (_PROC / str(pid) / 'limits').read_text().splitlines():
        if line.startswith('Max open files'):
            soft = line.removeprefix('Max open files').split()[0]
            return float('inf') if soft == 'unlimited' else float(soft)
    raise ValueError('no limit of open files')


def _boot_time() -> float:
    for line in (_PROC / 'stat').read_text().splitlines():
        if line.startswith('btime '):
            return float(line.split()[1])
    raise ValueError('no time of the boot')
