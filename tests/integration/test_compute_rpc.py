"""Casts and calls to a compute over RabbitMQ: errors of the broker and the compute become our exceptions."""

import kombu
from oslo_config import cfg
import oslo_messaging as messaging
from oslo_messaging import conffixture

from external_events_router import conf as router_conf
from external_events_router import exceptions
from external_events_router.messaging import rpc
from external_events_router.resolver.drivers.nova import cells
from external_events_router.resolver.drivers.nova import rpcapi
from external_events_router.resolver.drivers.nova import versions
from tests import base
from tests.integration import services


class OwnError(Exception):
    """An exception that the client does not know."""


class Compute:
    """Raises what the first event is."""

    target = messaging.Target(version='6.3')

    ERRORS = {'own': OwnError, 'built in': ValueError, 'of the system': ConnectionResetError}

    def __init__(self):
        self.got = []

    def external_instance_event(self, ctxt, instances, events):
        self.got.append((ctxt['request_id'], instances, events))
        if events[0] in self.ERRORS:
            raise self.ERRORS[events[0]]('told to')


class ComputeRPCTest(base.TestCase):
    TIMEOUT_SCALING_FACTOR = 3

    def setUp(self):
        super().setUp()
        self.url = self.useFixture(services.RabbitMQ()).url
        # NOTE: the router's own broker is another one, which is not asked.
        self.useFixture(conffixture.ConfFixture(cfg.CONF, transport_url='rabbit://nobody@127.0.0.1:9/'))
        router_conf.register_all(cfg.CONF)
        self.addCleanup(cfg.CONF.clear_override, 'messaging_options', group='nova')

    def computes(self, **options):
        cfg.CONF.set_override('messaging_options', options, group='nova')
        made = rpcapi.ComputeAPI(cfg.CONF, cells.Cell('uuid', 'cell', 'database', self.url))
        self.addCleanup(made.close)
        return made

    def send(self, computes, event, *, host='here', speech=versions.SIX, **options):
        computes.external_instance_event(
            {'request_id': 'req-1'}, host, speech, instances=['an instance'], events=[event], **options
        )

    def serve(self, topic='compute'):
        transport = rpc.get_transport_at(cfg.CONF, self.url, source='the test')
        self.addCleanup(transport.cleanup)
        endpoint = Compute()
        target = messaging.Target(exchange='nova', topic=topic, server='here')
        server = messaging.get_rpc_server(transport, target, [endpoint], executor='threading')
        server.start()
        self.addCleanup(server.wait)
        self.addCleanup(server.stop)
        return endpoint

    def test_a_reply_comes_after_the_handler(self):
        endpoint = self.serve()
        self.send(self.computes(), 'fine', reply_timeout=30)
        self.assertEqual([('req-1', ['an instance'], ['fine'])], endpoint.got)

    def test_errors_of_the_compute(self):
        self.serve()
        computes = self.computes()
        for event, error in (
            ('own', 'OwnError'),
            ('built in', 'ValueError'),
            ('of the system', 'ConnectionResetError'),
        ):
            failed = self.assertRaises(exceptions.HostFailed, self.send, computes, event, reply_timeout=30)
            self.assertEqual(error, failed.kwargs['error'])

    def test_a_version_that_the_compute_does_not_serve(self):
        self.serve()
        failed = self.assertRaises(
            exceptions.HostFailed, self.send, self.computes(), 'x', speech=versions.OLD, reply_timeout=30
        )
        self.assertEqual('UnsupportedVersion', failed.kwargs['error'])

    def test_no_reply_and_no_queue(self):
        computes = self.computes()
        with kombu.Connection(self.url.replace('rabbit://', 'pyamqp://', 1)) as connection:
            exchange = kombu.Exchange('nova', type='topic', durable=False)
            kombu.Queue(
                'compute.here', exchange, 'compute.here', durable=False, channel=connection.channel()
            ).declare()
            self.send(computes, 'taken by the broker')
            self.assertRaises(exceptions.NoReply, self.send, computes, 'x', reply_timeout=0.2)
            for timeout in (None, 30):
                self.assertRaises(
                    exceptions.HostUnreachable, self.send, computes, 'x', host='absent', reply_timeout=timeout
                )

    def test_messaging_options_describe_the_declarations_of_the_cell(self):
        with kombu.Connection(self.url.replace('rabbit://', 'pyamqp://', 1)) as connection:
            exchange = kombu.Exchange('nova', type='topic', durable=True)
            kombu.Queue('compute.here', exchange, 'compute.here', channel=connection.channel()).declare()
            self.assertRaises(exceptions.BrokerUnavailable, self.send, self.computes(), 'x')
            self.send(self.computes(amqp_durable_queues='true'), 'x')
