"""Reads the files of all slots and merges them into one set of metrics."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
import logging
import os
import pathlib

from prometheus_client import core

from external_events_router.metrics import catalogue
from external_events_router.metrics import files
from external_events_router.process import slots

LOG = logging.getLogger(__name__)

#: How to merge the values of several files, by the prefix of the file.
_COMBINE: Mapping[str, Callable[[float, float], float]] = {
    'counter': lambda one, other: one + other,
    'histogram': lambda one, other: one + other,
    'gauge_max': max,
    'gauge_livemax': max,
    'gauge_livemin': min,
}

#: Values of the labels to the value of a series.
Series = Mapping[catalogue.LabelValues, float]


class Files:
    """The files of a folder. For one thread at a time."""

    def __init__(self, folder: pathlib.Path, metrics: Collection[catalogue.Metric]) -> None:
        """:param metrics: the metrics to report"""
        self._folder = folder
        self._claims = slots.FileClaims(folder)
        self._metrics = metrics
        self._reported: set[tuple[str, int]] = set()
        self.unreadable = 0

    def claimed(self) -> Mapping[int, int]:
        """Return the slots of running processes, each with its process id.

        :raises OSError: the folder cannot be read
        """
        return self._claims.claimed()

    def collect(self, live: Collection[int]) -> Iterator[core.Metric]:
        """Return the stored metrics.

        A series that is in no file is 0; for a gauge of live processes it is left out.

        :param live: slots of running processes
        :raises OSError: the folder cannot be read
        """
        merged = self._merged(live)
        for metric in self._metrics:
            yield family(metric, merged)

    def _merged(self, live: Collection[int]) -> Mapping[files.Key, float]:
        merged: dict[files.Key, float] = {}
        self.unreadable = 0
        for text in sorted(os.listdir(self._folder)):
            name = files.parse_name(text)
            # NOTE: the gauge of a process that has ended is not a current value.
            if name is None or name.prefix not in _COMBINE or (name.is_live and name.slot not in live):
                continue
            combine = _COMBINE[name.prefix]
            for key, value in self._read(self._folder / text).items():
                merged[key] = combine(merged[key], value) if key in merged else value
        return merged

    def _read(self, path: pathlib.Path) -> Mapping[files.Key, float]:
        try:
            return files.read(path)
        except FileNotFoundError:
            return {}
        except (files.Damaged, OSError) as exc:
            self.unreadable += 1
            self._report(path, exc)
            return {}

    def _report(self, path: pathlib.Path, exc: Exception) -> None:
        """Log a damaged file once."""
        try:
            version = (path.name, path.stat().st_ino)
        except OSError:
            version = (path.name, 0)
        if version not in self._reported:
            self._reported = {*list(self._reported)[-100:], version}
            LOG.warning(
                'The file of metrics %s is left out, so counters are too low: %s. The next process that '
                'claims its slot replaces it',
                path,
                exc,
            )


def family(metric: catalogue.Metric, merged: Mapping[files.Key, float]) -> core.Metric:
    """Return a stored metric with all its series."""
    if metric.kind is catalogue.Kind.HISTOGRAM:
        return _histogram(metric, merged)
    values = {
        labels: merged.get(files.key(metric.name, metric, labels), None if _is_live(metric) else 0.0)
        for labels in metric.series()
    }
    return simple(metric, {labels: value for labels, value in values.items() if value is not None})


def simple(metric: catalogue.Metric, values: Series) -> core.Metric:
    """Return a counter or gauge."""
    make = core.CounterMetricFamily if metric.kind is catalogue.Kind.COUNTER else core.GaugeMetricFamily
    made = make(metric.name, metric.help, labels=list(metric.labels))
    for labels, value in values.items():
        made.add_metric(list(labels), value)
    return made


def _histogram(metric: catalogue.Metric, merged: Mapping[files.Key, float]) -> core.Metric:
    made = core.HistogramMetricFamily(metric.name, metric.help, labels=list(metric.labels))
    for labels in metric.series():
        total = 0.0
        buckets = []
        for bound in files.bounds_of(metric):
            total += merged.get(files.key(f'{metric.name}_bucket', metric, labels, le=bound), 0.0)
            buckets.append((bound, total))
        seconds = merged.get(files.key(f'{metric.name}_sum', metric, labels), 0.0)
        made.add_metric(list(labels), buckets=buckets, sum_value=seconds)
    return made


def _is_live(metric: catalogue.Metric) -> bool:
    return metric.mode is not None and metric.mode is not catalogue.Mode.MAX


def chained(parts: Iterable[Callable[[], Iterable[core.Metric]]]) -> Iterator[core.Metric]:
    """Return the metrics of several parts; if a part fails, log its error and continue with the next."""
    for part in parts:
        try:
            yield from list(part())
        except Exception:  # continue with the other parts
            LOG.exception('A part of the metrics could not be determined')
