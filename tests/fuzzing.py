"""Arbitrary messages for the endpoints behind the broker, as strategies of hypothesis.

A message is a body and the properties that it is published with. Its parts are plausible
or arbitrary, each for itself, so that an invalid value reaches every check, and not only
the first one. No valid message here concerns a server or a host of a test's own load: a
valid ``report`` or ``assign`` has its effect, regardless of its sender.
"""

from __future__ import annotations

from collections.abc import Callable
import dataclasses
import json
from typing import Any

import hypothesis
from hypothesis import strategies as st

from tests import generated

#: Servers and hosts that only fuzz messages name.
SERVERS = tuple(f'f0f0f0f0-0000-4000-8000-00000000000{number}' for number in range(4))
HOSTS = ('fuzz-host-1', 'fuzz-host-2')

#: The longest body, in bytes.
HUGE = 20 * 1000 * 1000

#: Texts that a parser, a database, a terminal or a routing key may not accept.
_TEXTS = (
    '',
    '#',
    '*',
    'fuzz.*.#',
    'a' * 64,
    'a' * 248,
    'a' * 255,
    'a' * 300,
    'a' * 70_000,
    ' fuzz-host-1',
    'fuzz-host-1\n',
    '\x00',
    '\x1b[2J',
    '\ud800',
    'tag\udfff',
    '\u20ac' * 36,
    '\u202e',
    '%s%n%(x)s{0}',
    "'; DROP TABLE servers; --",
    'F0F0F0F0-0000-4000-8000-000000000000',
    '{f0f0f0f0-0000-4000-8000-000000000000}',
    'f0f0f0f0-0000-4000-8000-00000000000\u0661',
)

_NUMBERS = (0, -1, 1, 0.0, -0.0, 1e-320, 1e6, 4e9, 1e18, 1e308, 2**53, 2**63, 2**64, 10**400, -(10**400))
_NOT_FINITE = (float('nan'), float('inf'), float('-inf'))

TEXTS = st.sampled_from(_TEXTS) | st.text(st.characters(exclude_categories=()), max_size=40)
NUMBERS = st.sampled_from(_NUMBERS + _NOT_FINITE) | st.integers() | st.floats()
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)

_server = st.sampled_from(SERVERS)
_host = st.sampled_from(HOSTS)
_id = st.uuids().map(str)


