"""What one dead host out of a hundred costs the others, measured.

::

    python -m tests.faults.dead_host

A hundred hosts, one of them in an agent process of its own, which is frozen
(``SIGSTOP``): its queue stays, and nobody reads it. One sender posts events for
servers of the other hosts alone, one a batch that goes to all hundred, one events
for the dead host alone. A line is printed for each of them and for each of three
times: before, while the host is dead, and after. The exit status is 0 only if the
others' batches were no slower for it, nobody waited for the dead host more than
once a worker, and everything arrived.
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

#: Seconds: who waited for a host that says nothing took longer than this.
WAITED = ACK_TIMEOUT * 0.9

#: Workers that have to learn by themselves that the host is dead.
WORKERS = 2

#: How much slower the others' batches may be in the middle, in all and by half of
#: them: what two runs without a fault differ by, where a few cores do everything.
SLOWER, SLOWER_SECONDS = 1.5, 0.01


class Deployed(deployment.Deployment):
    """The service, the last host in an agent process of its own."""

    def start(self):
        self.resolver = self.start_resolver()
        self.agents = self.start_agents('agents', *self.hosts[:-1])
        self.dead = self.start_agents('dead', DEAD)
        self.api = self.start_api()


class Sender(threading.Thread):
    """Posts the batches of one kind, one after the other.

    :ivar told: what was told of each event
    """

    def __init__(self, name, poster, choose, stop):
        """:param choose: gives the servers of the next batch"""
        super().__init__(name=name, daemon=True)
        self._poster = poster
        self._choose = choose
        self._stopped = stop
        self.told = []

    def run(self):
        while not self._stopped.wait(PAUSE):
            self.told += self._poster.post(self._choose(), load.NAMES)


def main():
    """Measure, print, and say whether all was well.

    :returns: the exit status
    """
    parser = argparse.ArgumentParser(prog='python -m tests.faults.dead_host')
    parser.add_argument('--seconds', type=float, default=20.0, help='of each of the three times')
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
    metronome = stall.Metronome()
    metronome.start()
    times = {}
    for name, number in (('before', None), ('dead', signal.SIGSTOP), ('after', signal.SIGCONT)):
        if number:
            os.kill(router.dead.pid, number)
        times[name] = _load(router.url, book, metronome, hosts_of, args)
    deployment.wait_until(lambda: not _missing(book), 'what is held')
    told = book.told()
    audit = ledger.audit(told, book.handled(), book.places, bound=ACK_TIMEOUT + 1.0)
    problems = [*_problems(times), *([f'{audit}'] if audit.broken else [])]
    print(_table(times))
    print('\n'.join(problems) or f'{len(told)} events, none lost, doubled or out of order')
    return 1 if problems else 0


def _load(url, book, metronome, hosts_of, args):
    """Post for a while.

    :returns: kind of batch to what was told of each event
    """
    rnd, stop = random.Random(args.seed), threading.Event()
    servers = {}
    for server, (host,) in hosts_of.items():
        servers.setdefault(host, []).append(server)
    # NOTE: each sender has servers of its own, so that their events have an order.
    of = [{host: own[number] for host, own in servers.items()} for number in range(SERVERS_PER_HOST)]
    others = HOSTS[:-1]
    kinds = {
        'others': lambda: [of[0][host] for host in rnd.sample(others, 5)],
        'all hundred': lambda: list(of[1].values()),
        'dead alone': lambda: [of[2][DEAD]],
    }
    senders = [
        Sender(kind, load.Poster(url, book, metronome=metronome), choose, stop)
        for kind, choose in kinds.items()
    ]
    for sender in senders:
        sender.start()
    time.sleep(args.seconds)
    stop.set()
    for sender in senders:
        sender.join(deployment.PATIENCE)
    return {sender.name: sender.told for sender in senders}


def _missing(book):
    promised = [each for each in book.told() if each.code == 200]
    return ledger.unfinished(promised, book.handled(), book.places)


def _seconds(told):
    """Of each batch, sorted; all events of a batch were told at the same instant."""
    return sorted({(each.told, each.took): each.took for each in told}.values())


def _problems(times):
    before, dead = (_seconds(times[name]['others']) for name in ('before', 'dead'))
    if statistics.median(dead) > statistics.median(before) * SLOWER + SLOWER_SECONDS:
        yield 'the others were slower while the host was dead'
    if dead[-1] > WAITED:
        yield 'one of the others waited for the dead host'
    for kind, told in times['dead'].items():
        waited = sum(seconds > WAITED for seconds in _seconds(told))
        if waited > WORKERS:
            yield f'{kind}: {waited} batches waited for the dead host'
    refused = [
        each.tag for told in times.values() for kind in told.values() for each in kind if each.code != 200
    ]
    if refused:
        yield f'not answered 200: {len(refused)} events, {", ".join(refused[:5])}'


def _table(times):
    heads = ('number', 'median ms', '99 % ms', 'longest ms', 'waited')
    lines = [f'{"":<8}{"batches for":<14}' + ''.join(f'{head:>12}' for head in heads)]
    for name, kinds in times.items():
        for kind, told in kinds.items():
            seconds = _seconds(told)
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
