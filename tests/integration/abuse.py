"""A good sender beside a bad one, measured: latency, memory, and how the abuse ended.

Run as a command, it prints the table of the documentation, measured with the default options
of the service, and exits with 0 only if every row is within its limits::

    python -m tests.integration.abuse --full

RabbitMQ and a database as in the other integration tests. ``--only NAME`` does
one attack, ``--option api__threads=8`` changes the configuration.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import http.client
import json
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import threading
import time

from tests.integration import attacks
from tests.integration import deployment
from tests.integration import services

HOST = 'host-a'

#: Seconds between two posts of the good sender.
PAUSE = 0.05

#: Seconds between two looks at the memory of the API.
SAMPLE = 0.1

#: Seconds in which the good sender's slowest post must be answered, at the attack's worst.
SLOWEST = 10.0

#: The same on a machine that does other things too, where only an answer can be wanted.
EVER = 60.0

#: Seconds that the good sender is alone before an attack of the long form.
ALONE = 10.0

#: How a connection ends that the service has not ended when the attack is over.
STILL_OPEN = 'open at the end'

#: MiB that an API worker may grow by.
GROWTH = 300


class GoodSender(threading.Thread):
    """Posts an event again and again, each on a connection of its own.

    :ivar seconds: that each answer took, from before the connection was made
    :ivar failures: descriptions of the answers other than 200
    """

    def __init__(self, port):
        super().__init__(name='good sender', daemon=True)
        self.port = port
        self.seconds, self.failures = [], []
        self.stopped = threading.Event()

    def run(self):
        body = json.dumps({'events': [{'name': 'network-changed', 'server_uuid': attacks.SERVER}]})
        while not self.stopped.is_set():
            began = time.monotonic()
            try:
                with contextlib.closing(
                    http.client.HTTPConnection('127.0.0.1', self.port, timeout=EVER)
                ) as connection:
                    connection.request('POST', attacks.PATH, body, {'Content-Type': 'application/json'})
                    answer = connection.getresponse()
                    if answer.status != 200:
                        self.failures.append(f'{answer.status}: {answer.read()[:100]!a}')
            except (OSError, http.client.HTTPException) as exc:
                self.failures.append(f'{type(exc).__name__}: {exc}')
            self.seconds.append(time.monotonic() - began)
            self.stopped.wait(PAUSE)

    def stop(self):
        """Post no more."""
        self.stopped.set()
        self.join()

    def milliseconds(self):
        """The median, the 99th percentile, and the longest."""
        if len(self.seconds) < 2:
            self.seconds.append(self.seconds[-1])
        hundredths = statistics.quantiles(self.seconds, n=100, method='inclusive')
        return tuple(1000 * value for value in (hundredths[49], hundredths[98], max(self.seconds)))


class Memory(threading.Thread):
    """Looks at the resident memory of the API's workers.

    :ivar peak: MiB, of the worker that had most
    """

    def __init__(self, pid):
        super().__init__(name='memory', daemon=True)
        self.pid, self.peak = pid, 0.0
        self.stopped = threading.Event()

    def run(self):
        while not self.stopped.wait(SAMPLE):
            self.peak = max(self.peak, self.now())

    def now(self):
        """MiB, of the worker that has most."""
        return max(map(resident, workers(self.pid)), default=0.0)

    def stop(self):
        """Look no more."""
        self.stopped.set()
        self.join()
        self.peak = max(self.peak, self.now())


def workers(pid):
    """The worker processes of the API; multiprocessing has another helper of its own."""
    found = []
    for child in services.children(pid):
        if b'resource_tracker' not in pathlib.Path(f'/proc/{child}/cmdline').read_bytes():
            found.append(child)
    return found


def resident(pid):
    """MiB of a process."""
    status = pathlib.Path(f'/proc/{pid}/status').read_text()
    return int(status.split('VmRSS:')[1].split()[0]) / 1024


@dataclasses.dataclass
class Row:
    """The results of one attack."""

    name: str
    report: dict
    before: float
    peak: float
    after: float
    alone: tuple[float, float, float]
    beside: tuple[float, float, float]
    failures: list[str]
    pids: bool

    def problems(self, *, slowest=SLOWEST):
        """The violated limits, as sentences.

        :param slowest: seconds that a post of the good sender may take
        """
        if self.failures:
            yield f'{len(self.failures)} posts of the good sender failed: {self.failures[0]}'
        if self.beside[2] > slowest * 1000:
            yield f'a post of the good sender took {self.beside[2] / 1000:.1f} s'
        if self.peak - self.before > GROWTH:
            yield f'an API worker grew by {self.peak - self.before:.0f} MiB'
        ended = set(self.report['ends']) - {STILL_OPEN}
        expected = attacks.ATTACKS[self.name].ends
        if expected and (not ended or ended - expected):
            yield f'connections ended otherwise than by {sorted(expected)}'
        if not self.pids:
            yield 'an API worker died'

    def cells(self):
        """As texts."""
        report = self.report
        sent = f'{report["opened"]} connections'
        if report['requests']:
            sent += f', {report["requests"]} requests'
        sent += f', {report["bytes"] / attacks.MIB:.1f} MiB'
        ends = ', '.join(f'{end}: {count}' for end, count in sorted(report['ends'].items()))
        return (
            f'{self.name}: {attacks.ATTACKS[self.name].text}',
            sent,
            f'{ends}; longest {report["longest"]:.1f} s',
            f'{self.before:.0f} / {self.peak:.0f} / {self.after:.0f}',
            ' / '.join(f'{value:.0f}' for value in self.alone),
            ' / '.join(f'{value:.0f}' for value in self.beside),
        )


TITLES = (
    'attack',
    'sent',
    'how its connections ended',
    'MiB before / peak / after',
    'good sender alone: p50 / p99 / longest, ms',
    'beside it',
)


class Measure:
    """A deployment, and what attacks do to it."""

    def __init__(self, router):
        self.router = router
        self.alone = None

    def good_alone(self, seconds):
        """Measure the good sender without an attack."""
        sender = GoodSender(self.router.port)
        sender.start()
        time.sleep(seconds)
        sender.stop()
        if sender.failures:
            raise AssertionError(sender.failures[0])
        self.alone = sender.milliseconds()

    def attack(self, name, connections, seconds):
        """Do it, with the good sender and a look at the memory beside it."""
        pid = self.router.api.pid
        memory, sender, pids = Memory(pid), GoodSender(self.router.port), workers(pid)
        before = memory.now()
        memory.start()
        command = [sys.executable, '-m', 'tests.integration.attacks', name, str(self.router.port)]
        command += ['--connections', str(connections), '--seconds', str(seconds)]
        attacker = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=deployment.ROOT)
        try:
            sender.start()
            report = json.loads(attacker.communicate(timeout=seconds + 2 * attacks.PATIENCE)[0])
        finally:
            attacker.kill()
            attacker.wait()
            sender.stop()
            memory.stop()
        return Row(
            name=name,
            report=report,
            before=before,
            peak=memory.peak,
            after=memory.now(),
            alone=self.alone,
            beside=sender.milliseconds(),
            failures=sender.failures,
            pids=workers(pid) == pids,
        )


def deploy(stack, database, **options):
    """A deployment with one host and one server; all of it ends with the stack."""
    broker = services.RabbitMQ()
    for fixture in (broker, database):
        fixture.setUp()
        stack.callback(fixture.cleanUp)
    router = deployment.Deployment(
        transport_url=broker.url,
        connection=database.url,
        hosts=[HOST],
        hosts_of={attacks.SERVER: [HOST]},
        **options,
    )
    router.setUp()
    stack.callback(router.cleanUp)
    return router


def allow_files():
    """Attacks take more descriptors than most systems allow a process at first."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def as_table(rows):
    """In reStructuredText."""
    lines = ['.. list-table::', '   :header-rows: 1', '   :widths: 22 20 22 12 12 12', '']
    for cells in (TITLES, *(row.cells() for row in rows)):
        lines += [f'   {"*" if not i else " "} - {cell}' for i, cell in enumerate(cells)]
    return '\n'.join(lines)


