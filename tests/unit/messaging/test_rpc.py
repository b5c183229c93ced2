"""Contexts, messages and errors of RPC, over ``fake://`` where this transport is sufficient."""

from __future__ import annotations

import contextlib
import json
import string
import threading
from typing import Any
import uuid

import kombu.exceptions
from oslo_config import cfg
import oslo_messaging as messaging
from oslo_messaging import conffixture
from oslo_messaging._drivers import common as driver_common

from external_events_router import context
from external_events_router import events
from external_events_router import exceptions
from external_events_router.messaging import rpc
from external_events_router.messaging import transport as transports
from external_events_router.resolver import rpcapi
from tests import base
from tests import casting

SERVER = '5bb6d8f4-5a5d-4c5c-9a3c-8a7c1d0a5a01'
EVENTS = [
    events.Event('network-vif-plugged', SERVER, 'port', 'failed', id='1'),
    events.Event('network-changed', SERVER, id='2'),
]


def errors_of_ours() -> list[type[exceptions.RouterError]]:
    kinds = [kind for kind in vars(exceptions).values() if isinstance(kind, type)]
    return [kind for kind in kinds if issubclass(kind, exceptions.RouterError)]


class Answers:
    """An endpoint that stores the received arguments as JSON, and returns a given answer."""

    def __init__(self, namespace: str | None = None, answer: Any = None) -> None:
        self.target = messaging.Target(version='1.3', namespace=namespace)
        self.answer = answer
        self.received: list[dict[str, Any]] = []
        self.contexts: list[context.RequestContext] = []

    def _take(self, ctxt: context.RequestContext, message: dict[str, Any]) -> Any:
        self.contexts.append(ctxt)
        self.received.append(json.loads(json.dumps(message)))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    @messaging.expose
    def route(self, ctxt: context.RequestContext, **message: Any) -> Any:
        return self._take(ctxt, message)

    @messaging.expose
    def deliver(self, ctxt: context.RequestContext, **message: Any) -> None:
        self._take(ctxt, message)

    @messaging.expose
    def acknowledge(self, ctxt: context.RequestContext, **message: Any) -> None:
        self._take(ctxt, message)

    @messaging.expose
    def acknowledge_all(self, ctxt: context.RequestContext, **message: Any) -> None:
        self._take(ctxt, message)

    @messaging.expose
    def assign(self, ctxt: context.RequestContext, **message: Any) -> Any:
        return self._take(ctxt, message)

    @messaging.expose
    @messaging.expected_exceptions(exceptions.NoSuchServer)
    def forget(self, ctxt: context.RequestContext, **message: Any) -> Any:
        return self._take(ctxt, message)

    @messaging.expose
    def report(self, ctxt: context.RequestContext, **message: Any) -> Any:
        return self._take(ctxt, message)

    def not_exposed(self, ctxt: context.RequestContext) -> None:
        raise AssertionError('it was called')


class Incoming:
    """A call as a driver passes it."""

    def __init__(self, method: str | None, *, client_timeout: float = 60.0) -> None:
        self.message = {'method': method, 'args': {'host': 'here'}, 'version': '1.0'}
        self.ctxt: dict[str, Any] = {}
        self.client_timeout: float | None = client_timeout
        self.replies: list[Any] = []

    def reply(self, reply: Any = None, failure: Any = None) -> None:
        self.replies.append(reply or failure)


class WireTest(base.TestCase):
    """Clients of this service with one server of a topic."""

    def setUp(self) -> None:
        super().setUp()
        self.useFixture(conffixture.ConfFixture(cfg.CONF, transport_url='fake://'))
        # NOTE: the queues of fake:// are global in the process, so each test has an exchange.
        cfg.CONF.set_override('control_exchange', f'test-{uuid.uuid4()}')
        self.addCleanup(cfg.CONF.clear_override, 'control_exchange')
        self.transport = rpc.get_transport(cfg.CONF)
        self.addCleanup(self.transport.cleanup)
        self.ctxt = context.RequestContext(
            request_id='req-1', global_request_id='req-2', project_id='p', overwrite=False
        )

    def serve(self, topic: str, endpoint: Answers, *, server: str = 'here') -> Answers:
        listener = rpc.get_server(self.transport, messaging.Target(topic=topic, server=server), [endpoint])
        listener.start(override_pool_size=1)
        self.addCleanup(listener.wait)
        self.addCleanup(listener.stop)
        self.addCleanup(endpoint.received.clear)
        return endpoint

    def flush(self, topic: str, server: str) -> None:
        """Wait until the server has received the previous casts: it handles one message after the other."""
        client = rpc.get_client(self.transport, messaging.Target(topic=topic, version='1.0'))
        client.prepare(server=server, timeout=10).call(self.ctxt, 'route')


