"""Publishing to many hosts at once: the service compared with kombu, with the same messages and queues."""

from __future__ import annotations

import contextlib
import threading
import time
import uuid

import kombu
from oslo_config import cfg
from oslo_messaging import conffixture

from external_events_router import context
from external_events_router import events
from external_events_router.agent import rpcapi
from external_events_router.messaging import rpc
from external_events_router.messaging import transport as transports
from external_events_router.messaging.amqp import envelope
from external_events_router.messaging.amqp import publisher
from external_events_router.resolver.drivers.agent import coalescing_sender
from tests.integration import services

TOPIC = 'bench-fanout'

#: Maximum duration of one round in seconds.
TIMEOUT = 60.0


def compare(*, hosts, events, rounds):
    """Publish alternately with both.

    :param events: total number, spread evenly over the hosts
    :returns: name of each side, the service and ``kombu``, to the seconds of each round
    """
    took = {'service': [], 'kombu': []}
    with services.RabbitMQ() as rabbit, conffixture.ConfFixture(cfg.CONF, transport_url=rabbit.url):
        broker = rpc.get_broker(cfg.CONF)
        deliveries = _deliveries(hosts, events // hosts)
        with kombu.Connection(rabbit.url.replace('rabbit://', 'amqp://', 1)) as connection:
            exchange = kombu.Exchange(broker.exchange, 'topic', durable=broker.durable)
            queues = _declare(connection, exchange, deliveries)
            with (
                contextlib.closing(_Ours(broker, deliveries)) as of_router,
                contextlib.closing(_Kombu(connection, exchange, _messages(deliveries))) as of_other,
            ):
                for number in range(rounds + 1):
                    for name, publishing in (('service', of_router), ('kombu', of_other)):
                        began = time.perf_counter()
                        publishing.publish()
                        # The first round connects, and is not counted.
                        if number:
                            took[name].append(time.perf_counter() - began)
                        for queue in queues:
                            queue.purge()
    return took


def _deliveries(hosts, per_host):
    return {
        f'host-{host:05d}': events.Delivery(
            id=f'bench.{host}',
            reply_to='bench',
            deadline=time.time() + 300,
            events=tuple(
                events.Event(
                    'network-vif-plugged', str(uuid.uuid4()), str(uuid.uuid4()), id=str(uuid.uuid4())
                )
                for _ in range(per_host)
            ),
        )
        for host in range(hosts)
    }


def _declare(connection, exchange, deliveries):
    """Declare a queue without a consumer for each host; deleting the virtual host deletes them."""
    channel = connection.default_channel
    queues = [
        kombu.Queue(key, exchange, routing_key=key, durable=False, channel=channel)
        for key in (f'{TOPIC}.{host}' for host in deliveries)
    ]
    for queue in queues:
        queue.declare()
    return queues


def _messages(deliveries):
    """The messages that a resolver worker would publish."""

    class Capture:
        messages = ()

        def cast(self, messages, done, *, until):
            self.messages = [
                publisher.Message(f'{each.topic}.{each.server}', envelope.encode(each.call))
                for each in messages
            ]

    capture = Capture()
    casts = [rpcapi.Cast(host, [(context.for_service(), each)]) for host, each in deliveries.items()]
    rpcapi.AgentAPI(capture, topic=TOPIC).cast(casts, lambda index, error: None, until=0.0)
    return capture.messages


class _Ours:
    """A resolver worker from the deliveries of a batch to the confirms, including the encoding."""

    def __init__(self, broker, deliveries):
        self._deliveries = deliveries
        self._transport = transports.DirectTransport(broker)
        self._transport.start()
        self._sender = rpcapi.AgentAPI(self._transport, topic=TOPIC)
        self._left, self._problems = 0, []
        self._all_confirmed = threading.Event()

    def publish(self):
        """Publish, and return at the last confirm."""
        self._left = len(self._deliveries)
        self._all_confirmed.clear()
        until = time.monotonic() + TIMEOUT
        with coalescing_sender.CoalescingSender(self).cast(
            context.for_service(), self._deliveries, on_failure=self._fail, until=until
        ):
            if not self._all_confirmed.wait(TIMEOUT) or self._problems:
                raise RuntimeError(self._problems or 'not confirmed')

    def cast(self, casts, done, *, until):
        """Called by the coalescing sender, which handles each confirm first."""

        def both(index, error):
            done(index, error)
            self._left -= 1
            if not self._left:
                self._all_confirmed.set()

        self._sender.cast(casts, both, until=until)

    def close(self):
        self._transport.stop(5.0)

    def _fail(self, host, reason):
        self._problems.append(f'{host}: {reason}')


class _Kombu:
    """A program that uses kombu, and waits for all confirms together."""

    def __init__(self, connection, exchange, messages):
        self._connection = connection
        self._channel = connection.channel()
        self._channel.confirm_select()
        self._channel.events['basic_ack'].add(self._on_ack)
        self._producer = kombu.Producer(self._channel, exchange=exchange, auto_declare=False)
        self._messages = messages
        self._published = 0
        self._unconfirmed = {}

    def publish(self):
        """Publish, and return at the last confirm."""
        for message in self._messages:
            self._published += 1
            self._unconfirmed[self._published] = True
            self._producer.publish(
                message.body,
                routing_key=message.routing_key,
                content_type='application/json',
                content_encoding='utf-8',
                delivery_mode=1,
                mandatory=True,
            )
        while self._unconfirmed:
            self._connection.drain_events(timeout=TIMEOUT)

    def close(self):
        self._channel.close()

    def _on_ack(self, tag, multiple):
        # A multiple confirm covers all messages up to its tag; some of them may have been confirmed before.
        for confirmed in [each for each in self._unconfirmed if each <= tag] if multiple else [tag]:
            self._unconfirmed.pop(confirmed, None)
