"""The files of one slot, in the format of prometheus-client's multiprocess mode.

There is one file per type of metric and slot: ``counter_0.db``, ``histogram_0.db``, ``gauge_max_0.db``. A
file has one entry for each series of the catalogue and never grows. The process that claims a slot creates
its files again with the counters of its predecessor, so files neither accumulate nor keep old series.

A file that cannot be read counts as damaged, and none of its values are used.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
import functools
import json
import math
import os
import pathlib
import re
import struct
from typing import Any

from prometheus_client import mmap_dict
from prometheus_client import utils

from external_events_router.metrics import catalogue

#: Name of a sample, and its labels in the order of their names.
Key = tuple[str, tuple[tuple[str, str], ...]]

#: The size of a file in bytes is a multiple of this, the first size of a file of prometheus-client.
STEP = 1 << 16

#: Maximum size of a file in bytes.
LARGEST = 1 << 22

_NAME = re.compile('(counter|histogram|gauge_([a-z]+))_([0-9]{1,5})[.]db')
_HEADER = struct.Struct('i4x')
_LENGTH = struct.Struct('i')
_VALUE = struct.Struct('dd')


class Damaged(ValueError):
    """A file has contents that no process of the service writes."""


class Name:
    """The parts of the name of a file.

    :ivar prefix: type of the metrics, with the mode of gauges
    """

    def __init__(self, prefix: str, slot: int) -> None:
        self.prefix = prefix
        self.slot = slot

    @property
    def is_live(self) -> bool:
        """Whether the values end with the process that has the slot."""
        return self.prefix.startswith('gauge_live')

    def __str__(self) -> str:
        return f'{self.prefix}_{self.slot}.db'


def parse_name(text: str) -> Name | None:
    """Return the parts of the name of a file; None: it is another file."""
    match = _NAME.fullmatch(text)
    return Name(match[1], int(match[3])) if match else None


def prefix_of(metric: catalogue.Metric) -> str:
    """Return the prefix of the file that has a metric."""
    return f'gauge_{metric.mode}' if metric.kind is catalogue.Kind.GAUGE else str(metric.kind)


def keys_of(metric: catalogue.Metric) -> Iterator[Key]:
    """Return the keys of all values of a metric."""
    for values in metric.series():
        if metric.kind is not catalogue.Kind.HISTOGRAM:
            yield key(metric.name, metric, values)
            continue
        for bound in bounds_of(metric):
            yield key(f'{metric.name}_bucket', metric, values, le=bound)
        yield key(f'{metric.name}_sum', metric, values)


def bounds_of(metric: catalogue.Metric) -> list[str]:
    """Return the labels of the buckets of a histogram; the last bucket counts all values."""
    # NOTE: prometheus-client has no annotations for these parts.
    text: Callable[[float], str] = utils.floatToGoString
    return [text(bound) for bound in (*metric.buckets, math.inf)]


def key(sample: str, metric: catalogue.Metric, values: catalogue.LabelValues, **more: str) -> Key:
    """Return the key of one value."""
    labels = dict(zip(metric.labels, values, strict=True)) | more
    return sample, tuple(sorted(labels.items()))


def read(path: pathlib.Path) -> dict[Key, float]:
    """Read the values of a file.

    :raises Damaged: it is not in the format, or has a value that is not possible
    :raises OSError: it cannot be read
    """
    with open(path, 'rb') as file:
        data = file.read(LARGEST + 1)
    if not _HEADER.size <= len(data) <= LARGEST:
        raise Damaged(f'it has {len(data)} bytes')
    try:
        return dict(_entries(data))
    except (struct.error, ValueError, TypeError, RecursionError) as exc:
        raise Damaged(str(exc)) from exc


def _entries(data: bytes) -> Iterator[tuple[Key, float]]:
    used = _HEADER.unpack_from(data)[0]
    if not _HEADER.size <= used <= len(data):
        raise Damaged(f'{used} bytes of {len(data)} are marked as used')
    at = _HEADER.size
    while at < used:
        length = _LENGTH.unpack_from(data, at)[0]
        if not 0 < length <= used - at:
            raise Damaged(f'an entry has {length} bytes')
        start = at + _LENGTH.size
        # NOTE: padded to a multiple of 8, with at least one space.
        at = start + length + 8 - (length + _LENGTH.size) % 8
        value = _VALUE.unpack_from(data, at)[0]
        if not 0 <= value < math.inf:
            raise Damaged(f'a value is {value}')
        yield _parse_key(data[start : start + length]), value
        at += _VALUE.size
    if at != used:
        raise Damaged('the last entry is cut')


@functools.lru_cache(maxsize=16_384)
def _parse_key(text: bytes) -> Key:
    _metric, sample, labels, _help = json.loads(text)
    if (
        type(sample) is not str
        or type(labels) is not dict
        or not all(type(value) is str for value in labels.values())
    ):
        raise Damaged('a key is not the key of a metric')
    return sample, tuple(sorted(labels.items()))


def create(
    path: pathlib.Path, metrics: Iterable[catalogue.Metric], values: Mapping[Key, float]
) -> tuple[Any, dict[Key, str]]:
    """Create a file, which replaces an existing one.

    :param metrics: all metrics of the file
    :param values: all values except 0
    :returns: the open file, an ``MmapedDict``, and the text that names each value in it
    :raises OSError: it cannot be written
    """
    texts = {
        each: mmap_dict.mmap_key(
            metric.name, each[0], [name for name, _ in each[1]], [value for _, value in each[1]], ''
        )
        for metric in metrics
        for each in keys_of(metric)
    }
    new = path.with_suffix('.new')
    new.unlink(missing_ok=True)
    _allocate(new, texts.values())
    file: Any = mmap_dict.MmapedDict(str(new))  # type: ignore[no-untyped-call]
    for each, text in texts.items():
        file.write_value(text, values.get(each, 0.0), 0.0)
    os.replace(new, path)
    return file, texts


def _allocate(path: pathlib.Path, texts: Iterable[str]) -> None:
    # NOTE: this allocates the whole file. Otherwise, if the disk is full, the signal SIGBUS kills the
    # process that first writes to a page of the file.
    needed = _HEADER.size + sum(len(text) + 8 + _LENGTH.size + _VALUE.size for text in texts)
    size = -(-needed // STEP) * STEP
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(descriptor, 0, size)
    finally:
        os.close(descriptor)