class ContextTest(WireTest):
    def test_the_request_ids_arrive(self) -> None:
        answers = self.serve(rpcapi.TOPIC, Answers(answer=[]))
        rpcapi.ResolverAPI(self.transport).route(self.ctxt, [], ack_timeout=1.0, timeout=10.0)
        (received,) = answers.contexts
        self.assertEqual(
            ('req-1', 'req-2', 'p'), (received.request_id, received.global_request_id, received.project_id)
        )
        self.assertIsInstance(received, context.RequestContext)

    def test_round_trip(self) -> None:
        serializer = rpc.ContextSerializer()
        wire = json.loads(json.dumps(serializer.serialize_context(self.ctxt)))
        self.assertEqual(self.ctxt.to_dict(), serializer.deserialize_context(wire).to_dict())

    def test_context_of_a_message_becomes_the_context_of_the_thread(self) -> None:
        from_wire = rpc.ContextSerializer().deserialize_context(self.ctxt.to_dict())
        self.assertIs(from_wire, context.context.get_current())


class MessageTest(WireTest):
    """The message of each client is JSON, and the server restores the original objects."""

    def test_route(self) -> None:
        outcomes = [
            events.Outcome(EVENTS[0], events.Code.DELIVERED),
            events.Outcome(EVENTS[1], events.Code.UNDELIVERED, 'no acknowledgement'),
        ]
        answers = self.serve(rpcapi.TOPIC, Answers(answer=[outcome.to_dict() for outcome in outcomes]))
        api = rpcapi.ResolverAPI(self.transport)
        self.assertEqual(outcomes, api.route(self.ctxt, EVENTS, ack_timeout=1.5, timeout=10.0))
        (message,) = answers.received
        self.assertEqual(1.5, message['ack_timeout'])
        self.assertEqual(EVENTS, [events.Event.from_dict(data) for data in message['events']])

    def test_deliver(self) -> None:
        answers = self.serve('compute', Answers(), server='host-a')
        delivery = events.Delivery('d', 'worker', 12.5, tuple(EVENTS))
        casting.deliver(self.transport, 'host-a', delivery, ctxt=self.ctxt)
        self.flush('compute', 'host-a')
        message = answers.received[0]
        self.assertEqual('host-a', message['host'])
        self.assertEqual(
            delivery,
            events.Delivery(
                id=message['delivery_id'],
                reply_to=message['reply_to'],
                deadline=message['deadline'],
                events=tuple(events.Event.from_dict(data) for data in message['events']),
            ),
        )

    def test_acknowledge(self) -> None:
        answers = self.serve(rpcapi.ACK_TOPIC, Answers(), server='worker')
        results = [
            events.Result('1', events.Verdict.HANDLED),
            events.Result('2', events.Verdict.REFUSED, 'no such port'),
        ]
        acknowledgements = [
            events.Acknowledgement('d', 'host-a', tuple(results)),
            events.Acknowledgement('e', 'host-b', tuple(results[:1])),
        ]
        casting.acknowledge(transports.OsloTransport(self.transport), acknowledgements)
        self.flush(rpcapi.ACK_TOPIC, 'worker')
        message = answers.received[0]
        self.assertEqual(
            acknowledgements, [events.Acknowledgement.from_dict(data) for data in message['acknowledgements']]
        )

    def test_acknowledge_to_an_older_resolver(self) -> None:
        answers = self.serve(rpcapi.ACK_TOPIC, Answers(), server='worker')
        acknowledgements = [events.Acknowledgement(name, 'host-a', ()) for name in 'de']
        casting.acknowledge(transports.OsloTransport(self.transport), acknowledgements, version_cap='1.0')
        self.flush(rpcapi.ACK_TOPIC, 'worker')
        self.assertEqual([{'delivery_id', 'results'}] * 2, [set(message) for message in answers.received[:2]])

    def test_report(self) -> None:
        answers = self.serve(rpcapi.REPORT_TOPIC, Answers(rpcapi.HOST_MAP_NAMESPACE, answer={'now': 17}))
        api = rpcapi.HostMapAPI(self.transport)
        self.assertEqual(rpcapi.Reported(17.0), api.report(self.ctxt, 'host-a', {'b', 'a'}, 'token'))
        self.assertEqual(rpcapi.Reported(17.0), api.report(self.ctxt, 'host-a', None))
        sent = [(message['server_uuids'], message['token']) for message in answers.received]
        self.assertEqual([(['a', 'b'], 'token'), (None, '')], sent)

    def test_report_that_is_refused(self) -> None:
        answer = {'now': 17, 'proof_needed': True}
        self.serve(rpcapi.REPORT_TOPIC, Answers(rpcapi.HOST_MAP_NAMESPACE, answer=answer))
        api = rpcapi.HostMapAPI(self.transport)
        self.assertEqual(rpcapi.Reported(17.0, proof_needed=True), api.report(self.ctxt, 'host-a', None))

    def test_report_to_an_older_resolver(self) -> None:
        answers = self.serve(rpcapi.TOPIC, Answers(rpcapi.HOST_MAP_NAMESPACE, answer={'now': 17}))
        api = rpcapi.HostMapAPI(self.transport, version_cap='1.0')
        self.assertEqual(rpcapi.Reported(17.0), api.report(self.ctxt, 'host-a', None, 'token'))
        self.assertEqual([{'host': 'host-a', 'server_uuids': None}], answers.received)

    def test_assign(self) -> None:
        answers = self.serve(rpcapi.TOPIC, Answers(rpcapi.HOST_MAP_NAMESPACE))
        rpcapi.HostMapAPI(self.transport).assign(self.ctxt, SERVER, 'host-a')
        self.assertEqual([{'server_uuid': SERVER, 'host': 'host-a'}], answers.received)


