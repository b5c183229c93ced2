"""The values of one process: in memory, and in the files of its slot."""

from __future__ import annotations

import bisect
from collections.abc import Iterable
from collections.abc import Mapping
import itertools
import logging
import pathlib
import threading
from typing import Any

from external_events_router.metrics import catalogue
from external_events_router.metrics import files
from external_events_router.process import slots

LOG = logging.getLogger(__name__)

#: A change of one value: metric, values of its labels, amount.
Change = tuple[catalogue.Metric, catalogue.LabelValues, float]


class _Cell:
    """One value. Not thread-safe."""

    __slots__ = ('_file', '_text', 'value')

    def __init__(self, file: Any, text: str) -> None:
        self._file = file
        self._text = text
        self.value: float = file.read_value(text)[0]

    def set(self, value: float) -> None:
        self.value = value
        self._file.write_value(self._text, value, 0.0)


class _Histogram:
    """The values of one series of a histogram. Not thread-safe."""

    __slots__ = ('_bounds', '_buckets', '_sum')

    def __init__(self, bounds: tuple[float, ...], buckets: list[_Cell], total: _Cell) -> None:
        self._bounds = bounds
        self._buckets = buckets
        self._sum = total

    def observe(self, value: float, number: int) -> None:
        bucket = self._buckets[bisect.bisect_left(self._bounds, value)]
        bucket.set(bucket.value + number)
        self._sum.set(self._sum.value + value * number)


class Values:
    """The stored values of a process. Thread-safe."""

    def __init__(
        self,
        slot: slots.Slot,
        cells: Mapping[tuple[str, catalogue.LabelValues], _Cell],
        histograms: Mapping[tuple[str, catalogue.LabelValues], _Histogram],
        opened: Iterable[Any],
    ) -> None:
        """:param opened: files to close; see :func:`claim`"""
        self.slot = slot
        # Guards the attributes below.
        self._lock = threading.Lock()
        self._cells = cells
        self._histograms = histograms
        self._opened = list(opened)
        self._closed = False

    def add(self, changes: Iterable[Change]) -> None:
        """Add to counters; series that do not exist are ignored."""
        with self._lock:
            if self._closed:
                return
            for metric, labels, amount in changes:
                cell = self._cells.get((metric.name, labels))
                if cell is not None:
                    cell.set(cell.value + amount)

    def set(self, metric: catalogue.Metric, value: float, *labels: str) -> None:
        """Set a gauge."""
        with self._lock:
            cell = None if self._closed else self._cells.get((metric.name, labels))
            if cell is not None and cell.value != value:
                cell.set(value)

    def observe(self, metric: catalogue.Metric, value: float, *labels: str, number: int = 1) -> None:
        """Count a value so many times in a histogram."""
        with self._lock:
            histogram = None if self._closed else self._histograms.get((metric.name, labels))
            if histogram is not None:
                histogram.observe(max(0.0, value), number)

    def observe_all(self, metric: catalogue.Metric, observed: Iterable[float], *labels: str) -> None:
        """Count several values in a histogram at once."""
        with self._lock:
            histogram = None if self._closed else self._histograms.get((metric.name, labels))
            if histogram is not None:
                for value in observed:
                    histogram.observe(max(0.0, value), 1)

    def close(self) -> None:
        """Close the files and release the slot."""
        with self._lock:
            self._closed = True
            for file in self._opened:
                file.close()
            self._opened = []
        self.slot.release()


def claim(folder: pathlib.Path, metrics: Iterable[catalogue.Metric]) -> Values:
    """Claim the first free slot of a folder, and continue the counters of its files.

    :param folder: must exist
    :param metrics: the metrics that the process stores
    :raises OSError: the files cannot be written
    """
    slot = slots.claim_first(slots.FileClaims(folder))
    opened: list[Any] = []
    try:
        return _opened(folder, slot, metrics, opened)
    except BaseException:
        for file in opened:
            file.close()
        slot.release()
        raise


def _opened(
    folder: pathlib.Path, slot: slots.Slot, metrics: Iterable[catalogue.Metric], opened: list[Any]
) -> Values:
    cells: dict[tuple[str, catalogue.LabelValues], _Cell] = {}
    histograms: dict[tuple[str, catalogue.LabelValues], _Histogram] = {}
    damaged = 0
    ordered = sorted(metrics, key=files.prefix_of)
    for prefix, group in itertools.groupby(ordered, key=files.prefix_of):
        of_file = list(group)
        name = files.Name(prefix, slot.number)
        before = {} if name.is_live else _before(folder / str(name))
        damaged += before is None
        file, texts = files.create(folder / str(name), of_file, before or {})
        opened.append(file)
        for metric in of_file:
            for labels in metric.series():
                if metric.kind is catalogue.Kind.HISTOGRAM:
                    histograms[metric.name, labels] = _histogram(metric, labels, file, texts)
                else:
                    text = texts[files.key(metric.name, metric, labels)]
                    cells[metric.name, labels] = _Cell(file, text)
    made = Values(slot, cells, histograms, opened)
    made.add([(catalogue.WORKER_STARTS, (), 1.0), (catalogue.DAMAGED_FILES, (), float(damaged))])
    return made


def _before(path: pathlib.Path) -> Mapping[files.Key, float] | None:
    """Return the values of the slot's last process; None: its file is damaged, and was moved away."""
    try:
        return files.read(path)
    except FileNotFoundError:
        return {}
    except files.Damaged as exc:
        kept = path.with_suffix('.damaged')
        LOG.warning(
            'The file of metrics %s is damaged (%s); its counters begin again with 0. It was renamed to %s',
            path,
            exc,
            kept.name,
        )
        path.replace(kept)
        return None


def _histogram(
    metric: catalogue.Metric, labels: catalogue.LabelValues, file: Any, texts: Mapping[files.Key, str]
) -> _Histogram:
    buckets = [
        _Cell(file, texts[files.key(f'{metric.name}_bucket', metric, labels, le=bound)])
        for bound in files.bounds_of(metric)
    ]
    total = _Cell(file, texts[files.key(f'{metric.name}_sum', metric, labels)])
    return _Histogram(metric.buckets, buckets, total)
