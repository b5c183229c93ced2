"""Rolling upgrades: each end of the service with the release before, over ``fake://``."""

import json
import pathlib
import time

import fixtures as test_fixtures
import oslo_messaging as messaging

from external_events_router import context
from external_events_router import events
from external_events_router.agent import rpcapi as agent_rpcapi
from external_events_router.messaging import rpc
from external_events_router.messaging import transport as transports
from external_events_router.resolver import rpcapi
from tests import base
from tests.functional import fixtures

SERVER = '2b4b6f0a-7d3e-4c89-8a51-6e1f0c9d7a01'


class OldHostMapEndpoint:
    """The host map of a resolver of an earlier version, with nothing but what is called here."""

    def __init__(self, version):
        self.target = messaging.Target(namespace=rpcapi.HOST_MAP_NAMESPACE, version=version)
        self.reports = []

    @rpc.exposed()
    def report(self, ctxt, host, server_uuids):
        self.reports.append((host, server_uuids))
        return {'now': 17.0}


class ReportVersionsTest(base.TestCase):
    def report(self, transport, **versions):
        return rpcapi.HostMapAPI(transport, **versions).report(context.for_service(), 'host-b', [SERVER])

    def test_resolver_accepts_reports_of_old_and_new_agents(self):
        router = self.useFixture(fixtures.Router({SERVER: []}))
        for versions in ({'version_cap': '1.0'}, {'version_cap': '1.1'}, {}):
            router.place(SERVER, 'host-a')
            self.report(router.transport, **versions)
            router.wait_until(lambda: router.host_map.show(SERVER) == ('host-a', 'host-b'))

    def test_a_new_agent_with_a_cap_reports_to_an_old_resolver(self):
        self.report_to_old('1.0', rpcapi.TOPIC)

    def test_a_new_agent_with_a_cap_reports_to_a_resolver_without_tokens(self):
        self.report_to_old('1.1', rpcapi.REPORT_TOPIC)

    def report_to_old(self, version, topic):
        conf = self.useFixture(fixtures.Configuration(upgrade_levels__host_map=version)).conf
        transport = rpc.get_transport(conf)
        old = OldHostMapEndpoint(version)
        server = rpc.get_server(transport, messaging.Target(topic=topic, server='old'), [old])
        server.start()
        self.addCleanup(server.wait)
        self.addCleanup(server.stop)
        api = rpcapi.HostMapAPI.from_conf(conf, transport)
        reported = api.report(context.for_service(), 'host-b', [SERVER], 'token')
        self.assertEqual(rpcapi.Reported(17.0), reported)
        self.assertEqual([('host-b', [SERVER])], old.reports)


class OldAgentEndpoint:
    """An agent of version 1.1, with nothing but what is called here."""

    target = messaging.Target(version='1.1')

    def __init__(self):
        self.received = []

    @rpc.exposed()
    def deliver(self, ctxt, delivery_id, reply_to, deadline, events):
        self.received.append(delivery_id)


