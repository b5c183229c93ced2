"""The whole service in one process: API, resolver and agents over ``fake://`` and SQLite.

A scenario reads as a request and its answer::

    self.router = self.useFixture(fixtures.Router({SERVER: ['host-a']}))
    answer = self.router.post({'name': 'network-changed', 'server_uuid': SERVER})
    self.assertEqual([200], answer.codes)
"""

from __future__ import annotations

import dataclasses
import json
import threading
import time
import uuid

from falcon import testing
import fixtures
from oslo_config import cfg
from oslo_config import fixture as config_fixture
from oslo_log import log
import oslo_messaging

from external_events_router import conf as router_conf
from external_events_router import events
from external_events_router.agent import fleet
from external_events_router.agent import handlers
from external_events_router.api import app
from external_events_router.api import refusals
from external_events_router.conf import opts
from external_events_router.db import session
from external_events_router.messaging import rpc
from external_events_router.resolver import rpcapi
from external_events_router.resolver import service
from external_events_router.resolver.hold import base
from external_events_router.resolver.hold import inspection
from external_events_router.resolver.host_map import guarded
from external_events_router.resolver.host_map import sql
from tests.unit.db import databases

PATH = '/v2.1/os-server-external-events'

#: Seconds; longer than any expected event takes on any machine.
PATIENCE = 30.0


@dataclasses.dataclass(frozen=True)
class Answer:
    """The response of the API."""

    status: int
    headers: dict[str, str]
    body: dict

    @property
    def codes(self):
        """The code of each event, in their order."""
        return [event['code'] for event in self.body['events']]


class Handled:
    """A handler that keeps what it was given, and does to an event what the test wants."""

    def __init__(self):
        self.events = []
        self.contexts = []
        self.actions = {}

    def __call__(self, ctxt, event):
        self.events.append(event)
        self.contexts.append(ctxt)
        action = self.actions.get(event.server_uuid)
        return action(event) if action else None


class Configuration(fixtures.Fixture):
    """``cfg.CONF`` as a service has it, on transports and databases of the test's own."""

    def __init__(self, **overrides):
        """:param overrides: option to value, its group before two underscores"""
        self._overrides = overrides

    def _setUp(self):
        # NOTE: a server of oslo.messaging ends when its executor's threads next
        # look whether they should, which is every second.
        self.useFixture(fixtures.MonkeyPatch('futurist._thread.ThreadWorker.MAX_IDLE_FOR', 0.02))
        self.conf = cfg.CONF
        config = self.useFixture(config_fixture.Config(self.conf))
        opts.set_library_defaults()
        log.register_options(self.conf)
        router_conf.register_all(self.conf)
        self.conf([], project='external-events-router', default_config_files=[], default_config_dirs=[])
        oslo_messaging.TransportURL.parse(self.conf, 'fake://')  # registers the options
        config.config(transport_url='fake://', control_exchange=f'test-{uuid.uuid4()}')
        folder = self.useFixture(fixtures.TempDir()).path
        config.config(connection=f'sqlite:///{folder}/router.sqlite', group='database')
        config.config(auth_strategy='noauth', group='api')
        for name, value in self._overrides.items():
            group, _, option = name.rpartition('__')
            config.config(**{option: value}, **({'group': group} if group else {}))


class Router(fixtures.Fixture):
    """API, one resolver worker, and an agent per host.

    :ivar handled: the handler of all agents, see :class:`Handled`
    :ivar host_map: the map, to be changed by the test
    :ivar fleet: the agents
    """

    def __init__(self, hosts_of, *, hosts=('host-a', 'host-b'), handling=True, **overrides):
        """:param hosts_of: server uuid to the list of its hosts
        :param hosts: hosts that have an agent
        :param handling: whether the agents have the handler; else only waiters receive events
        :param overrides: see :class:`Configuration`
        """
        self._hosts_of = hosts_of
        self._hosts = hosts
        self._handling = handling
        self._overrides = {'delivery__ack_timeout': PATIENCE, **overrides}

    def _setUp(self):
        self.conf = self.useFixture(Configuration(**self._overrides)).conf
        self.transport = rpc.get_transport(self.conf)
        self.database = session.Database.from_conf(self.conf)
        self.addCleanup(self.database.close)
        databases.create_schema(self.database)
        self.host_map = sql.SqlHostMap(self.database)
        for server, hosts in self._hosts_of.items():
            self.place(server, *hosts)
        self.handled = Handled()
        self.start_resolver()
        self.start_agents()
        resolver_api = rpcapi.ResolverAPI.from_conf(self.conf, self.transport)
        self.app = app.make_app(self.conf, resolver_api, refused=refusals.Forwarder(resolver_api.refused))

    def start_resolver(self):
        """Start a resolver worker; the fixture stops it."""
        guard = guarded.GuardedHostMap(self.host_map, timeout=self.conf.host_map.timeout)
        self.resolver = service.Resolver.from_conf(self.conf, self.transport, guard, database=self.database)
        self.resolver.start()
        self.addCleanup(self.resolver.stop)

    def start_agents(self, hosts=None, *, prepare=lambda: None):
        """Start an agent per host; the fixture stops them.

        :param hosts: None: those of the constructor
        :param prepare: called when the agents exist and do not receive anything yet
        """
        registered = handlers.Handlers()
        if self._handling:
            registered.on(handlers.ANY, self.handled)
        hosts = self._hosts if hosts is None else hosts
        self.fleet = fleet.Fleet.from_conf(self.conf, self.transport, hosts, handlers=registered)
        prepare()
        self.fleet.start()
        self.addCleanup(self.fleet.stop, PATIENCE)

    def agent(self, host):
        """The agent of a host."""
        return next(agent for agent in self.fleet.agents if agent.host == host)

    def place(self, server, *hosts):
        """Make the hosts of a server exactly these."""
        self.host_map.import_lines([json.dumps({'server': server, 'hosts': hosts}).encode()])

    def held(self, state='held'):
        """The records of the hold in one state, see ``resolver.hold.base.Record``."""
        chosen = inspection.Selection(state=base.State(state))
        return list(inspection.Inspection(self.database).records(chosen))

    def wait_until(self, condition):
        """Wait until a condition holds, with a bound."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            if time.monotonic() > deadline:
                raise AssertionError(f'waited {PATIENCE} s')
            time.sleep(0.02)

    def post(self, *batch, request_id=None, version='2.93', path=PATH):
        """Post a batch of events.

        :param batch: the events in the form of a request
        :param request_id: the sender's global request id
        """
        headers = {'Content-Type': 'application/json', 'OpenStack-API-Version': f'compute {version}'}
        if request_id:
            headers['X-OpenStack-Request-ID'] = request_id
        result = testing.simulate_request(
            self.app, 'POST', path, headers=headers, body=json.dumps({'events': list(batch)})
        )
        return Answer(result.status_code, dict(result.headers), result.json)

    def post_in_background(self, *batch, **kwargs):
        """Post from another thread.

        :returns: a function that waits for the answer and returns it
        """
        answers = []
        thread = threading.Thread(target=lambda: answers.append(self.post(*batch, **kwargs)))
        thread.start()

        def answer():
            thread.join(PATIENCE)
            return answers[0]

        return answer


def event(server_uuid, name='network-changed', **members):
    """An event in the form of a request."""
    return {'name': name, 'server_uuid': server_uuid, **members}


def not_here(_event):
    """An action of :class:`Handled`: the server is elsewhere."""
    return events.Verdict.NOT_HERE


def refused(_event):
    """An action of :class:`Handled`: refuse the event permanently."""
    return events.Verdict.REFUSED