def main():
    """Do them all, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--full', action='store_true', help='thousands of connections, at the defaults')
    parser.add_argument('--only', nargs='*', choices=attacks.ATTACKS, help='these attacks')
    parser.add_argument('--option', nargs='*', default=[], metavar='GROUP__OPTION=VALUE')
    args = parser.parse_args()
    allow_files()
    options = dict(option.split('=', 1) for option in args.option)
    defaults = {'delivery__ack_timeout': 2.0} if args.full else SHORT_OPTIONS
    rows = []
    with contextlib.ExitStack() as stack:
        router = deploy(stack, services.MySQL(), **{**defaults, **options})
        measure = Measure(router)
        measure.good_alone(3)
        print(f'{os.cpu_count()} processors, load {os.getloadavg()[1]:.1f} before', flush=True)
        for name in args.only or attacks.ATTACKS:
            attack = attacks.ATTACKS[name]
            if args.full:
                # NOTE: each time, for others may have come or gone.
                measure.good_alone(ALONE)
            rows.append(measure.attack(name, *(attack.full if args.full else attack.short)))
            print(' | '.join(rows[-1].cells()), *rows[-1].problems(), sep='\n    ', flush=True)
    print()
    print(as_table(rows))
    return 1 if any(list(row.problems()) for row in rows) else 0


#: Options with smaller values in the short form, so that it takes less time.
SHORT_OPTIONS = {
    'delivery__ack_timeout': 3.0,
    'api__threads': 8,
    'api__max_connections': 48,
    'api__idle_timeout': 2.0,
    'api__request_timeout': 1.0,
    'api__max_body_memory': 8 * attacks.MIB,
}


if __name__ == '__main__':
    sys.exit(main())