class ErrorTest(WireTest):
    def test_expected_error_reaches_the_caller(self) -> None:
        self.serve(
            rpcapi.TOPIC,
            Answers(rpcapi.HOST_MAP_NAMESPACE, answer=exceptions.NoSuchServer(server_uuid=SERVER)),
        )
        api = rpcapi.HostMapAPI(self.transport)
        error = self.assertRaises(exceptions.NoSuchServer, api.forget, self.ctxt, SERVER)
        self.assertIn(SERVER, str(error))

    def test_every_error_of_the_service_is_restored_from_a_message(self) -> None:
        # NOTE: fake:// passes the exception object; this is the form that RabbitMQ transmits.
        for kind in errors_of_ours():
            sent = kind(**{word: word for _, word, _, _ in string.Formatter().parse(kind.template) if word})
            wire = driver_common.serialize_remote_exception((kind, sent, None))
            received = driver_common.deserialize_remote_exception(wire, rpc.ALLOWED_REMOTE_EXMODS)
            self.assertIsInstance(received, kind)
            self.assertEqual(sent.kwargs, received.kwargs)
            self.assertIn(str(sent), str(received))

    def test_no_answer_in_time(self) -> None:
        api = rpcapi.ResolverAPI(self.transport)
        self.assertRaises(
            exceptions.ResolverUnavailable, api.route, self.ctxt, EVENTS, ack_timeout=0.05, timeout=0.1
        )

    def test_only_exposed_methods_can_be_called(self) -> None:
        self.serve(rpcapi.TOPIC, Answers())
        client = rpc.get_client(self.transport, messaging.Target(topic=rpcapi.TOPIC, version='1.0'))
        self.assertRaises(messaging.NoSuchMethod, client.prepare(timeout=10).call, self.ctxt, 'not_exposed')

    def test_server_of_casts_sends_no_reply(self) -> None:
        endpoint = Answers()
        server = rpc.get_server(
            self.transport,
            messaging.Target(topic=rpcapi.TOPIC, server='here'),
            [endpoint],
            replies=False,
        )
        for method in ('report', 'nothing', None):
            incoming = Incoming(method)
            with contextlib.suppress(messaging.ExpectedException):
                server.dispatcher.dispatch(incoming)
            incoming.reply('an answer')
            self.assertEqual([], incoming.replies)
        self.assertEqual([{'host': 'here'}], endpoint.received)

    def test_no_heartbeats_for_a_method_that_does_not_exist(self) -> None:
        target = messaging.Target(topic=rpcapi.TOPIC, server='here')
        server = rpc.get_server(self.transport, target, [Answers()])
        for incoming in (Incoming('nothing'), Incoming('report', client_timeout=float('inf'))):
            before = threading.active_count()
            with contextlib.suppress(messaging.ExpectedException):
                server.dispatcher.dispatch(incoming)
            self.assertEqual(before, threading.active_count())
            self.assertIsNone(incoming.client_timeout)

    def test_a_version_cap_below_the_client(self) -> None:
        api = rpcapi.ResolverAPI(self.transport, version_cap='0.9')
        error = self.assertRaises(
            exceptions.RouterError, api.route, self.ctxt, EVENTS, ack_timeout=1.0, timeout=2.0
        )
        self.assertIn('RPCVersionCapError', str(error))


