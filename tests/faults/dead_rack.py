"""Measure the effect of a dead rack: many hosts that fail at the same moment.

::

    python -m tests.faults.dead_rack
    python -m tests.faults.dead_rack --short

Thousands of hosts, whose agents run in three processes. Eight senders post batches of
events for servers that are spread over all hosts. First one process is killed
(``SIGKILL``), a fifth of the hosts, and started again; then all three. Their queues remain,
but are not read. A line is printed for each of these periods. The exit status is 0
only if no event was lost, handled twice or out of order, no event was answered 503, batches for
living hosts were not slower, few messages were logged, and held events were delivered
soon after the restart of the agents. The short form has 500 hosts, and generous limits for
the values that depend on the machine.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import dataclasses
import math
import os
import random
import re
import shutil
import signal
import statistics
import sys
import threading
import time
import uuid

import fixtures
import sqlalchemy as sa

from bench import machine
from tests.faults import broker
from tests.faults import database
from tests.faults import ledger
from tests.faults import load
from tests.faults import site
from tests.faults import stall
from tests.integration import deployment

ACK_TIMEOUT = 2.0

#: Seconds after a kill until batches must not wait for the dead hosts any longer.
SETTLED = 5.0

#: Events of a batch, and batches at a time.
BATCH = 100
SENDERS = 8

SERVERS_PER_HOST = 10

#: Workers of the API, each with a resolver.
WORKERS = 2

#: Messages of the resolver per worker and minute.
MESSAGES = 20

#: The name of each agent process, and its part of the hosts.
PARTS = {'rack-a': 0.2, 'rack-b': 0.3, 'rack-c': 0.5}

#: A log message of a worker that is not about a single request.
_LINE = re.compile(
    r'^\S+ \S+ (?P<pid>\d+) (?P<level>INFO|WARNING|ERROR|CRITICAL) (?P<logger>\S+) (?P<text>.*)$'
)

#: Loggers that write a line for each request (the access log of the API), or for each event that is
#: held or late, which have a limit of their own: see ``resolver.event_log``.
_PER_REQUEST = ('external_events_router.api.', 'external_events_router.resolver.event_log')


@dataclasses.dataclass(frozen=True)
class Form:
    """Size, duration and limits of a run.

    :ivar seconds: duration of each measured period
    :ivar median: seconds that half of the batches may take at most, once the rack is known to be dead
    :ivar slower: how much slower batches for living hosts may be, and seconds on top
    :ivar recovery: seconds after the restart of the agents until all events must be delivered
    """

    hosts: int
    seconds: float
    median: float
    slower: tuple[float, float]
    recovery: float


LONG = Form(hosts=5000, seconds=20.0, median=0.3, slower=(1.2, 0.02), recovery=60.0)
SHORT = Form(hosts=500, seconds=3.0, median=1.0, slower=(3.0, 0.2), recovery=60.0)


class Deployed(deployment.Deployment):
    """The API with a resolver in each worker, and the agents in three processes."""

    def __init__(self, *, parts, **options):
        super().__init__(**options)
        self.parts = parts

    def start(self):
        began = time.monotonic()
        self.agents = {name: self._agents(name, hosts) for name, hosts in self.parts.items()}
        for process in self.agents.values():
            wait_ready(process)
        print(f'{len(self.hosts)} agents started in {time.monotonic() - began:.1f} s', flush=True)
        self.addCleanup(self.kill)
        self.api = self.start_api()

    def _agents(self, name, hosts):
        command = [sys.executable, '-m', 'tests.integration.recording_agent']
        process = deployment.Process(name, [*command, self.config, self.ledger, *hosts], self.folder)
        return self._start(process)

    def kill(self):
        """End all processes at once."""
        for process in self.processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

    def held(self, most=None):
        """Count the held events.

        :param most: stop at this number: a complete count of a large table takes processor time
            that the service needs
        """
        rows = sa.select(sa.literal_column('1')).select_from(sa.table('held_events')).limit(most)
        engine = sa.create_engine(self.connection, poolclass=sa.pool.NullPool)
        with engine.connect() as connection:
            return connection.scalar(sa.select(sa.func.count()).select_from(rows.subquery()))

    def pids(self):
        """The processes of the service, by their roles."""
        return {'API': [self.api.pid], 'agents': [process.pid for process in self.agents.values()]}


class Sender(threading.Thread):
    """Posts batches for chosen hosts, one after the other, for its own servers.

    :ivar answered: the answer for each event
    """

    def __init__(self, poster, servers, *, seed, stop, size=BATCH):
        super().__init__(name=f'sender-{seed}', daemon=True)
        self._poster = poster
        self._servers = servers
        self._rnd = random.Random(seed)
        self._stopped = stop
        self._size = size
        self.answered = []

    def run(self):
        while not self._stopped.is_set():
            servers = self._rnd.sample(self._servers, min(self._size, len(self._servers)))
            self.answered += self._poster.post(servers)


@dataclasses.dataclass
class Row:
    """The measurements of one period.

    :ivar seconds: duration of each batch, sorted
    :ivar codes: code to the number of its answers
    :ivar lasted: duration of the period in seconds
    """

    name: str
    seconds: list
    codes: collections.Counter
    lasted: float

    @property
    def median(self):
        return statistics.median(self.seconds) if self.seconds else math.inf


class Run:
    """One deployment, and the steps of the measurement."""

    def __init__(self, router, book, servers_of, form, seed, *, services):
        """:param services: name to the pids of the supporting services"""
        self.router = router
        self.services = services
        self.book = book
        self.servers_of = servers_of
        self.form = form
        self.seed = seed
        self.stall_monitor = stall.StallMonitor()
        self.stall_monitor.start()
        self.rows = []
        self.problems = []
        self.notes = []

    def measure(self, name, *, parts=tuple(PARTS), seconds=None):
        """Post for a period, and add a row."""
        stop, began = threading.Event(), time.monotonic()
        servers = [server for part in parts for server in self.servers_of[part]]
        senders = [
            Sender(
                load.Poster(self.router.url, self.book, stall_monitor=self.stall_monitor),
                servers[number::SENDERS],
                seed=self.seed * SENDERS + number,
                stop=stop,
            )
            for number in range(SENDERS)
        ]
        for sender in senders:
            sender.start()
        stop.wait(self.form.seconds if seconds is None else seconds)
        stop.set()
        for sender in senders:
            sender.join(deployment.PATIENCE)
        answered = [each for sender in senders for each in sender.answered]
        lasted = time.monotonic() - began
        batches = {(each.sent, each.answered): each.took for each in answered}
        row = Row(
            name, sorted(batches.values()), collections.Counter(str(each.code) for each in answered), lasted
        )
        self.rows.append(row)
        print(as_line(row), flush=True)
        return row

    def kill(self, parts):
        """Kill agent processes."""
        for part in parts:
            os.kill(self.router.agents[part].pid, signal.SIGKILL)
        for part in parts:
            self.router.agents[part].process.wait(deployment.PATIENCE)

    def bring_back(self, parts):
        """Start agent processes again, and wait until nothing is held.

        :returns: seconds after the last was ready
        """
        held = self.router.held()
        began = time.monotonic()
        for part in parts:
            self.router.agents[part].start()
        for part in parts:
            wait_ready(self.router.agents[part])
        ready = time.monotonic()
        groups = {**self.router.pids(), **self.services}
        before = machine.snapshot(groups)
        until = ready + 4 * self.form.recovery
        took = site.waited(lambda: not self.router.held(1), until=until)
        usage = machine.between(before, machine.snapshot(groups))
        self.notes.append(
            f'{held} events were held; agents of {", ".join(parts)} ready after {ready - began:.1f} s, '
            + ('never all delivered' if took is None else f'all delivered {took:.1f} s later')
        )
        self.notes.append(
            '  processor seconds meanwhile: '
            + ', '.join(f'{name} {seconds:.1f}' for name, seconds in usage.groups.items())
            + f'; {usage.other_cores:.1f} of {os.cpu_count()} cores were busy with other processes'
        )
        print('\n'.join(self.notes[-2:]), flush=True)
        if took is None or took > self.form.recovery:
            self.problems.append(f'held events were not delivered within {self.form.recovery:g} s')

    def part_dies(self):
        """A fifth of the hosts dies."""
        living = tuple(PARTS)[1:]
        before = self.measure('all, before')
        living_before = self.measure('living, before', parts=living)
        self.kill(['rack-a'])
        self.measure('all, fifth dead, at once', seconds=SETTLED)
        during = self.measure('all, fifth dead')
        living_during = self.measure('living, fifth dead', parts=living)
        factor, more = self.form.slower
        if living_during.median > living_before.median * factor + more:
            self.problems.append('batches for living hosts were slower while others were dead')
        if during.median > max(self.form.median, before.median * factor + more):
            self.problems.append('batches were slow while a fifth of the hosts was dead')
        self.bring_back(['rack-a'])

    def all_die(self):
        """All hosts die."""
        start = {path: path.stat().st_size for path in self.logs()}
        began = time.monotonic()
        self.kill(PARTS)
        self.measure('all dead, at once', seconds=SETTLED)
        during = self.measure('all dead')
        if during.median > self.form.median:
            self.problems.append(f'half of the batches took longer than {self.form.median:g} s')
        self.bring_back(list(PARTS))
        minutes = math.ceil((time.monotonic() - began) / 60)
        self.measure('all, after')
        self.count_messages(start, minutes)

    def logs(self):
        """The log files of the API."""
        return [self.router.api.log]

    def count_messages(self, start, minutes):
        """Check the number of messages that each worker has logged."""
        counts = collections.Counter()
        kinds = collections.Counter()
        for path, size in start.items():
            with open(path, 'rb') as file:
                file.seek(size)
                for line in file.read().decode(errors='replace').splitlines():
                    match = _LINE.match(line)
                    if match and not match['logger'].startswith(_PER_REQUEST):
                        counts[match['pid']] += 1
                        kinds[match['logger'], re.sub(r'[\d.]+', 'N', match['text'])[:90]] += 1
        most = max(counts.values(), default=0)
        self.notes.append(f'{most} messages of a worker at most, in {minutes} min')
        for (logger, text), number in kinds.most_common(12):
            self.notes.append(f'  {number:>5} x {logger.removeprefix("external_events_router.")}: {text}')
        if most > MESSAGES * minutes:
            self.problems.append(f'{most} messages of a worker in {minutes} min')

    def audit(self):
        """Compare the answers with the handled events."""
        # NOTE: on a loaded machine some events of the last period are still held.
        until = time.monotonic() + self.form.recovery
        if site.waited(lambda: not self.router.held(1), until=until) is None:
            self.problems.append(f'events are still held {self.form.recovery:g} s after the end')
        answered = self.book.answered()
        bound = ACK_TIMEOUT + 1.0
        found = ledger.audit(answered, self.book.handled(), self.book.places, bound=bound)
        for what in ('lost', 'doubled', 'disordered', 'unsent'):
            if tags := getattr(found, what):
                self.problems.append(f'{what}: {len(tags)} events, {", ".join(list(tags)[:5])}')
        refused = [each for each in answered if each.code != 200]
        if refused:
            self.problems.append(f'not answered 200: {len(refused)} events')
        overdue = len(found.overdue)
        self.notes.append(
            f'{len(answered)} events, {len(found.lost)} lost, {len(found.doubled)} doubled, '
            f'{len(found.disordered)} out of order, {overdue} answered after {bound:g} s, '
            f'{len(found.late)} delivered after their answer'
        )


def main():
    """Measure and print the results.

    :returns: the exit status
    """
    parser = argparse.ArgumentParser(prog='python -m tests.faults.dead_rack')
    parser.add_argument('--short', action='store_true', help='500 hosts, and generous limits')
    parser.add_argument('--hosts', type=int, help='number of hosts, instead of 5,000 or 500')
    parser.add_argument('--seconds', type=float, help='duration of each measured period')
    parser.add_argument('--keep', help='copy the logs into this folder')
    site.add_set_argument(parser)
    parser.add_argument('--seed', type=int, default=1)
    args = parser.parse_args()
    form = SHORT if args.short else LONG
    form = dataclasses.replace(form, hosts=args.hosts or form.hosts, seconds=args.seconds or form.seconds)
    # NOTE: 128 MiB is MariaDB's default. 90,000 held events of 50,000 servers take 110 MB.
    with broker.Broker() as rabbit, database.MariaDB(buffer_pool=128) as server:
        return _run(rabbit, server, form, args)


def _run(rabbit, server, form, args):
    hosts = [f'host-{number:05d}' for number in range(form.hosts)]
    parts, at = {}, 0
    for name, part in PARTS.items():
        parts[name] = hosts[at : at + round(part * form.hosts)]
        at += len(parts[name])
    servers_of = {
        name: [(str(uuid.uuid4()), host) for _ in range(SERVERS_PER_HOST) for host in part]
        for name, part in parts.items()
    }
    hosts_of = {server: [host] for pairs in servers_of.values() for server, host in pairs}
    router = Deployed(
        parts=parts,
        transport_url=rabbit.url(),
        connection=server.url,
        hosts=hosts,
        hosts_of=hosts_of,
        **{'delivery__ack_timeout': ACK_TIMEOUT, 'api__workers': WORKERS, **dict(args.set)},
    )
    with router:
        book = load.Book(router.ledger)
        for uuid_, placed in hosts_of.items():
            book.place(uuid_, placed)
        run = Run(
            router,
            book,
            {name: [server for server, _host in pairs] for name, pairs in servers_of.items()},
            form,
            args.seed,
            services={'broker': [rabbit.process.pid], 'database': [server.process.pid]},
        )
        try:
            run.part_dies()
            run.all_die()
            run.audit()
        finally:
            if args.keep:
                shutil.copytree(router.folder, args.keep, dirs_exist_ok=True)
    print()
    print('\n'.join([HEAD, *map(as_line, run.rows), *run.notes]))
    print('\n'.join(run.problems) or 'all was well')
    return 1 if run.problems else 0


def wait_ready(process):
    """Wait until an agent process listens for all of its hosts."""
    until = time.monotonic() + 5 * deployment.PATIENCE
    while 'ready\n' not in process.text():
        if process.process.poll() is not None or time.monotonic() > until:
            raise AssertionError(f'{process.name} is not ready:\n{process.text()[-4000:]}')
        time.sleep(0.1)


HEAD = (
    f'{"":<26}'
    + ''.join(f'{head:>12}' for head in ('batches', 'events/s', 'median ms', '99 % ms', 'longest ms'))
    + '  codes'
)


def as_line(row):
    """A row of the table."""
    seconds = row.seconds or [math.inf]
    most = seconds[math.ceil(0.99 * len(seconds)) - 1]
    codes = ', '.join(f'{count} x {code}' for code, count in sorted(row.codes.items()))
    return (
        f'{row.name:<26}{len(row.seconds):>12}{row.codes.total() / row.lasted:>12.0f}'
        f'{row.median * 1000:>12.1f}{most * 1000:>12.1f}{seconds[-1] * 1000:>12.1f}  {codes}'
    )


def _end(number, frame):
    """Raise an exception, so that all processes are ended, too."""
    sys.exit(128 + number)


if __name__ == '__main__':
    signal.signal(signal.SIGTERM, _end)
    with fixtures.Timeout(1800, gentle=True):
        sys.exit(main())
