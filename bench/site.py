"""The measured deployment: the service as an operator runs it, with a real RabbitMQ and database.

The API, with an embedded or a separate resolver, and the agents of a hundred hosts
are processes. The virtual host and the database belong to the deployment and are
deleted with it. Each process logs into a file, at the default level.
"""

from __future__ import annotations

from collections.abc import Sequence
import contextlib
import dataclasses
import os
import random
import signal
import subprocess
import sys
import uuid

import sqlalchemy as sa

from bench import machine
from external_events_router.db import models
from tests.faults import broker
from tests.integration import deployment
from tests.integration import services

DATABASES = {'mysql': services.MySQL, 'postgresql': services.PostgreSQL}

#: The names of all hosts differ in their number only. The last host has a separate process.
HOSTS = 100
SERVERS = 2000

#: Seconds within which the largest map must be filled.
IMPORT_TIMEOUT = 900.0


@dataclasses.dataclass(frozen=True)
class Kind:
    """The configuration of a deployment.

    :ivar database: one of :data:`DATABASES`
    :ivar resolver: ``local`` or ``rpc``, as ``[api] resolver``
    :ivar workers: of the API, and of a separate resolver
    :ivar servers: number in the map, spread evenly over the hosts
    :ivar hosts: number in the map; the first :data:`HOSTS` of them have an agent
    :ivar own_broker: use a separate RabbitMQ node, which may be killed
    :ivar handler: the agents have a handler, which counts the events
    :ivar options: as for ``deployment.Deployment``
    """

    database: str = 'mysql'
    resolver: str = 'local'
    workers: int = 2
    servers: int = SERVERS
    hosts: int = HOSTS
    own_broker: bool = False
    handler: bool = True
    options: Sequence[tuple[str, object]] = ()


class Site(deployment.Deployment):
    """A running deployment.

    :ivar broker: its separate RabbitMQ node, if it has one
    :ivar posted: servers on hosts with an agent, for which events are posted
    :ivar resource: the URL of the resource
    """

    def __init__(self, kind):
        options = {'api__resolver': kind.resolver, 'api__workers': kind.workers}
        super().__init__(
            transport_url=None,
            connection=None,
            hosts=[f'host-{number:05d}' for number in range(kind.hosts)],
            hosts_of=None,
            **{**options, 'resolver__workers': kind.workers, 'delivery__ack_timeout': 2.0},
            **dict(kind.options),
        )
        self.kind = kind

    def _setUp(self):
        if self.kind.own_broker:
            self.broker = self.useFixture(broker.Broker())
            self.transport_url = self.broker.url()
        else:
            self.transport_url = self.useFixture(services.RabbitMQ()).url
        self.connection = self.useFixture(DATABASES[self.kind.database]()).url
        super()._setUp()

    def prepare(self):
        super().prepare()
        # NOTE: killed first, because an orderly end of a hundred agents
        # takes longer than many scenarios.
        self.addCleanup(self.kill)
        self.resource = f'{self.url}/v2.1/os-server-external-events'

    def import_hosts(self, hosts_of):
        """Fill the map."""
        rnd = random.Random(1)
        lines = self.folder / 'host-map.jsonl'
        self.on_host = {host: [] for host in self.hosts[:HOSTS]}
        with open(lines, 'w') as file:
            for number in range(self.kind.servers):
                server = str(uuid.UUID(int=rnd.getrandbits(128), version=4))
                host = self.hosts[number % len(self.hosts)]
                file.write(f'{{"server": "{server}", "hosts": ["{host}"]}}\n')
                if host in self.on_host:
                    self.on_host[host].append(server)
        self.posted = [server for servers in self.on_host.values() for server in servers]
        self._import(lines)

    def _import(self, lines):
        command = [deployment.BIN / 'external-events-manage', '--config-file', self.config]
        subprocess.run(
            [*command, 'host-map', 'import', lines],
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            timeout=IMPORT_TIMEOUT,
        )
        lines.unlink()

    def start(self):
        """Start the processes."""
        if self.kind.resolver == 'rpc':
            self.resolver = self.start_resolver()
        names = list(self.on_host)
        self.agents = self.start_agents('agents', *names[:-1])
        self.last_agent = self.start_agents('last-agent', names[-1])
        self.api = self.start_api()

    def start_agents(self, name, *hosts, config=None, environment=None):
        """Start a process of counting agents and wait until all of them listen."""
        count = self.folder / f'{name}.count'
        count.write_text('0')
        handler = [] if self.kind.handler else ['--no-handler']
        command = [sys.executable, '-m', 'bench.agents', *handler, config or self.config, count, *hosts]
        process = self._start(deployment.Process(name, command, self.folder, environment=environment))
        process.wait_for('ready\n')
        return process

    def kill(self):
        """End all processes at once."""
        for process in self.processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

    def forget_held(self):
        """Delete all rows of the hold."""
        engine = sa.create_engine(self.connection)
        with engine.begin() as connection:
            for table in (models.HeldEvent.__table__, models.HeldServer.__table__):
                connection.execute(sa.delete(table))
        engine.dispose()

    def handled(self):
        """How many events the agents have handled since they started."""
        return sum(int(count.read_text()) for count in self.folder.glob('*.count'))

    @property
    def groups(self):
        """The measured processes: name to pids."""
        broker, database = sa.make_url(self.transport_url), sa.make_url(self.connection)
        shared = {'broker': machine.listener(broker.port), 'database': machine.listener(database.port)}
        return {
            'api': [self.api.pid],
            **({'resolver': [self.resolver.pid]} if self.kind.resolver == 'rpc' else {}),
            'agents': [self.agents.pid, self.last_agent.pid],
            **{name: [pid] for name, pid in shared.items() if pid},
        }
