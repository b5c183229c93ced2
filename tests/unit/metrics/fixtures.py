"""Helpers for the tests of metrics."""

from __future__ import annotations

import pathlib

import fixtures
from prometheus_client import core
from prometheus_client import exposition
from prometheus_client import parser

from external_events_router.metrics import catalogue
from external_events_router.metrics import collector
from external_events_router.metrics import file_recorder
from external_events_router.metrics import recorder
from external_events_router.metrics import senders
from external_events_router.metrics import values


class Recording(fixtures.Fixture):
    """The recorder of this process counts in files of a folder of the test.

    :ivar folder: of the files
    :ivar recorder: the installed recorder
    """

    def __init__(self, roles=catalogue.EVERY_ROLE):
        self._roles = roles

    def _setUp(self):
        self.folder = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
        stored = values.claim(self.folder, catalogue.stored(self._roles))
        self.recorder = file_recorder.FileRecorder(stored, senders.Senders({}))
        self.addCleanup(self.recorder.close)
        self.addCleanup(recorder.install, recorder.current())
        recorder.install(self.recorder)

    def value(self, sample, /, **labels):
        """The value of a sample, as the exporter reports it; None: it does not exist."""
        return read(self.folder, self._roles).get((sample, frozenset(labels.items())))


def read(folder, roles=catalogue.EVERY_ROLE):
    """All samples of a folder, by name and labels."""
    source = collector.Files(folder, catalogue.stored(roles))
    return samples(render(source.collect(source.claimed())))


def render(metrics):
    """The text that Prometheus would read."""
    registry = core.CollectorRegistry()
    found = list(metrics)
    registry.register(type('Found', (), {'collect': lambda _self: found})())
    return exposition.generate_latest(registry).decode()


def samples(text):
    """The samples of such a text, by name and labels."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in parser.text_string_to_metric_families(text)
        for sample in family.samples
    }
