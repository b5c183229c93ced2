"""Arbitrary messages at each endpoint: no traceback, no undocumented error, no invalid value behind it.

As a consumer on AMQP hands bodies over, without a broker. The same messages go through a
real one in ``tests/integration/test_fuzz.py``.
"""

from __future__ import annotations

from collections.abc import Callable
import itertools
import math
import time
from typing import Any

import hypothesis

from external_events_router import context
from external_events_router import events
from external_events_router import exceptions
from external_events_router.agent import endpoint as agent_endpoint
from external_events_router.messaging import rpc
from external_events_router.messaging.amqp import broker as brokers
from external_events_router.messaging.amqp import consumer
from external_events_router.messaging.amqp import envelope
from external_events_router.messaging.amqp import frames
from external_events_router.resolver import endpoint as resolver_endpoint
from external_events_router.resolver import proofs
from external_events_router.resolver.drivers.agent import acks
from external_events_router.resolver.drivers.agent import endpoint as ack_endpoint
from external_events_router.resolver.health import circuit_breaker
from tests import base
from tests import fuzzing
from tests.unit.resolver import agents

#: Messages of each property.
EXAMPLES = 80

WAITED_HOST = 'host-a'


class Recorder:
    """Replaces the objects behind the endpoints, and stores the received values."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[Any, ...]]] = []
        self.gained: list[str] = []

    def route(self, ctxt: Any, batch: Any, **seconds: float | None) -> list[events.Outcome]:
        self.calls.append(('route', (ctxt, batch, seconds)))
        return [events.Outcome(event, events.Code.DELIVERED) for event in batch]

    def receive(self, ctxt: Any, delivery: events.Delivery) -> None:
        self.calls.append(('receive', (ctxt, delivery)))

    def accepts(self, host: str, token: str | None) -> bool:
        self.calls.append(('accepts', (host, token)))
        return True

    def take_token(self, *arguments: str) -> bool:
        self.calls.append(('take_token', arguments))
        return True

    def assign(self, server_uuid: str, host: str) -> None:
        self.calls.append(('assign', (server_uuid, host)))

    def unassign(self, server_uuid: str, host: str) -> None:
        self.calls.append(('unassign', (server_uuid, host)))

    def forget(self, server_uuid: str) -> None:
        self.calls.append(('forget', (server_uuid,)))

    def report(self, host: str, server_uuids: Any) -> Recorder:
        self.calls.append(('report', (host, list(server_uuids))))
        return self

    def appeared(self, host: str) -> None:
        self.calls.append(('appeared', (host,)))

    def responses_announced(self, hosts: Any) -> None:
        self.calls.append(('responses_announced', (list(hosts),)))

    def silence_announced(self, hosts: Any, *, unconsumed: Any) -> None:
        self.calls.append(('silence_announced', (list(hosts),)))

    def placed(self, server_uuids: Any) -> None:
        self.calls.append(('placed', (list(server_uuids),)))


class EndpointFuzzTest(base.TestCase):
    TIMEOUT_SCALING_FACTOR = 3

    def setUp(self) -> None:
        super().setUp()
        self.behind = Recorder()
        # Characters of the log that were checked already.
        self.seen = 0
        self.collector = acks.Collector()
        behind: Any = self.behind
        self.endpoints: list[Any] = [
            resolver_endpoint.RouteEndpoint(behind),
            ack_endpoint.AckEndpoint(self.collector, agents.Observer()),
            resolver_endpoint.HostMapEndpoint(behind, behind, behind, behind),
            resolver_endpoint.HostMapEndpoint(
                behind, behind, behind, proofs.Proofs(lambda: bytes(32), behind, required=True)
            ),
            resolver_endpoint.PeerEndpoint(behind, behind),
            resolver_endpoint.OperatorEndpoint(behind, circuit_breaker.CircuitBreakers()),
            agent_endpoint.AgentEndpoint(behind, 'a'),
        ]

    def feed(self, body: bytes) -> None:
        """Pass a body to a consumer of each endpoint, like a link does."""
        for endpoint in self.endpoints:
            hand_over(rpc.listener(endpoint), body)

    def check(self) -> None:
        """Check that no error was logged, and that all received values are valid."""
        output = self.logs.output[self.seen :]
        self.seen += len(output)
        assert 'Traceback' not in output, output[-3000:]
        for line in output.splitlines():
            assert len(line) < 2000, line[:3000]
        for name, arguments in self.behind.calls:
            problem = CHECKS[name](*arguments)
            assert problem is None, (name, problem, arguments)
        self.behind.calls.clear()

    def test_any_body(self) -> None:
        @fuzzing.examples(EXAMPLES)
        @hypothesis.given(fuzzing.BODIES)
        def fed(body: bytes) -> None:
            self.feed(body)
            self.check()

        fed()

    def test_bodies_that_caused_errors_in_the_past(self) -> None:
        for body in fuzzing.unusual():
            began = time.process_time()
            self.feed(body)
            self.check()
            self.assertLess(time.process_time() - began, 10)

    def test_only_documented_errors(self) -> None:
        """Errors that an RPC server of oslo.messaging would get."""

        @fuzzing.examples(EXAMPLES)
        @hypothesis.given(fuzzing.messages())
        def called(message: dict[str, Any]) -> None:
            for endpoint in self.endpoints:
                method = getattr(endpoint, str(message['method']).encode('utf-8', 'replace').decode(), None)
                arguments = message['args']
                if not getattr(method, 'exposed', False) or not isinstance(arguments, dict):
                    continue
                try:
                    method(context.for_service(), **arguments)
                except rpc.messaging.ExpectedException as expected:
                    _type, error, _trace = expected.exc_info
                    assert isinstance(error, DOCUMENTED), repr(error)
            self.check()

        called()

    def test_acknowledgement_of_another_host_changes_nothing(self) -> None:
        event = events.Event('network-changed', fuzzing.SERVERS[0], id='event-1')
        delivery = events.Delivery('delivery-1', 'worker', time.time() + 60, (event,))
        with agents.expect(self.collector, {WAITED_HOST: delivery}) as waiting:

            @fuzzing.examples(EXAMPLES // 2)
            @hypothesis.given(fuzzing.BODIES)
            def fed(body: bytes) -> None:
                hand_over(rpc.listener(self.endpoints[1]), body)

            fed()
            (answer,) = waiting.wait(time.monotonic()).values()
            self.assertIsNone(answer.verdict)
            body = fuzzing.wrapped(
                {
                    'method': 'acknowledge',
                    'version': '1.1',
                    'args': {
                        'delivery_id': 'delivery-1',
                        'host': WAITED_HOST,
                        'results': [{'event_id': 'event-1', 'verdict': 'handled', 'reason': None}],
                    },
                }
            )
            hand_over(rpc.listener(self.endpoints[1]), body)
            (answer,) = waiting.wait(time.monotonic()).values()
            self.assertEqual(events.Verdict.HANDLED, answer.verdict)


DOCUMENTED = (exceptions.MalformedMessage, exceptions.NoSuchServer, exceptions.DatabaseUnavailable)


#: No test connects to it.
BROKER = brokers.Broker(
    nodes=[brokers.Node(host='broker.test', port=5672, username='guest', password='guest')],
    virtual_host='/',
    exchange='external_events',
)


def hand_over(listener: Callable[[envelope.Call], None], body: bytes) -> None:
    """As a consumer does it with a message that came."""
    consuming = consumer.Consumer(BROKER, name='fuzz')
    consuming.listen('queue', listener)
    consuming.arrived(frames.Delivered(consumer='queue', tag=1, body=body, channel=1))


def _is_server(value: object) -> bool:
    return isinstance(value, str) and events.canonical_uuid(value) == value


def _is_host(value: object) -> bool:
    text = isinstance(value, str) and 0 < len(value) <= 255 and value.isascii() and value.isprintable()
    return text and not set(str(value)) & set('*# ')


def _is_text(value: object, longest: int = 1000) -> bool:
    if not isinstance(value, str) or len(value) > longest:
        return False
    return value.encode('utf-8', 'replace') == value.encode('utf-8', 'surrogatepass')


def _of_context(ctxt: Any) -> str | None:
    for name in ('request_id', 'global_request_id', 'user_id', 'project_id'):
        value = getattr(ctxt, name)
        if value is not None and not (_is_text(value, 255) and value.isprintable()):
            return f'{name} of the context: {value!r}'
    return None if all(_is_text(role, 255) for role in ctxt.roles) else f'roles: {ctxt.roles!r}'


def _of_event(event: events.Event) -> str | None:
    valid = (
        event.name in events.EVENT_TYPES
        and _is_server(event.server_uuid)
        and event.status in events.STATUSES
        and _is_text(event.id, 64)
        and (event.tag is None or _is_text(event.tag, 255))
    )
    return None if valid else repr(event)


def _of_batch(ctxt: Any, batch: Any, seconds: dict[str, Any]) -> str | None:
    for name, value in seconds.items():
        if not (isinstance(value, (int, float)) and 0 < value <= 61) and value is not None:
            return f'{name}: {value!r}'
    return _of_context(ctxt) or next(filter(None, map(_of_event, batch)), None)


def _of_delivery(ctxt: Any, delivery: events.Delivery) -> str | None:
    if not (_is_text(delivery.id, 64) and _is_host(delivery.reply_to)):
        return f'id or reply_to: {delivery.id!r}, {delivery.reply_to!r}'
    if not math.isfinite(delivery.deadline) or delivery.deadline > time.time() + 30 * 86400:
        return f'deadline: {delivery.deadline!r}'
    return _of_context(ctxt) or next(filter(None, map(_of_event, delivery.events)), None)


def _of_names(*values: Any) -> str | None:
    """Servers and hosts, alone or in lists."""
    for value in itertools.chain(*(each if isinstance(each, list) else [each] for each in values)):
        if not (_is_server(value) or _is_host(value)):
            return f'{value!r} is neither a server nor a host'
    return None


def _of_token(host: str, token: str | None) -> str | None:
    return _of_names(host) or (None if token is None or _is_text(token, 64) else repr(token))


def _of_new_token(*arguments: str) -> str | None:
    """At a host the token; on the way to it, the host before it."""
    return None if _is_text(arguments[-1], 64) else repr(arguments)


CHECKS: dict[str, Callable[..., str | None]] = {
    'route': _of_batch,
    'receive': _of_delivery,
    'assign': _of_names,
    'unassign': _of_names,
    'forget': _of_names,
    'report': _of_names,
    'accepts': _of_token,
    'take_token': _of_new_token,
    'appeared': _of_names,
    'responses_announced': _of_names,
    'placed': _of_names,
    'silence_announced': _of_names,
}
