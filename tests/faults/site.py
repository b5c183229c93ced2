"""The deployed service with its broker and database, under load, to which the faults are applied.

Ten hosts in three agent processes, eight servers on each, some of them migrating.
The resolver and the third agent process reach the broker through a ``proxy``
process reach the broker through one ``proxy`` each; all other processes connect directly.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent import futures
import contextlib
import dataclasses
import json
import os
import pathlib
import queue
import re
import signal
import threading
import time
import uuid

import fixtures
from oslo_log import log
import sqlalchemy as sa

from tests.faults import broker
from tests.faults import ledger
from tests.faults import load
from tests.faults import proxy
from tests.faults import stall
from tests.integration import deployment
from tests.integration import services

ACK_TIMEOUT = 2.0

#: Seconds within which the service answers during any fault.
BOUND = ACK_TIMEOUT + 1.0

#: Agent processes, and the share of the hosts that each has.
AGENTS = {'agents-a': 0.4, 'agents-b': 0.3, 'agents-c': 0.3}


@dataclasses.dataclass(frozen=True)
class Size:
    """How large the site and its load are.

    :ivar senders: number of senders of the steady load
    :ivar batch_sizes: possible numbers of events of a batch
    :ivar pause: seconds between two batches of a sender
    """

    hosts: int = 10
    senders: int = 4
    batch_sizes: Sequence[int] = load.BATCH_SIZES
    pause: float = load.PAUSE

    def host_names(self):
        """Names of all hosts."""
        return [f'host-{number}' for number in range(self.hosts)]

    def agents(self):
        """Agent process to its hosts."""
        names, found, first = self.host_names(), {}, 0
        for number, (agent, share) in enumerate(AGENTS.items(), start=1):
            after = self.hosts if number == len(AGENTS) else first + max(1, round(share * self.hosts))
            found[agent] = names[first:after]
            first = after
        return found


#: Servers on each host: for the steady load, for a temporary load, and one
#: whose events show whether the service works normally. Each server has one sender, because
#: the events of two senders would have no defined order.
STEADY, BURST, PROBED = 'steady', 'burst', 'probed'
SERVERS_PER_HOST = {STEADY: 5, BURST: 2, PROBED: 1}

#: Makes the resolver log the reason of each answer other than 200.
REASONS = 'external_events_router.resolver.router=DEBUG'

_REFUSED = re.compile(r"tag '([^']+)'\) is 503: (.+)")

#: Seconds: an answer that did not wait for a host is faster than this.
QUICK = 1.0


class Deployed(deployment.Deployment):
    """The service, with several agent processes and proxies.

    :ivar networks: process to the proxy between it and a single broker; empty with a cluster
    """

    def __init__(self, rabbit, connection, size, hosts_of, **options):
        """:param rabbit: a broker node, or a cluster"""
        super().__init__(
            transport_url=rabbit.url(),
            connection=connection,
            hosts=size.host_names(),
            hosts_of=hosts_of,
            **{**rabbit.options, **options},
        )
        self.rabbit = rabbit
        self.size = size

    def prepare(self):
        self.source = pathlib.Path(self.useFixture(fixtures.TempDir()).path) / 'servers.jsonl'
        self.options |= {'agent__source': 'file', 'agent__source_file': self.source}
        self.write_source(self.hosts_of)
        super().prepare()

    def start(self):
        single = isinstance(self.rabbit, broker.Broker)
        self.networks = {
            name: self.useFixture(proxy.Proxy(f'proxy-{name}', self.rabbit.port, self.folder))
            for name in (('resolver', 'agents-c') if single else ())
        }
        self.configs = {
            name: self.write_config(f'{name}.conf', transport_url=self.rabbit.url(network.port))
            for name, network in self.networks.items()
        }
        with futures.ThreadPoolExecutor() as pool:
            resolver = pool.submit(self.start_resolver, config=self.configs.get('resolver'))
            # NOTE: an API process with an embedded resolver also uses the proxy of the resolver.
            local = self.options.get('api__resolver', 'local') == 'local'
            api = pool.submit(self.start_api, config=self.configs.get('resolver') if local else None)
            agents = {
                name: pool.submit(self.start_agents, name, *hosts, config=self.configs.get(name))
                for name, hosts in self.size.agents().items()
            }
        self.resolver, self.api = resolver.result(), api.result()
        self.agents = {name: started.result() for name, started in agents.items()}

    def kill(self):
        """End all processes at once."""
        for process in self.processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

    def write_source(self, hosts_of):
        """Write the servers of each host into the source of the agents."""
        beside = self.source.with_suffix('.new')
        beside.write_text(
            ''.join(
                json.dumps({'server': server, 'hosts': list(hosts)}) + '\n'
                for server, hosts in hosts_of.items()
            )
        )
        beside.rename(self.source)


class Site(fixtures.Fixture):
    """The running service with all its parts.

    :ivar router: the service
    :ivar rabbit: the broker's node
    :ivar database: its server
    :ivar book: the answers and the handled events
    :ivar hosts_of: server to its hosts at the moment
    :ivar notes: measurements of the current fault, as sentences
    :ivar problems: problems that the ledger does not contain, as sentences
    """

    groups: dict[str, list[str]]

    def __init__(self, rabbit, database, *, recovery_limit, size=Size(), options=(), seed=1):
        """:param rabbit: a fixture, a single node or a cluster
        :param database: a fixture with a ``url``
        :param recovery_limit: seconds until normal operation after a fault
        :param options: options of the service, as for ``deployment.Deployment``
        """
        self.rabbit = rabbit
        self.database = database
        self.recovery_limit = recovery_limit
        self.size = size
        self.options = {
            'delivery__ack_timeout': ACK_TIMEOUT,
            'logging_debug_format_suffix': '',
            'default_log_levels': ','.join([*log.get_default_log_levels(), REASONS]),
            **dict(options),
        }
        self.seed = seed
        self.notes = []
        self.problems = []

    def _setUp(self):
        self.groups = {
            name: [str(uuid.uuid4()) for _ in range(number * self.size.hosts)]
            for name, number in SERVERS_PER_HOST.items()
        }
        self.hosts_of = self._hosts_of()
        # NOTE: two simultaneous faults may each need a temporary load.
        self._idle = queue.SimpleQueue()
        for half in (self.groups[BURST][: self.size.hosts], self.groups[BURST][self.size.hosts :]):
            self._idle.put(half)
        with futures.ThreadPoolExecutor() as pool:
            list(pool.map(self.useFixture, (self.rabbit, self.database)))
        self.router = self.useFixture(
            Deployed(self.rabbit, self.database.url, self.size, self.hosts_of, **self.options)
        )
        self.book = load.Book(self.router.ledger)
        for server, hosts in self.hosts_of.items():
            self.book.place(server, hosts)
        # NOTE: killed first, because an orderly end of twenty
        # processes takes longer than most faults.
        self.addCleanup(self.router.kill)
        self.stall_monitor = stall.StallMonitor()
        self.stall_monitor.start()
        self.addCleanup(self.stall_monitor.stop)
        self._probe = self.poster()
        # Guards hosts_of, and the files that are written from it.
        self._moving = threading.Lock()

    def loaded(self):
        """Run the steady load within the block."""
        return self.sending(self.groups[STEADY], senders=self.size.senders)

    @contextlib.contextmanager
    def busy(self):
        """Always have batches in progress within the block."""
        servers = self._idle.get()
        try:
            with self.sending(servers, senders=2, pause=0.0):
                yield
        finally:
            self._idle.put(servers)

    @contextlib.contextmanager
    def sending(self, servers, *, senders=1, pause=None):
        """Post events within the block for some servers without other senders."""
        stop = threading.Event()
        started = [
            load.Sender(
                load.Poster(
                    self.router.url,
                    self.book,
                    stall_monitor=self.stall_monitor,
                    repeats=load.REPEATS * (number % 2),
                ),
                servers[number::senders],
                seed=self.seed * self.size.senders + number,
                pause=self.size.pause if pause is None else pause,
                sizes=self.size.batch_sizes,
                stop=stop,
            )
            for number in range(senders)
        ]
        for sender in started:
            sender.start()
        try:
            yield
        finally:
            stop.set()
            for sender in started:
                sender.join(deployment.PATIENCE)

    def _hosts_of(self):
        """The hosts of each server at the beginning."""
        hosts, hosts_of = self.size.host_names(), {}
        for number, server in enumerate(server for group in self.groups.values() for server in group):
            turn, place = divmod(number, len(hosts))
            # Every tenth server migrates, to a host of another process.
            others = [hosts[(place + len(hosts) // 2) % len(hosts)]] if place == turn else []
            hosts_of[server] = [hosts[place], *others]
        return hosts_of

    def poster(self):
        """Make a client that posts events, for one thread."""
        return load.Poster(self.router.url, self.book, stall_monitor=self.stall_monitor)

    def move(self, hosts_of):
        """Move servers to other hosts, in the host map and in the source of the agents."""
        with self._moving:
            self.hosts_of |= hosts_of
            self.router.write_source(self.hosts_of)
            self.router.import_hosts(hosts_of)
            # NOTE: an event sent before this instant may be handled on either host.
            for server, hosts in hosts_of.items():
                self.book.place(server, hosts)

    def forget(self, servers):
        """Delete servers."""
        with self._moving:
            for server in servers:
                del self.hosts_of[server]
                self.router.manage('host-map', 'forget', server)
            self.router.write_source(self.hosts_of)

    def is_normal(self):
        """Whether an event for every server is quickly answered 200 and has arrived at its hosts."""
        answered = self._probe.post(self.groups[PROBED])
        if any(each.code != 200 or each.took > QUICK for each in answered):
            return False
        return not ledger.unfinished(answered, self.book.handled(), self.book.places)

    def unfinished(self, *, since=0.0, servers=None):
        """The events since an instant that were answered 200 and have not arrived.

        :param servers: consider only these servers
        """
        promised = [
            each
            for each in self.book.answered(since)
            if each.code == 200 and (servers is None or each.server in servers)
        ]
        return ledger.unfinished(promised, self.book.handled(), self.book.places)

    def settle(self, servers):
        """Wait until all events of some servers that were answered 200 have arrived."""
        until = time.monotonic() + self.recovery_limit
        waited(lambda: not self.unfinished(servers=servers), until=until)

    def held(self):
        """The number of events that the service holds."""
        # NOTE: called often, for which the command would be too slow.
        engine = sa.create_engine(self.database.url, poolclass=sa.pool.NullPool)
        with engine.connect() as connection:
            return connection.scalar(sa.select(sa.func.count()).select_from(sa.table('held_events')))

    def reasons(self):
        """Tag of each event answered 503 to the reason of its last answer, if the log contains it."""
        found = {}
        for path in self.router.folder.glob('*.log'):
            found |= dict(_REFUSED.findall(path.read_text(errors='replace')))
        return found

    def expired(self):
        """Tags of the events that the service lists as expired."""
        listed = self.router.manage(
            'held', 'list', '--state', 'expired', '--long', '--limit', '0', '-f', 'json'
        )
        return {event['tag'] for event in json.loads(listed)}

    def start_agents(self, agents):
        """Start an agent process again, and wait until all of its hosts listen."""
        agents.start()
        agents.wait_for('ready\n')

    def resolver_workers(self):
        """The resolver's worker processes."""
        return services.children(self.router.resolver.pid)

    def api_workers(self):
        """The worker processes of the API, without other child processes."""
        return [pid for pid in services.children(self.router.api.pid) if b' worker-' in _command(pid)]


def add_set_argument(parser):
    """Add an option to a command: ``--set GROUP.OPTION=VALUE``, which may be repeated."""
    parser.add_argument(
        '--set',
        action='append',
        type=option,
        default=[],
        metavar='GROUP.OPTION=VALUE',
        help='an option of the service, for example api.resolver=local',
    )


def option(text):
    """Parse ``group.option=value``.

    :returns: the name of the option for ``deployment.Deployment``, and its value
    """
    name, equals, value = text.partition('=')
    if not equals or '.' not in name:
        raise ValueError(text)
    return name.replace('.', '__', 1), value


def _command(pid):
    return pathlib.Path(f'/proc/{pid}/cmdline').read_bytes().replace(b'\0', b' ')


def waited(condition, *, until):
    """Wait until a condition is true.

    :param until: an instant of ``time.monotonic()`` at which to stop
    :returns: seconds until the condition was true, or None: it stayed false
    """
    began = time.monotonic()
    while not condition():
        if time.monotonic() > until:
            return None
        time.sleep(0.2)
    return time.monotonic() - began