def _mixed(plausible: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Mostly a plausible value."""
    return st.integers(0, 3).flatmap(lambda number: plausible if number else VALUES)


def _object(**members: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """An object whose members are mixed; some may be missing, and others may be added."""
    mixed = {name: _mixed(plausible) for name, plausible in members.items()}
    whole = st.fixed_dictionaries(mixed)
    partial = st.fixed_dictionaries({}, optional=mixed)
    more = st.builds(
        lambda known, extra: {**extra, **known}, whole, st.dictionaries(TEXTS, VALUES, max_size=2)
    )
    return whole | whole | partial | more


_event = _object(
    id=_id,
    name=st.sampled_from(('network-changed', 'volume-extended', 'power-update', 'no-such-name')),
    server_uuid=_server,
    tag=st.none() | _id | TEXTS,
    status=st.sampled_from(('completed', 'failed', 'in-progress')),
)
_events = st.lists(_mixed(_event), max_size=3)
_result = _object(
    event_id=_id,
    verdict=st.sampled_from(('handled', 'not-here', 'refused')),
    reason=st.none() | TEXTS,
)
_results = st.lists(_mixed(_result), max_size=3)
_context = _object(
    request_id=_id.map('req-{}'.format),
    global_request_id=st.none() | _id.map('req-{}'.format),
    user_id=TEXTS,
    project_id=TEXTS,
    roles=st.lists(TEXTS, max_size=2),
    is_admin=st.booleans(),
)
_token = st.sampled_from(
    ('', '0.', '.', f'9999999999.{"A" * 43}', f'{"9" * 64}', f'-1.{"A" * 43}', f'1e9.{"A" * 43}', '9.' * 32)
)
_deadline = st.sampled_from((0, 1, 4e9, 4_000_000_000_000))
_delivery = {
    'delivery_id': _id,
    'reply_to': st.sampled_from(('fuzz-worker', 'a' * 300)),
    'deadline': _deadline,
    'events': _events,
}

#: Namespace and method to the arguments.
METHODS: dict[tuple[str | None, str], dict[str, st.SearchStrategy[Any]]] = {
    (None, 'route'): {
        'events': _events,
        'ack_timeout': st.sampled_from((0.1, 2.0, 1e6)),
        'timeout': st.none() | st.sampled_from((0.1, 3.0, 1e6)),
    },
    (None, 'acknowledge'): {'delivery_id': _id, 'results': _results, 'host': st.none() | _host},
    (None, 'acknowledge_all'): {
        'acknowledgements': st.lists(
            _mixed(_object(delivery_id=_id, host=_host, results=_results)), max_size=3
        )
    },
    (None, 'take_token'): {'token': _token},
    (None, 'deliver'): _delivery,
    (None, 'deliver_all'): {
        'deliveries': st.lists(_mixed(_object(**_delivery, context=_context)), max_size=3)
    },
    ('host-map', 'assign'): {'server_uuid': _server, 'host': _host},
    ('host-map', 'unassign'): {'server_uuid': _server, 'host': _host},
    ('host-map', 'forget'): {'server_uuid': _server},
    ('host-map', 'report'): {
        'host': _host,
        'server_uuids': st.none() | st.lists(_mixed(_server), max_size=3),
        'token': st.none() | _token,
    },
    ('peers', 'host_is_back'): {'host': _host},
    ('peers', 'hosts_are_back'): {'hosts': st.lists(_mixed(_host), max_size=3)},
    ('peers', 'hosts_are_silent'): {
        'hosts': st.lists(_mixed(_host), max_size=3),
        'unconsumed': st.booleans(),
    },
}

VERSIONS = ('1.0', '1.1', '1.2')
_version = st.sampled_from(VERSIONS * 3) | st.sampled_from(
    ('', '1', '1.', '.1', '2.0', '1.99999', '9' * 5000, '1.0.0', '-1.0', '1.\u0661', ' 1.0', 'latest')
)


@st.composite
def messages(draw: Callable[..., Any]) -> dict[str, Any]:
    """The RPC message of a cast or a call, with arbitrary parts."""
    namespace, method = draw(st.sampled_from(list(METHODS)))
    message = {
        'method': method,
        'args': draw(_object(**METHODS[namespace, method])),
        'version': draw(_version),
        '_unique_id': draw(_id),
    }
    if namespace is not None:
        message['namespace'] = namespace
    message.update({f'_context_{name}': value for name, value in draw(_context).items()})
    if draw(st.integers(0, 4)) == 0:
        message[draw(st.sampled_from((*message, '_timeout', '_context_roles')))] = draw(VALUES)
    if draw(st.integers(0, 4)) == 0:
        message['method'] = draw(
            st.sampled_from(('target', '__init__', '_receive', 'no_such_method')) | TEXTS
        )
    if draw(st.integers(0, 9)) == 0:
        message['namespace'] = draw(VALUES)
    if draw(st.integers(0, 4)) == 0:
        # A call, whose answer goes to a queue that does not exist.
        message.update({'_msg_id': draw(_id), '_reply_q': draw(_mixed(_id.map('reply_{}'.format)))})
    return message


def wrapped(message: Any) -> bytes:
    """A message in the envelope of oslo.messaging."""
    return json.dumps({'oslo.version': '2.0', 'oslo.message': json.dumps(message)}).encode()


_envelopes = st.builds(
    lambda envelope: json.dumps(envelope).encode(),
    VALUES
    | _object(**{'oslo.version': st.just('2.0'), 'oslo.message': VALUES.map(json.dumps)})
    | st.fixed_dictionaries({'oslo.version': VALUES, 'oslo.message': messages().map(json.dumps)}),
)

#: Bodies of any kind, most of them messages.
BODIES = (
    messages().map(wrapped)
    | messages().map(wrapped)
    | messages().map(wrapped)
    | messages().map(lambda message: json.dumps(message).encode())
    | _envelopes
    | st.binary(max_size=200)
)

#: Message properties that describe a body.
PROPERTIES = st.fixed_dictionaries(
    {},
    optional={
        'content_type': st.sampled_from(
            ('application/json', 'application/x-python-serialize', 'application/data', 'text/plain', 'x', '')
        ),
        'content_encoding': st.sampled_from(('utf-8', 'binary', 'utf-16', 'no-such-encoding', '')),
        'application_headers': st.sampled_from(
            ({}, {'compression': 'application/x-gzip'}, {'compression': 'x'}, {'compression': 7})
        ),
        'correlation_id': st.sampled_from(('', 'x' * 255)),
        'reply_to': st.sampled_from(('', 'x' * 255)),
    },
)


@dataclasses.dataclass(frozen=True)
class Sent:
    """A message to publish; the test chooses its destination."""

    body: bytes
    properties: dict[str, Any]


#: The properties of a body of oslo.messaging; it reads no other.
JSON = {'content_type': 'application/json', 'content_encoding': 'utf-8'}

SENT = st.builds(Sent, BODIES, st.just(JSON)) | st.builds(Sent, BODIES, PROPERTIES)


def _call(method: str, namespace: str | None = None, version: str = '1.0', **arguments: Any) -> bytes:
    message = {'method': method, 'args': arguments, 'version': version, '_unique_id': 'a'}
    return wrapped({**message, **({} if namespace is None else {'namespace': namespace})})


def _event_of(server: str, **members: Any) -> dict[str, Any]:
    event = {'id': 'e', 'name': 'network-changed', 'server_uuid': server, 'tag': None, 'status': 'completed'}
    return {**event, **members}


def unusual() -> list[bytes]:
    """Bodies that have done harm once, and the largest ones."""
    results = [{'event_id': 'e', 'verdict': 'handled', 'reason': 'half \ud800'}]
    padded = _call('acknowledge', delivery_id='d', results=[], host='x' * HUGE)
    digits = _call('deliver', delivery_id='d', reply_to='w', deadline=0, events=[])
    return [
        *(_call('assign', 'host-map', server_uuid=SERVERS[0], host='h' * size) for size in (248, 255, 256)),
        _call('report', 'host-map', host='#', server_uuids=[SERVERS[0]]),
        _call('deliver', delivery_id='d', reply_to='r' * 300, deadline=4e9, events=[_event_of(SERVERS[0])]),
        *[_call('route', events=[_event_of(SERVERS[0])], ack_timeout=1e6)] * 40,
        _call('route', events=[_event_of('\u20ac' * 36)], ack_timeout=2.0),
        _call('acknowledge', delivery_id='d', results=results, host=HOSTS[0], version='1.1'),
        _call(
            'acknowledge_all',
            version='1.2',
            acknowledgements=[{'delivery_id': 'd', 'host': HOSTS[0], 'results': results}, None, 7],
        ),
        b'[' * 100_000,
        json.dumps({'oslo.version': '2.0', 'oslo.message': '{"method":' * 50_000}).encode(),
        digits.replace(b'\\"deadline\\": 0', b'\\"deadline\\": ' + b'9' * 5000),
        padded,
        b'\x00' * HUGE,
    ]


def examples(number: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return the decorator for a property with so many examples."""
    return generated.examples(number, suppress_health_check=list(hypothesis.HealthCheck))
