"""Messages of agents over a real RabbitMQ, with each end in this release and in the previous release."""

import time

from oslo_config import cfg
import oslo_messaging as messaging
from oslo_messaging import conffixture

from external_events_router import context
from external_events_router import events
from external_events_router.messaging import rpc
from external_events_router.messaging import transport as transports
from external_events_router.messaging.amqp import forwarding
from external_events_router.resolver import rpcapi
from tests import base
from tests import casting
from tests.integration import deployment
from tests.integration import services


class HostMap:
    """Takes reports; its name is the answer."""

    def __init__(self, now, version):
        self.target = messaging.Target(namespace=rpcapi.HOST_MAP_NAMESPACE, version=version)
        self._now = now

    @rpc.exposed()
    def report(self, ctxt, host, server_uuids, token=None):
        return {'now': self._now}


class Acks:
    """Takes acknowledgements."""

    def __init__(self, version):
        self.target = messaging.Target(version=version)
        self.received = []

    @rpc.exposed()
    def acknowledge_all(self, ctxt, acknowledgements):
        self.received += [each['delivery_id'] for each in acknowledgements]


class ForwardingTest(base.TestCase):
    def setUp(self):
        super().setUp()
        url = self.useFixture(services.RabbitMQ()).url
        self.useFixture(conffixture.ConfFixture(cfg.CONF, transport_url=url))
        rpc.set_defaults()
        self.transport = rpc.get_transport(cfg.CONF)
        self.broker = rpc.get_rabbit(cfg.CONF)
        self.addCleanup(self.transport.cleanup)

    def forward(self):
        keys = {f'{self.broker.exchange}_{name}': key for name, key in rpcapi.AGENT_EXCHANGES.items()}
        forwards = forwarding.Forwarding(self.broker, keys)
        forwards.start()
        self.addCleanup(forwards.stop, 5.0)

    def serve(self, topic, endpoint):
        server = rpc.get_server(self.transport, messaging.Target(topic=topic, server='worker'), [endpoint])
        server.start()
        self.addCleanup(server.wait)
        self.addCleanup(server.stop)
        return endpoint

    def report(self, cap=None):
        api = rpcapi.HostMapAPI(self.transport, version_cap=cap)
        return api.report(context.for_service(), 'host-a', []).now

    def acknowledge(self, name, cap=None):
        acknowledgements = [events.Acknowledgement(name, 'host-a', ())]
        exchange = rpcapi.ack_exchange(self.transport, cap)
        transport = transports.OsloTransport(self.transport, exchange=exchange)
        self.addCleanup(transport.stop)
        casting.acknowledge(transport, acknowledgements, version_cap=cap)

    def acknowledge_fast(self, name, cap=None):
        exchange = rpcapi.ack_exchange(self.transport, cap)
        transport = transports.DirectTransport(self.broker, exchange=exchange)
        transport.start()
        try:
            casting.acknowledge(transport, [events.Acknowledgement(name, 'host-a', ())], version_cap=cap)
        finally:
            transport.stop()

    def test_resolver_of_this_release_accepts_all_calls(self):
        self.forward()
        self.serve(rpcapi.TOPIC, HostMap(1.0, '1.2'))
        self.serve(rpcapi.REPORT_TOPIC, HostMap(2.0, '1.2'))
        acks = self.serve(rpcapi.ACK_TOPIC, Acks('1.3'))
        self.eventually(self.report, 2.0)
        self.assertEqual(1.0, self.report('1.0'))
        self.acknowledge('new')
        self.acknowledge('old', '1.2')
        self.acknowledge_fast('new, fast')
        self.acknowledge_fast('old, fast', '1.2')
        everything = ['new', 'new, fast', 'old', 'old, fast']
        deployment.wait_until(lambda: sorted(acks.received) == everything, f'{acks.received} to be all')

    def test_resolver_of_the_previous_release_accepts_capped_calls(self):
        self.serve(rpcapi.TOPIC, HostMap(1.0, '1.0'))
        acks = self.serve(rpcapi.ACK_TOPIC, Acks('1.2'))
        self.assertEqual(1.0, self.report('1.0'))
        self.acknowledge('old', '1.2')
        self.acknowledge_fast('old, fast', '1.2')
        deployment.wait_until(lambda: sorted(acks.received) == ['old', 'old, fast'], f'{acks.received}')

    def test_deleted_exchange_is_declared_again(self):
        self.patch(forwarding, 'INTERVAL', 0.2)
        self.forward()
        self.serve(rpcapi.REPORT_TOPIC, HostMap(2.0, '1.2'))
        self.eventually(self.report, 2.0)
        for exchange in (f'{self.broker.exchange}_reports', f'{self.broker.exchange}_acks'):
            connection = self.broker.connect()
            connection.channel().exchange_delete(exchange)
            connection.collect()
        self.eventually(self.report, 2.0)

    def eventually(self, call, expected):
        """Wait until a call has an answer."""

        def answers():
            try:
                return call() == expected
            except Exception:
                time.sleep(0.1)
                return False

        deployment.wait_until(answers, f'{expected} from {call}')
