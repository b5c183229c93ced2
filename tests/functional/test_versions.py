"""Rolling upgrades: each end of the service with the release before, over ``fake://``."""

import oslo_messaging as messaging

from external_events_router import context
from external_events_router import rpc
from external_events_router.resolver import rpcapi
from tests import base
from tests.functional import fixtures

SERVER = '2b4b6f0a-7d3e-4c89-8a51-6e1f0c9d7a01'


class OldHostMapEndpoint:
    """The host map of a resolver of version 1.0, with nothing but what is called here."""

    target = messaging.Target(namespace=rpcapi.HOST_MAP_NAMESPACE, version='1.0')

    def __init__(self):
        self.reports = []

    @rpc.exposed()
    def report(self, ctxt, host, server_uuids):
        self.reports.append((host, server_uuids))
        return {'now': 17.0}


class ReportVersionsTest(base.TestCase):
    def report(self, transport, **versions):
        return rpcapi.HostMapAPI(transport, **versions).report(context.for_service(), 'host-b', [SERVER])

    def test_a_resolver_takes_reports_of_old_agents_and_new_ones(self):
        router = self.useFixture(fixtures.Router({SERVER: []}))
        for versions in ({'version_cap': '1.0'}, {}):
            router.place(SERVER, 'host-a')
            self.report(router.transport, **versions)
            router.wait_until(lambda: router.host_map.show(SERVER) == ('host-a', 'host-b'))

    def test_a_new_agent_with_a_cap_reports_to_an_old_resolver(self):
        conf = self.useFixture(fixtures.Configuration(upgrade_levels__host_map='1.0')).conf
        transport = rpc.get_transport(conf)
        old = OldHostMapEndpoint()
        server = rpc.get_server(transport, messaging.Target(topic=rpcapi.TOPIC, server='old'), [old])
        server.start()
        self.addCleanup(server.wait)
        self.addCleanup(server.stop)
        api = rpcapi.HostMapAPI.from_conf(conf, transport)
        self.assertEqual(17.0, api.report(context.for_service(), 'host-b', [SERVER]))
        self.assertEqual([('host-b', [SERVER])], old.reports)


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