class TokenVersionsTest(base.TestCase):
    """Reports and tokens between agents and resolvers of this release and of an earlier release."""

    HOSTS = ('host-a', 'host-b', 'host-c')

    def router(self, **overrides):
        """A resolver and agents of which one has a server that the map does not have there."""
        folder = pathlib.Path(self.useFixture(test_fixtures.TempDir()).path)
        servers = folder / 'servers.jsonl'
        servers.write_text(json.dumps({'server': SERVER, 'hosts': ['host-b']}))
        return self.useFixture(
            fixtures.Router(
                {SERVER: ['host-a']},
                hosts=self.HOSTS,
                agent__source='file',
                agent__source_file=str(servers),
                agent__report_interval=0.1,
                **overrides,
            )
        )

    def is_reported(self, router):
        return router.host_map.show(SERVER) == ('host-b',)

    def test_agents_get_their_tokens_where_these_are_required(self):
        router = self.router(resolver__require_report_token=True)
        router.wait_until(lambda: self.is_reported(router))
        api = rpcapi.HostMapAPI(router.transport)
        for token in ('', 'damaged'):
            answer = api.report(context.for_service(), 'host-b', [], token)
            self.assertTrue(answer.proof_needed)
        self.assertTrue(self.is_reported(router))

    def test_an_old_agent_is_accepted(self):
        self.assertEqual([('host-a', 'host-b')] * 2, self.reports_of_old_agents(required=False))

    def test_an_old_agent_is_refused_where_tokens_are_required(self):
        self.assertEqual([('host-a',)] * 2, self.reports_of_old_agents(required=True))

    def reports_of_old_agents(self, *, required):
        router = self.useFixture(
            fixtures.Router({SERVER: ['host-a']}, resolver__require_report_token=required)
        )
        found = []
        for version in ('1.0', '1.1'):
            router.place(SERVER, 'host-a')
            api = rpcapi.HostMapAPI(router.transport, version_cap=version)
            answer = api.report(context.for_service(), 'host-b', [SERVER])
            self.assertEqual(required, answer.proof_needed)
            found.append(router.host_map.show(SERVER))
        return found

    def test_agents_that_send_no_token_need_none_unless_it_is_required(self):
        router = self.router(upgrade_levels__host_map='1.1')
        router.wait_until(lambda: self.is_reported(router))

    def test_agents_that_are_sent_no_token_need_none_unless_it_is_required(self):
        router = self.router(upgrade_levels__agent='1.1')
        router.wait_until(lambda: self.is_reported(router))

    def test_a_token_for_an_old_agent_is_dropped(self):
        router = self.useFixture(fixtures.Router({SERVER: ['host-a']}, hosts=()))
        old = OldAgentEndpoint()
        server = rpc.get_server(router.transport, messaging.Target(topic='compute', server='host-a'), [old])
        server.start(override_pool_size=1)
        self.addCleanup(server.wait)
        self.addCleanup(server.stop)
        transport = transports.OsloTransport(router.transport)
        self.addCleanup(transport.stop)
        api = agent_rpcapi.AgentAPI(transport, topic='compute')
        self.assertTrue(api.take_token('host-a', 'token'))
        older = agent_rpcapi.AgentAPI(transport, topic='compute', version_cap='1.1')
        cast = agent_rpcapi.Cast('host-a', [(context.for_service(), events.Delivery('d', 'worker', 0.0, ()))])
        older.cast([cast], lambda index, error: None, until=time.monotonic() + 60)
        router.wait_until(lambda: old.received == ['d'])
        self.assertNotIn('Traceback', self.logs.output)


class TopicOfAgentsTest(base.TestCase):
    """An agent can call ``report`` on its topic, and no other method."""

    def test_only_reports_can_be_called(self):
        router = self.useFixture(fixtures.Router({SERVER: ['host-a']}))
        for namespace, version, method, arguments in (
            (None, '1.0', 'route', {'events': [], 'ack_timeout': 1.0}),
            (rpcapi.HOST_MAP_NAMESPACE, '1.0', 'assign', {'server_uuid': SERVER, 'host': 'host-b'}),
            (rpcapi.HOST_MAP_NAMESPACE, '1.0', 'unassign', {'server_uuid': SERVER, 'host': 'host-a'}),
            (rpcapi.HOST_MAP_NAMESPACE, '1.0', 'forget', {'server_uuid': SERVER}),
            (rpcapi.PEER_NAMESPACE, '1.0', 'host_is_back', {'host': 'host-a'}),
        ):
            target = messaging.Target(topic=rpcapi.REPORT_TOPIC, namespace=namespace, version=version)
            client = rpc.get_client(router.transport, target)
            self.assertRaises(
                (messaging.NoSuchMethod, messaging.UnsupportedVersion, messaging.RemoteError),
                client.prepare(timeout=fixtures.PATIENCE).call,
                context.for_service(),
                method,
                **arguments,
            )
        self.assertEqual(('host-a',), router.host_map.show(SERVER))
