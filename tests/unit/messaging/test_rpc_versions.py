"""Each client and its endpoint are a pair: version, namespace, methods and arguments agree.

The messages are recorded from the client itself, so that a client cannot send a message that
no endpoint would accept.
"""

from __future__ import annotations

from collections.abc import Callable
import inspect
import re
from typing import Any

from oslo_config import cfg
from oslo_messaging import conffixture

from external_events_router import context
from external_events_router import events
from external_events_router.agent import endpoint as agent_endpoint
from external_events_router.agent import rpcapi as agent_rpcapi
from external_events_router.messaging import rpc
from external_events_router.resolver import endpoint
from external_events_router.resolver import rpcapi
from external_events_router.resolver.drivers.agent import endpoint as ack_endpoint
from tests import base

#: A client, the topic's own arguments for making it, and its other half.
PAIRS = (
    (rpcapi.ResolverAPI, {}, endpoint.RouteEndpoint),
    (rpcapi.AckAPI, {}, ack_endpoint.AckEndpoint),
    (rpcapi.HostMapAPI, {}, endpoint.HostMapEndpoint),
    (rpcapi.PeerAPI, {}, endpoint.PeerEndpoint),
    (rpcapi.OperatorAPI, {}, endpoint.OperatorEndpoint),
    (agent_rpcapi.AgentAPI, {'topic': 'compute'}, agent_endpoint.AgentEndpoint),
)

#: What only older versions of a client send, or another client of the same endpoint.
ELSEWHERE = {
    rpcapi.AckAPI: {'acknowledge'},
    rpcapi.PeerAPI: {'host_is_back'},
}

DELIVERY = (context.RequestContext(overwrite=False), events.Delivery('d', 'worker', 0.0, ()))

#: Clients that send over a transport of ``messaging.transport``.
OVER_TRANSPORT = (rpcapi.AckAPI, agent_rpcapi.AgentAPI)

#: Something of the right type for each parameter of a client's methods.
SAMPLES: dict[str, Any] = {
    'ctxt': context.RequestContext(overwrite=False),
    'batch': [],
    'ack_timeout': 1.0,
    'actor': 'operator',
    'timeout': 2.0,
    'reply_to': 'worker',
    'acknowledgements': [events.Acknowledgement('d', 'h', ())],
    'server_uuid': 'u',
    'host': 'h',
    'hosts': ['h'],
    'unconsumed': True,
    'server_uuids': [],
    'token': 't',
    'casts': [agent_rpcapi.Cast('h', [DELIVERY] * number) for number in (1, 2)],
    'done': lambda *result: None,
    'until': 0.0,
    'refusals': [],
    'dropped': 0,
    'api': {},
}


class Recorder:
    """In place of oslo.messaging's client: keeps what would be sent."""

    def __init__(self) -> None:
        self.sent: dict[str, set[str]] = {}

    def prepare(self, **_kwargs: Any) -> Recorder:
        return self

    def can_send_version(self, _version: str) -> bool:
        return True

    def call(self, _ctxt: Any, method: str, **message: Any) -> Any:
        self.sent[method] = set(message)
        return {'report': {'now': 0.0}, 'breakers': {'h': 'closed'}}.get(method, [])

    def cast(self, _ctxt: Any, method: str, **message: Any) -> None:
        self.sent[method] = set(message)


class TransportRecorder(Recorder):
    """In place of a transport."""

    def cast(self, messages: Any, _done: Any, *, until: float) -> None:  # type: ignore[override]
        for message in messages:
            assert message.call.namespace is None
            self.sent[message.call.method] = set(message.call.arguments)


def public_methods(client: type) -> list[Callable[..., Any]]:
    members = inspect.getmembers(client, inspect.isfunction)
    return [method for name, method in members if not name.startswith('_')]


def exposed_methods(side: type) -> dict[str, inspect.Signature]:
    members = inspect.getmembers(side, inspect.isfunction)
    return {name: inspect.signature(method) for name, method in members if getattr(method, 'exposed', False)}


def version_of(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split('.'))


class PairsTest(base.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.useFixture(conffixture.ConfFixture(cfg.CONF, transport_url='fake://'))
        self.transport = rpc.get_transport(cfg.CONF)
        self.addCleanup(self.transport.cleanup)

    def test_the_versions_agree(self) -> None:
        for client, _, side in PAIRS:
            self.assertEqual(client.VERSION, side.target.version, client)

    def test_the_namespaces_agree(self) -> None:
        for client, arguments, side in PAIRS:
            if client in OVER_TRANSPORT:
                self.assertIsNone(side.target.namespace)
                continue
            target = client(self.transport, **arguments)._client.target
            self.assertEqual(target.namespace, side.target.namespace, client)
            self.assertEqual(target.version, client.VERSION, client)

    def test_endpoint_accepts_each_call_of_the_client(self) -> None:
        for client, arguments, side in PAIRS:
            sent = self.sent_by(client, arguments)
            exposed = exposed_methods(side)
            self.assertEqual(sorted(exposed), sorted(sent | dict.fromkeys(ELSEWHERE.get(client, ()))), client)
            for method, names in sent.items():
                parameters = list(exposed[method].parameters)
                self.assertEqual('ctxt', parameters[1], f'{side.__name__}.{method}')
                self.assertEqual(set(parameters[2:]), names, f'{side.__name__}.{method}')

    def sent_by(self, client: type, arguments: dict[str, Any]) -> dict[str, set[str]]:
        """Call each public method of a client once; return the messages, by RPC method."""
        recorder = TransportRecorder() if client in OVER_TRANSPORT else Recorder()
        api = client(recorder if client in OVER_TRANSPORT else self.transport, **arguments)
        if client not in OVER_TRANSPORT:
            api._client = recorder
        for method in public_methods(client):
            names = list(inspect.signature(method).parameters)[1:]
            method(api, **{name: SAMPLES[name] for name in names})
        return recorder.sent

    def test_the_history_ends_in_the_version(self) -> None:
        for client, _, _ in PAIRS:
            history = re.findall(r'^\s*\* (\d+\.\d+): (\S.*)$', client.__doc__ or '', re.MULTILINE)
            versions = [version_of(version) for version, _ in history]
            self.assertEqual(version_of(client.VERSION), versions[-1], client)
            self.assertEqual(sorted(set(versions)), versions, f'{client}: in order, each once')

    def test_every_method_stands_in_the_history(self) -> None:
        for client, arguments, _ in PAIRS:
            for method in self.sent_by(client, arguments):
                self.assertIn(f'``{method}``', client.__doc__ or '', client)
