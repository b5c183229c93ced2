"""Measure how one dead host out of a hundred affects the other hosts.

::

    python -m tests.faults.dead_host

There are a hundred hosts. One has a separate agent process, which is frozen
(``SIGSTOP``): its queue remains, but is not read. One sender posts events for
servers of the other hosts only, one posts batches for all hundred hosts, and one posts
events for the dead host only. A line is printed for each sender and each of three
periods: before, while the host is dead, and after. The exit status is 0 only if the
batches for the other hosts were not slower, each worker waited for the dead host at
most once, and all events arrived.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import signal
import statistics
import sys
import threading
import time
import uuid

import fixtures

from tests.faults import broker
from tests.faults import database
from tests.faults import ledger
from tests.faults import load
from tests.faults import site
from tests.faults import stall
from tests.integration import deployment

HOSTS = [f'host-{number:03d}' for number in range(100)]
DEAD = HOSTS[-1]
SERVERS_PER_HOST = 4

ACK_TIMEOUT = 2.0

#: Seconds between two batches of a sender.
PAUSE = 0.1

#: Seconds: a batch that waited for a silent host took longer than this.
WAITED = ACK_TIMEOUT * 0.9

#: Workers, each of which has to detect the dead host.
WORKERS = 2

#: Allowed slowdown of the batches for other hosts, median in all and in half of the time:
#: the difference between two runs without a fault on a machine with few cores.
SLOWER, SLOWER_SECONDS = 1.5, 0.01


class Deployed(deployment.Deployment):
    """The service, with a separate agent process for the last host."""

    def start(self):
        self.resolver = self.start_resolver()
        self.agents = self.start_agents('agents', *self.hosts[:-1])
        self.dead = self.start_agents('dead', DEAD)
        self.api = self.start_api()


class Sender(threading.Thread):
    """Posts the batches of one kind, one after the other.

    :ivar answered: the answer for each event
    """

    def __init__(self, name, poster, choose, stop):
        """:param choose: returns the servers of the next batch"""
        super().__init__(name=name, daemon=True)
        self._poster = poster
        self._choose = choose
        self._stopped = stop
        self.answered = []

    def run(self):
        while not self._stopped.wait(PAUSE):
            self.answered += self._poster.post(self._choose(), load.NAMES)


def main():
    """Measure and print the results.

    :returns: the exit status
    """
    parser = argparse.ArgumentParser(prog='python -m tests.faults.dead_host')
    parser.add_argument('--seconds', type=float, default=20.0, help='duration of each of the three periods')
    site.add_set_argument(parser)
    parser.add_argument('--seed', type=int, default=1)
    args = parser.parse_args()
    hosts_of = {str(uuid.uuid4()): [host] for host in HOSTS for _ in range(SERVERS_PER_HOST)}
    with broker.Broker() as rabbit, database.MariaDB() as server:
        router = Deployed(
            transport_url=rabbit.url(),
            connection=server.url,
            hosts=HOSTS,
            hosts_of=hosts_of,
            **{'delivery__ack_timeout': ACK_TIMEOUT, **dict(args.set)},
        )
        with router:
            return _measure(router, hosts_of, args)


def _measure(router, hosts_of, args):
    book = load.Book(router.ledger)
    for server, hosts in hosts_of.items():
        book.place(server, hosts)
    stall_monitor = stall.StallMonitor()
    stall_monitor.start()
    times = {}
    for name, number in (('before', None), ('dead', signal.SIGSTOP), ('after', signal.SIGCONT)):
        if number:
            os.kill(router.dead.pid, number)
        times[name] = _load(router.url, book, stall_monitor, hosts_of, args)
    deployment.wait_until(lambda: not _missing(book), 'what is held')
    answered = book.answered()
    audit = ledger.audit(answered, book.handled(), book.places, bound=ACK_TIMEOUT + 1.0)
    problems = [*_problems(times), *([f'{audit}'] if audit.broken else [])]
    print(_table(times))
    print('\n'.join(problems) or f'{len(answered)} events, none lost, doubled or out of order')
    return 1 if problems else 0


def _load(url, book, stall_monitor, hosts_of, args):
    """Post for a period.

    :returns: kind of batch to the answers for its events
    """
    rnd, stop = random.Random(args.seed), threading.Event()
    servers = {}
    for server, (host,) in hosts_of.items():
        servers.setdefault(host, []).append(server)
    # NOTE: each sender has separate servers, so that the events of a server have an order.
    of = [{host: own[number] for host, own in servers.items()} for number in range(SERVERS_PER_HOST)]
    others = HOSTS[:-1]
    kinds = {
        'others': lambda: [of[0][host] for host in rnd.sample(others, 5)],
        'all hundred': lambda: list(of[1].values()),
        'dead alone': lambda: [of[2][DEAD]],
    }
    senders = [
        Sender(kind, load.Poster(url, book, stall_monitor=stall_monitor), choose, stop)
        for kind, choose in kinds.items()
    ]
    for sender in senders:
        sender.start()
    time.sleep(args.seconds)
    stop.set()
    for sender in senders:
        sender.join(deployment.PATIENCE)
    return {sender.name: sender.answered for sender in senders}


def _missing(book):
    promised = [each for each in book.answered() if each.code == 200]
    return ledger.unfinished(promised, book.handled(), book.places)


def _seconds(answered):
    """Seconds of each batch, sorted; all events of a batch are answered at the same instant."""
    return sorted({(each.answered, each.took): each.took for each in answered}.values())


def _problems(times):
    before, dead = (_seconds(times[name]['others']) for name in ('before', 'dead'))
    if statistics.median(dead) > statistics.median(before) * SLOWER + SLOWER_SECONDS:
        yield 'batches for the other hosts were slower while the host was dead'
    if dead[-1] > WAITED:
        yield 'a batch for the other hosts waited for the dead host'
    for kind, answered in times['dead'].items():
        waited = sum(seconds > WAITED for seconds in _seconds(answered))
        if waited > WORKERS:
            yield f'{kind}: {waited} batches waited for the dead host'
    refused = [
        each.tag
        for answered in times.values()
        for kind in answered.values()
        for each in kind
        if each.code != 200
    ]
    if refused:
        yield f'not answered 200: {len(refused)} events, {", ".join(refused[:5])}'


def _table(times):
    heads = ('number', 'median ms', '99 % ms', 'longest ms', 'waited')
    lines = [f'{"":<8}{"batches for":<14}' + ''.join(f'{head:>12}' for head in heads)]
    for name, kinds in times.items():
        for kind, answered in kinds.items():
            seconds = _seconds(answered)
            most = seconds[math.ceil(0.99 * len(seconds)) - 1]
            lines.append(
                f'{name:<8}{kind:<14}{len(seconds):>12}{statistics.median(seconds) * 1000:>12.1f}'
                f'{most * 1000:>12.1f}{seconds[-1] * 1000:>12.1f}'
                f'{sum(second > WAITED for second in seconds):>12}'
            )
    return '\n'.join(lines)


if __name__ == '__main__':
    with fixtures.Timeout(900, gentle=True):
        sys.exit(main())