class TranslatedTest(base.TestCase):
    def translate(self, error: Exception, **kwargs: Any) -> exceptions.RouterError:
        try:
            with rpc.translated(**kwargs):
                raise error
        except exceptions.RouterError as exc:
            self.assertIs(error, exc.__cause__)
            return exc

    def test_no_queue_of_a_host(self) -> None:
        error = self.translate(messaging.MessageUndeliverable('x', 'e', 'k', 'm'), host='host-a')
        self.assertIsInstance(error, exceptions.HostUnreachable)
        self.assertEqual('no agent listens for host host-a', str(error))

    def test_no_queue_of_a_topic(self) -> None:
        error = self.translate(
            messaging.MessageUndeliverable('x', 'e', 'k', 'm'), no_answer=exceptions.ResolverUnavailable
        )
        self.assertIsInstance(error, exceptions.ResolverUnavailable)

    def test_no_reply(self) -> None:
        error = self.translate(messaging.MessagingTimeout(), no_answer=exceptions.ResolverUnavailable)
        self.assertIsInstance(error, exceptions.ResolverUnavailable)
        self.assertIsInstance(self.translate(messaging.MessagingTimeout()), exceptions.BrokerUnavailable)

    def test_broker_is_unavailable(self) -> None:
        for error in (
            messaging.MessageDeliveryFailure('down'),
            kombu.exceptions.OperationalError('refused'),
            ConnectionRefusedError(111, 'refused'),
        ):
            translated = self.translate(error, host='host-a', no_answer=exceptions.ResolverUnavailable)
            self.assertIsInstance(translated, exceptions.BrokerUnavailable)
            self.assertIn(type(error).__name__, str(translated))

    def test_errors_of_the_service_are_not_changed(self) -> None:
        def refused() -> None:
            with rpc.translated():
                raise exceptions.Refused(reason='why')

        self.assertRaises(exceptions.Refused, refused)


class TransportTest(base.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.fixture = self.useFixture(conffixture.ConfFixture(cfg.CONF))

    def test_url_with_an_unknown_driver(self) -> None:
        self.fixture.transport_url = 'carrier-pigeon://user:secret@loft/'
        error = self.assertRaises(exceptions.ConfigurationError, rpc.get_transport, cfg.CONF)
        self.assertIn('[DEFAULT] transport_url', str(error))
        self.assertNotIn('secret', str(error))

    def test_printed_address_has_no_secret(self) -> None:
        self.fixture.transport_url = 'rabbit://user:secret@one:5672,user:secret@two:5673/vhost'
        self.assertEqual('rabbit://one:5672, two:5673', rpc.broker_address(cfg.CONF))

    def test_exchange_of_the_service_is_the_default(self) -> None:
        rpc.set_defaults()
        self.assertEqual(rpc.EXCHANGE, cfg.CONF.control_exchange)

    def test_errors_of_the_service_may_be_deserialized(self) -> None:
        self.fixture.transport_url = 'fake://'
        transport = rpc.get_transport(cfg.CONF)
        self.addCleanup(transport.cleanup)
        self.assertLessEqual(set(rpc.ALLOWED_REMOTE_EXMODS), set(transport._driver._allowed_remote_exmods))
