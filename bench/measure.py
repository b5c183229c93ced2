"""One measurement: a load for some seconds, and the resources that it used."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
import dataclasses
import time

from bench import load
from bench import machine


@dataclasses.dataclass(frozen=True)
class Target:
    """The measured service.

    :ivar url: URL of the resource
    :ivar events: events that it accepts: a sequence of ``answers.Posted``
    :ivar groups: function that returns the current pids by group, whose CPU is counted
    :ivar headers: additional header lines of each request
    """

    name: str
    url: str
    events: list
    groups: Callable[[], Mapping[str, list[int]]]
    headers: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Run:
    """The results of one load.

    :ivar latencies: seconds of each request, sorted
    :ivar cpu: group to seconds of CPU
    :ivar other_cores: cores that other processes used
    :ivar problems: description of a problem to its number; empty if every answer was correct
    :ivar codes: code to the number of its events
    """

    batch: int
    concurrency: int
    events: int
    seconds: float
    latencies: list[float]
    cpu: Mapping[str, float]
    load_cpu: float
    other_cores: float
    problems: Mapping[str, int]
    codes: Mapping[int, int] = dataclasses.field(default_factory=dict)

    @property
    def rate(self):
        """Events per second."""
        return self.events / self.seconds if self.seconds else 0.0

    def percentile(self, part):
        """Milliseconds within which a fraction of the requests was answered."""
        if not self.latencies:
            return float('nan')
        return 1000 * self.latencies[min(len(self.latencies) - 1, int(part * len(self.latencies)))]

    def cpu_per_event(self, *groups):
        """Milliseconds of CPU that some groups used together for an event."""
        return 1000 * sum(self.cpu.get(group, 0.0) for group in groups) / max(1, self.events)


def run(target, *, batch, concurrency, seconds, limit=None):
    """Run a load on a target.

    :param limit: maximum number of batches
    """
    groups = target.groups()
    before, own = machine.snapshot(groups), time.process_time()
    stream = load.Stream(concurrency, batch, target.events, limit)
    (progress,) = load.run(target.url, [stream], seconds=seconds, headers=target.headers)
    own = time.process_time() - own
    usage = machine.between(before, machine.snapshot(groups), own=own)
    return Run(
        batch,
        concurrency,
        progress.events,
        progress.seconds,
        sorted(progress.latencies),
        usage.groups,
        own,
        usage.other_cores,
        dict(progress.problems),
        dict(progress.codes),
    )
