"""Consumers of queues on a real RabbitMQ, as the resolver looks for hosts that do not respond."""

import uuid

import fixtures
from oslo_config import cfg
from oslo_messaging import conffixture

from external_events_router.messaging import rpc
from external_events_router.messaging.amqp import queues
from tests import base
from tests.integration import deployment
from tests.integration import services

#: Seconds; longer than anything takes.
PATIENCE = 20.0


class ConsumerCountsTest(base.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.rabbit = services.share(cls, services.RabbitMQ())

    def setUp(self):
        super().setUp()
        self.useFixture(conffixture.ConfFixture(cfg.CONF, transport_url=self.rabbit.url))
        self.addCleanup(rpc.get_transport(cfg.CONF).cleanup)
        self.broker = rpc.get_broker(cfg.CONF)
        self.counts = queues.ConsumerCounts(self.broker, name='test')
        self.addCleanup(self.counts.close)
        topic = f'eer-test-{uuid.uuid4().hex}'
        self.names = [f'{topic}.{number}' for number in range(3 * queues.WINDOW)]
        self.owner = self.broker.connect()
        self.channel = self.owner.channel()
        for name in self.names:
            self.channel.queue_declare(name, auto_delete=False, nowait=name != self.names[-1])
        self.addCleanup(self.delete)

    def delete(self):
        for name in self.names:
            self.channel.queue_delete(name, nowait=name != self.names[-1])
        self.owner.collect()

    def test_consumers_of_many_queues(self):
        self.useFixture(fixtures.MonkeyPatch('external_events_router.messaging.amqp.queues.RATE', 1e9))
        self.channel.basic_consume(self.names[7], on_cancel=lambda _tag: None)
        counts = self.counts.count(self.names, timeout=PATIENCE)
        self.assertEqual(set(self.names), set(counts))
        self.assertEqual({self.names[7]: 1}, {name: number for name, number in counts.items() if number})

    def test_queues_that_do_not_exist(self):
        missing = [f'{name}.missing' for name in self.names[:3]]
        asked = [missing[0], self.names[0], *missing[1:], self.names[1]]
        counts = self.counts.count(asked, timeout=PATIENCE)
        self.assertEqual({**dict.fromkeys(missing), self.names[0]: 0, self.names[1]: 0}, counts)

    def test_consumers_of_a_connection_that_ended_are_gone(self):
        other = self.broker.connect()
        other.channel().basic_consume(self.names[0])
        self.assertEqual({self.names[0]: 1}, self.counts.count(self.names[:1], timeout=PATIENCE))
        other.collect()
        deployment.wait_until(
            lambda: self.counts.count(self.names[:1], timeout=PATIENCE) == {self.names[0]: 0},
            'the end of the consumer',
        )
