"""The scenarios, one function each. Each starts its deployment and prints its table.

A function gets the options of the command, and returns the data for a plot or for
the JSON file.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import os
import random
import signal
import statistics
import time

from bench import answers
from bench import broker
from bench import fanout
from bench import load
from bench import machine
from bench import measure
from bench import site
from bench import tables

GRID = ((1, 1), (1, 16), (10, 1), (10, 16), (100, 1), (100, 16))

#: Groups of the API and of the resolver, which is embedded in the API or separate.
ROUTER = ('api', 'resolver')

#: Batch sizes for the hold, and the code of an event that was neither delivered nor held.
HOLD_BATCHES = (1, 10, 100)
UNDELIVERED = 503

#: The name of a deployment whose journal is off.
WITHOUT_JOURNAL = 'without journal'

#: Seconds of load before the first measurement.
WARM_UP = 4.0


def of_router(running, *, name='service', events=None):
    """A running deployment, as a target."""
    made = events or answers.make(running.posted, random.Random(1))
    return measure.Target(name, running.resource, made, lambda: running.groups)


@contextlib.contextmanager
def _site(asked, **kind):
    with site.Site(site.Kind(database=asked.database, resolver=asked.resolver, **kind)) as running:
        yield running


def warm(*targets):
    """Run a load until all connections, caches and code paths were used."""
    for target in targets:
        measure.run(target, batch=10, concurrency=16, seconds=WARM_UP)


def grid(options):
    """Batches of each size at concurrency 1 and 16, alternating with another implementation."""
    with contextlib.ExitStack() as stack:
        targets = [of_router(stack.enter_context(_site(options))), *options.against]
        if options.journal:
            # NOTE: a second deployment with this difference, so that both are measured alternately.
            plain = stack.enter_context(_site(options, options=(('journal__record', 'none'),)))
            targets.append(of_router(plain, name=WITHOUT_JOURNAL))
        warm(*targets)
        runs = {}
        for _ in range(options.rounds):
            # NOTE: alternating, so that other load of the machine affects all targets equally.
            for batch, concurrency in GRID:
                for target in targets:
                    made = measure.run(target, batch=batch, concurrency=concurrency, seconds=options.seconds)
                    runs.setdefault((target.name, batch, concurrency), []).append(made)
        messages = {batch: _messages(targets[0], batch, options.seconds) for batch in (1, 10, 100)}
    _show_grid(runs, messages)
    for other in targets[1:]:
        _show_ratios(runs, other.name)
    return {'runs': [_record(name, run) for (name, *_), many in runs.items() for run in many]}


def _messages(target, batch, seconds):
    """The messages that the broker received for an event, at concurrency 16."""
    before = broker.taken_in()
    if before is None:
        return None
    made = measure.run(target, batch=batch, concurrency=16, seconds=seconds)
    return (broker.taken_in() - before) / max(1, made.events)


def _messages_cell(number):
    return '' if number is None else number


def _show_grid(runs, messages):
    heads = ['', 'batch', 'conc', 'events/s', 'p50 ms', 'p95 ms', 'p99 ms', 'router', 'agents', 'broker']
    heads += ['database', 'messages', 'others', 'wrong']
    rows = []
    for (name, batch, concurrency), many in sorted(
        runs.items(), key=lambda item: (item[0][0] != 'service', item[0])
    ):
        rows.append(
            [
                *(name, batch, concurrency, tables.median(many, lambda run: run.rate)),
                *(
                    tables.median(many, lambda run, part=part: run.percentile(part))
                    for part in (0.5, 0.95, 0.99)
                ),
                tables.median(many, lambda run: run.cpu_per_event(*ROUTER)),
                *(
                    tables.median(many, lambda run, group=group: run.cpu_per_event(group))
                    for group in ('agents', 'broker', 'database')
                ),
                messages[batch]
                if name == 'service' and concurrency > 1 and messages[batch] is not None
                else '',
                tables.median(many, lambda run: run.other_cores),
                sum(sum(run.problems.values()) for run in many),
            ]
        )
    title = (
        'Medians. router, agents, broker, database: CPU in ms per event; messages: received by the broker '
        'per event; others: cores used by other processes; wrong: answers that were not as expected.'
    )
    tables.show(heads, rows, title=title)


def _show_ratios(runs, other):
    rows = []
    for (name, batch, concurrency), many in runs.items():
        if name != 'service':
            continue
        of_other = runs[other, batch, concurrency]
        rows.append(
            [
                *(batch, concurrency),
                *_ratios(many, of_other, lambda run: run.rate),
                *_ratios(of_other, many, lambda run: run.percentile(0.5)),
                *_ratios(of_other, many, lambda run: run.cpu_per_event(*ROUTER)),
            ]
        )
    heads = ['batch', 'conc', 'events/s', 'best', 'p50', 'best', 'CPU', 'best']
    title = (
        f'Ratios to {other}: of the medians, and of the best rounds. events/s service : other; '
        'p50 and CPU of api and resolver per event other : service.'
    )
    tables.show(heads, rows, title=title)


def _ratios(upper, lower, figure):
    """The ratio of the medians and of the best values; the best is the maximum of rates, else the minimum."""
    best = max if figure(upper[0]) and upper[0].rate == figure(upper[0]) else min
    return (
        tables.median(upper, figure) / tables.median(lower, figure),
        best(map(figure, upper)) / best(map(figure, lower)),
    )


def _record(name, run):
    kept = dataclasses.asdict(run) | {'name': name, 'rate': run.rate, 'p50': run.percentile(0.5)}
    kept |= {'p95': run.percentile(0.95), 'p99': run.percentile(0.99), 'router': run.cpu_per_event(*ROUTER)}
    del kept['latencies']
    return kept


def idle(options):
    """One request at a time, with coalescing and without: an idle router must not delay a request."""
    with (
        _site(options) as together,
        _site(options, options=(('compute__coalesce', 'false'),)) as apart,
    ):
        return _in_turns(
            options,
            {'together': of_router(together), 'apart': of_router(apart)},
            batch=1,
            concurrency=1,
            title='Batch 1, one at a time: with coalescing and without.',
        )


def big_map(options):
    """A map of a million servers on ten thousand hosts, compared with two thousand on a hundred."""
    with _site(options) as small, _site(options, servers=1_000_000, hosts=10_000) as large:
        targets = {'2,000 servers': of_router(small), '1,000,000 servers': of_router(large)}
        return [
            _in_turns(options, targets, batch=batch, concurrency=1, title=f'Batch {batch}, one at a time.')
            for batch in (1, 100)
        ]


def _in_turns(options, targets, *, batch, concurrency, title):
    warm(*targets.values())
    runs = {name: [] for name in targets}
    for _ in range(options.rounds):
        for name, target in targets.items():
            runs[name].append(
                measure.run(target, batch=batch, concurrency=concurrency, seconds=options.seconds)
            )
    first, second = runs.values()
    rows = [
        [
            name,
            tables.median(many, lambda run: run.percentile(0.5)),
            min(run.percentile(0.5) for run in many),
            tables.median(many, lambda run: run.cpu_per_event(*ROUTER)),
            sum(sum(run.problems.values()) for run in many),
        ]
        for name, many in runs.items()
    ]
    tables.show(['', 'p50 ms', 'best p50', 'router', 'wrong'], rows, title=title)
    ratio = statistics.median(
        b.percentile(0.5) / a.percentile(0.5) for a, b in zip(first, second, strict=True)
    )
    print(f'second : first, for each pair of rounds, median {ratio:.3f}')
    return {'ratio': ratio, 'runs': [_record(name, run) for name, many in runs.items() for run in many]}


def agents(options):
    """CPU of the agents per event, with one handler and without handlers, at concurrency 16."""
    with _site(options) as handling, _site(options, handler=False) as plain:
        targets = {'one handler': of_router(handling), 'no handler': of_router(plain)}
        warm(*targets.values())
        runs = {}
        for _ in range(options.rounds):
            for batch in (1, 10, 100):
                for name, target in targets.items():
                    made = measure.run(target, batch=batch, concurrency=16, seconds=options.seconds)
                    runs.setdefault((name, batch), []).append(made)
    rows = [
        [
            *(name, batch, tables.median(many, lambda run: run.rate)),
            tables.median(many, lambda run: run.cpu_per_event('agents')),
            min(run.cpu_per_event('agents') for run in many),
            tables.median(many, lambda run: run.cpu_per_event('broker')),
            tables.median(many, lambda run: run.other_cores),
            sum(sum(run.problems.values()) for run in many),
        ]
        for (name, batch), many in runs.items()
    ]
    heads = ['', 'batch', 'events/s', 'agents', 'best', 'broker', 'others', 'wrong']
    tables.show(heads, rows, title='agents, broker: CPU in ms per event; others: cores of other processes.')
    return {'runs': [_record(name, run) for (name, _batch), many in runs.items() for run in many]}


def wide(options):
    """A batch of 1,000 events for 500 hosts: publishing by the service compared with kombu."""
    rounds = fanout.compare(hosts=500, events=1000, rounds=max(5, options.rounds * 3))
    rows = [
        [name, 1000 * statistics.median(seconds), 1000 * min(seconds)] for name, seconds in rounds.items()
    ]
    tables.show(
        ['', 'ms', 'best ms'],
        rows,
        title='Publishing 1,000 events to 500 hosts, until the last confirm; the same bodies, alternating.',
    )
    ratio = statistics.median(a / b for a, b in zip(rounds['service'], rounds['kombu'], strict=True))
    print(f'service : kombu, for each pair of rounds, median {ratio:.2f}')
    return {'ratio': ratio, 'rounds': rounds}


def dead_host(options):
    """The other ninety-nine hosts, before and while one is stopped (SIGSTOP)."""
    with _site(options) as running:
        last = list(running.on_host)[-1]
        others = [server for host, servers in running.on_host.items() if host != last for server in servers]
        target = of_router(running, events=answers.make(others, random.Random(1)))
        dead = of_router(running, events=answers.make(running.on_host[last], random.Random(1)))
        warm(target)
        runs = {'before': [], 'while one is dead': []}
        for _ in range(options.rounds):
            runs['before'].append(measure.run(target, batch=10, concurrency=8, seconds=options.seconds))
        os.killpg(running.last_agent.pid, signal.SIGSTOP)
        try:
            for _ in range(options.rounds):
                # Events for the dead host are still posted and held.
                measure.run(dead, batch=1, concurrency=1, seconds=options.seconds, limit=4)
                runs['while one is dead'].append(
                    measure.run(target, batch=10, concurrency=8, seconds=options.seconds)
                )
        finally:
            os.killpg(running.last_agent.pid, signal.SIGCONT)
    rows = [
        [
            name,
            *(tables.median(many, lambda run, part=part: run.percentile(part)) for part in (0.5, 0.99)),
            max(run.percentile(1.0) for run in many),
            tables.median(many, lambda run: run.rate),
            sum(sum(run.problems.values()) for run in many),
        ]
        for name, many in runs.items()
    ]
    tables.show(
        ['', 'p50 ms', 'p99 ms', 'longest', 'events/s', 'wrong'],
        rows,
        title='Batches of 10 for the other hosts, concurrency 8.',
    )
    return {'runs': [_record(name, run) for name, many in runs.items() for run in many]}


def hold(options):
    """Events that are held, because the broker was killed, compared with events that are delivered."""
    with _site(options, own_broker=True) as running:
        target = of_router(running)
        warm(target)
        runs = {('delivered', batch): [] for batch in HOLD_BATCHES}
        for _ in range(options.rounds):
            for batch in HOLD_BATCHES:
                runs['delivered', batch].append(
                    measure.run(target, batch=batch, concurrency=16, seconds=options.seconds)
                )
        running.broker.kill()
        # Events in flight at the time of the kill are not measured.
        warm(target)
        for _ in range(options.rounds):
            for batch in HOLD_BATCHES:
                running.forget_held()
                runs.setdefault(('held', batch), []).append(
                    measure.run(target, batch=batch, concurrency=16, seconds=options.seconds)
                )
    _show_hold(runs)
    return {'runs': [_record(name, run) for (name, _batch), many in runs.items() for run in many]}


def _show_hold(runs):
    rows = []
    for batch in HOLD_BATCHES:
        delivered, held = runs['delivered', batch], runs['held', batch]
        codes = sum((collections.Counter(run.codes) for run in held), collections.Counter())
        rate = tables.median(held, lambda run: run.rate)
        usual = tables.median(delivered, lambda run: run.rate)
        rows.append(
            [
                *(batch, usual, rate, rate / usual),
                *(tables.median(held, lambda run, part=part: run.percentile(part)) for part in (0.5, 0.99)),
                *(tables.median(many, lambda run: run.cpu_per_event(*ROUTER)) for many in (delivered, held)),
                tables.median(held, lambda run: run.cpu_per_event('database')),
                ', '.join(f'{count} x {code}' for code, count in sorted(codes.items())),
                f'{100 * codes[UNDELIVERED] / max(1, codes.total()):.3f} %',
            ]
        )
    heads = ['batch', 'delivered/s', 'held/s', 'ratio', 'held p50 ms', 'p99 ms', 'router', 'router held']
    heads += ['database held', 'codes', '503']
    tables.show(
        heads,
        rows,
        title='Events per second at concurrency 16. Medians; router, database: CPU in ms per event.',
    )


def storm(options):
    """10,000 network-changed events at once, as after a restart of the network service."""
    with _site(options) as running:
        events = answers.make(running.posted, random.Random(1), name='network-changed')
        target = of_router(running, events=events)
        warm(target)
        rows, records = [], []
        for batch in (1, 10, 100):
            handled = _settled(running)
            began = time.monotonic()
            made = measure.run(target, batch=batch, concurrency=16, seconds=120, limit=10_000 // batch)
            while running.handled() - handled < made.events and time.monotonic() < began + 150:
                time.sleep(0.05)
            there = running.handled() - handled
            rows.append(
                [batch, made.seconds, made.rate, made.percentile(0.99), there, sum(made.problems.values())]
            )
            records.append(_record('service', made))
    tables.show(
        ['batch', 'seconds', 'events/s', 'p99 ms', 'handled', 'wrong'],
        rows,
        title='10,000 network-changed events in batches of each size, concurrency 16.',
    )
    return {'runs': records}


def _settled(running):
    """The number of events that the agents have handled, as soon as it does not change any longer."""
    handled = None
    while handled != (handled := running.handled()):
        time.sleep(1.0)
    return handled


def memory(options):
    """Resident memory during minutes of mixed load."""
    minutes = options.minutes
    with _site(options) as running:
        events = answers.make(running.posted, random.Random(1))
        pids = {
            name: running.groups[name] for name in ('api', 'resolver', 'agents') if name in running.groups
        }
        curve = [{name: _worker(found) for name, found in _resident(pids).items()}]
        wrong = 0
        for _ in range(minutes):
            streams = [load.Stream(8, 1, events), load.Stream(4, 10, events), load.Stream(1, 100, events)]
            tallies = load.run(running.resource, streams, seconds=60)
            wrong += sum(progress.problems.total() for progress in tallies)
            curve.append({name: _worker(found) for name, found in _resident(pids).items()})
    rows = [[minute, *(row[name] for name in pids)] for minute, row in enumerate(curve)]
    tables.show(
        ['minute', *pids],
        rows,
        title=f'MiB resident, the largest process of each kind; {wrong} wrong answers.',
    )
    return {'curve': curve}


def _resident(pids):
    return {name: machine.resident(found) for name, found in pids.items()}


def _worker(resident):
    """The memory of the largest process, which is a worker and not its parent."""
    return max(resident.values())


ALL = {
    scenario.__name__.replace('_', '-'): scenario
    for scenario in (grid, agents, wide, idle, big_map, dead_host, hold, storm, memory)
}
