"""A long mixed load on the service as an operator runs it, held against the agents' own record.

Run as a command; it ends by itself and exits 0 only if nothing was lost, nothing
was handled twice, every code was the expected one, and no process grew::

    python -m tests.integration.soak --minutes 10

RabbitMQ and a database as in the other integration tests; 100 hosts with 2,000
servers, some of them migrating or on no host. Senders post batches of 1 to 200
events, one after the other, each event with a tag of its own.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import pathlib
import random
import statistics
import threading
import time
import uuid

import fixtures
import requests

from tests.faults import ledger
from tests.integration import deployment
from tests.integration import services

HOSTS = [f'host-{number:03d}' for number in range(100)]
SERVERS = 2000
BATCH_SIZES = (1, 1, 1, 2, 5, 10, 20, 50, 100, 200)

#: Seconds between two looks at the memory of every process.
SAMPLE_INTERVAL = 5.0

#: The fourth and the last fifth of the run are compared: by the fourth, caches are
#: full and the allocator has what it needs. A process that still grows then by
#: more than this part of its memory, a fifth of the run, grows for ever.
EARLY, LATE = 0.6, 0.8
GROWTH_RATIO = 1.02


def host_map(rnd):
    """Server to its hosts: one in fifty migrates, one in fifty is on no host."""
    hosts_of = {}
    for number in range(SERVERS):
        server = str(uuid.UUID(int=rnd.getrandbits(128), version=4))
        count = {0: 0, 1: 2}.get(number % 50, 1)
        hosts_of[server] = rnd.sample(HOSTS, count)
    return hosts_of


class Sender(threading.Thread):
    """Posts batches until it is stopped, and stores the answers.

    :ivar answers: tag to its server and code
    :ivar surprises: what should not have come, in words
    """

    def __init__(self, url, hosts_of, seed, pause, stop):
        super().__init__(name=f'sender-{seed}')
        self.url, self.hosts_of, self.pause, self.stop_event = url, hosts_of, pause, stop
        self.rnd = random.Random(seed)
        self.servers = list(hosts_of)
        self.unknown = [str(uuid.UUID(int=self.rnd.getrandbits(128), version=4)) for _ in range(3)]
        self.answers, self.surprises, self.seconds = {}, [], []
        self.session = requests.Session()
        self.number = 0

    def run(self):
        while not self.stop_event.is_set():
            batch = [self.event() for _ in range(self.rnd.choice(BATCH_SIZES))]
            try:
                self.post(batch)
            except (requests.RequestException, ValueError, KeyError) as exc:
                self.surprises.append(f'{type(exc).__name__}: {exc}')
            self.stop_event.wait(self.pause)

    def event(self):
        self.number += 1
        known = self.rnd.random() > 0.01
        return {
            'name': self.rnd.choice(('network-changed', 'network-vif-plugged', 'network-vif-unplugged')),
            'server_uuid': self.rnd.choice(self.servers if known else self.unknown),
            'tag': f'{self.name}.{self.number}',
        }

    def post(self, batch):
        began = time.monotonic()
        answer = self.session.post(
            self.url,
            json={'events': batch},
            headers={'X-OpenStack-Request-ID': f'req-{uuid.UUID(int=self.rnd.getrandbits(128), version=4)}'},
            timeout=deployment.PATIENCE,
        )
        self.seconds.append(time.monotonic() - began)
        if answer.status_code == 404 and all(event['server_uuid'] in self.unknown for event in batch):
            return
        answered = answer.json()['events']
        if len(answered) != len(batch):
            raise ValueError(f'{len(answered)} answers to {len(batch)} events')
        for event, outcome in zip(batch, answered, strict=True):
            self.answers[event['tag']] = (event['server_uuid'], outcome['code'])
            expected = self.expected(event['server_uuid'])
            if outcome['code'] != expected:
                self.surprises.append(f'{outcome["code"]} instead of {expected}')

    def expected(self, server):
        if server not in self.hosts_of:
            return 404
        return 200 if self.hosts_of[server] else 422


class Memory(threading.Thread):
    """Measures the resident memory of processes and their children until it is stopped.

    :ivar samples: name of the process to pairs of seconds and KiB
    """

    def __init__(self, processes, stop):
        super().__init__(name='memory')
        self.processes, self.stop_event = processes, stop
        self.samples = collections.defaultdict(list)

    def run(self):
        began = time.monotonic()
        while not self.stop_event.wait(SAMPLE_INTERVAL):
            for process in self.processes:
                for number, pid in enumerate((process.pid, *services.children(process.pid))):
                    name = f'{process.name} {number or "main"}'
                    self.samples[name].append((time.monotonic() - began, _resident(pid)))

    def table(self, seconds):
        """Name, early and late median and the median of each tenth in KiB, and whether it grew."""
        for name, samples in sorted(self.samples.items()):
            tenths = [
                _median(kib for at, kib in samples if tenth <= at * 10 / seconds < tenth + 1)
                for tenth in range(10)
            ]
            early = _median(kib for at, kib in samples if seconds * EARLY <= at < seconds * LATE)
            late = _median(kib for at, kib in samples if at >= seconds * LATE)
            yield name, early, late, tenths, late > early * GROWTH_RATIO


def _resident(pid):
    for line in pathlib.Path(f'/proc/{pid}/status').read_text().splitlines():
        if line.startswith('VmRSS:'):
            return int(line.split()[1])
    return 0


def _median(values):
    return statistics.median(list(values) or [0])


def audit(senders, hosts_of, handled):
    """Hold what was answered against what was handled.

    :returns: lost, doubled and unasked events, each as a count
    """
    answered = [
        ledger.Answered(tag, server, 0, code, sent=0.0, answered=0.0, took=0.0)
        for sender in senders
        for tag, (server, code) in sender.answers.items()
    ]
    places = {server: [ledger.Placed(frozenset(hosts), 0.0)] for server, hosts in hosts_of.items()}
    found = ledger.audit(answered, [ledger.Handled.from_line(line) for line in handled], places, bound=0.0)
    return len(found.lost), len(found.doubled), len(found.unsent)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--minutes', type=float, default=10.0)
    parser.add_argument('--senders', type=int, default=4)
    parser.add_argument('--pause', type=float, default=0.05, help='seconds between two batches of a sender')
    parser.add_argument('--database', choices=('mysql', 'postgresql'), default='mysql')
    parser.add_argument('--seed', type=int, default=1)
    args = parser.parse_args()
    rnd = random.Random(args.seed)
    hosts_of = host_map(rnd)
    database = services.MySQL if args.database == 'mysql' else services.PostgreSQL
    with services.RabbitMQ() as broker, database() as server:
        router = deployment.Deployment(
            transport_url=broker.url,
            connection=server.url,
            hosts=HOSTS,
            hosts_of=hosts_of,
            # NOTE: a hundred hosts share one process here, and each remembers
            # its events for 15 minutes by default; the run must outlast that.
            agent__remembered_seconds=30.0,
        )
        with router:
            return load(router, hosts_of, args)


def _await_held(nothing_lost):
    """Give what is held the time to arrive; what then is missing is lost."""
    with contextlib.suppress(AssertionError):
        deployment.wait_until(nothing_lost, 'what is held')


def load(router, hosts_of, args):
    """Run the load and print what came of it.

    :returns: the exit status
    """
    stop, seconds = threading.Event(), args.minutes * 60
    url = f'{router.url}/v2.1/os-server-external-events'
    senders = [Sender(url, hosts_of, args.seed + n, args.pause, stop) for n in range(args.senders)]
    memory = Memory((router.api, router.resolver, router.agents), stop)
    threads = [*senders, memory]
    for thread in threads:
        thread.start()
    stop.wait(seconds)
    stop.set()
    for thread in threads:
        thread.join()
    _await_held(lambda: audit(senders, hosts_of, router.handled())[0] == 0)
    lost, doubled, unsent = audit(senders, hosts_of, router.handled())
    surprises = [text for sender in senders for text in sender.surprises]
    took = sorted(second for sender in senders for second in sender.seconds)
    codes = collections.Counter(code for sender in senders for _, code in sender.answers.values())
    print(f'{args.minutes} minutes, {args.senders} senders, {len(took)} batches, {codes.total()} events')
    print('codes:', ', '.join(f'{count} x {code}' for code, count in sorted(codes.items())))
    print(f'seconds per batch: median {statistics.median(took):.3f}, longest {took[-1]:.3f}')
    print(f'lost {lost}, doubled {doubled}, not asked for {unsent}, unexpected {len(surprises)}')
    for text, count in collections.Counter(surprises).most_common(5):
        print(f'  {count} x {text}')
    grown = False
    print(f'{"resident memory":<20}{"early KiB":>12}{"late KiB":>12}')
    for name, early, late, tenths, grew in memory.table(seconds):
        grown = grown or grew
        curve = ' '.join(f'{kib:.0f}' for kib in tenths)
        print(f'{name:<20}{early:>12.0f}{late:>12.0f}  {curve}{"  GREW" if grew else ""}')
    return 1 if lost or doubled or unsent or surprises or grown else 0


if __name__ == '__main__':
    with fixtures.Timeout(4 * 3600, gentle=True):
        raise SystemExit(main())
