"""One measurement: a load for some seconds, and what it took of whom."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
import dataclasses
import time

from bench import load
from bench import machine


@dataclasses.dataclass(frozen=True)
class Target:
    """What is loaded.

    :ivar url: of the resource
    :ivar events: what may be posted to it: a sequence of ``answers.Posted``
    :ivar groups: whose CPU is counted: called for name to pids, anew each time
    :ivar headers: lines of each request, beside those that are always sent
    """

    name: str
    url: str
    events: list
    groups: Callable[[], Mapping[str, list[int]]]
    headers: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Run:
    """What came of one load.

    :ivar latencies: seconds of each request, sorted
    :ivar cpu: group to seconds of CPU
    :ivar other_cores: cores that were busy with something else
    :ivar problems: in words; empty: every answer was the right one
    :ivar codes: how many events were answered with which code
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
        """Milliseconds within which a part of the requests was answered."""
        if not self.latencies:
            return float('nan')
        return 1000 * self.latencies[min(len(self.latencies) - 1, int(part * len(self.latencies)))]

    def cpu_per_event(self, *groups):
        """Milliseconds of CPU that some groups took together for an event."""
        return 1000 * sum(self.cpu.get(group, 0.0) for group in groups) / max(1, self.events)


def run(target, *, batch, concurrency, seconds, limit=None):
    """Load a target.

    :param limit: batches at most
    """
    groups = target.groups()
    before, own = machine.snapshot(groups), time.process_time()
    stream = load.Stream(concurrency, batch, target.events, limit)
    (tally,) = load.run(target.url, [stream], seconds=seconds, headers=target.headers)
    own = time.process_time() - own
    usage = machine.between(before, machine.snapshot(groups), own=own)
    return Run(
        batch,
        concurrency,
        tally.events,
        tally.seconds,
        sorted(tally.latencies),
        usage.groups,
        own,
        usage.other_cores,
        dict(tally.problems),
        dict(tally.codes),
    )
