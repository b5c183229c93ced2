"""Messages as oslo.messaging puts them on the wire: an RPC message in an envelope, JSON in JSON.

Envelope version 2.0; members of the message and the names of those that carry
the context were read off messages of oslo.messaging 18.
"""

from __future__ import annotations

from collections.abc import Mapping
import dataclasses
import json
from typing import Any

import orjson

from external_events_router import exceptions
from external_events_router import ids

_VERSION = '2.0'
_CONTEXT = '_context_'


@dataclasses.dataclass(slots=True)
class Call:
    """A method that somebody asks for.

    :ivar context: of the request, as the context's dict
    """

    method: str
    version: str
    arguments: Mapping[str, Any]
    context: Mapping[str, Any]
    namespace: str | None = None


def encode(call: Call, *, extra: Mapping[str, Any] | None = None) -> bytes:
    """The body of a cast.

    :param extra: further members of the message, such as those that ask for a reply
    """
    message: dict[str, Any] = {'method': call.method, 'args': call.arguments, 'version': call.version}
    if call.namespace is not None:
        message['namespace'] = call.namespace
    message.update(extra or {})
    message['_unique_id'] = ids.random_hex()
    for name, value in call.context.items():
        message[_CONTEXT + name] = value
    return wrap(message)


def wrap(message: Mapping[str, Any]) -> bytes:
    """A message in its envelope."""
    try:
        return orjson.dumps({'oslo.version': _VERSION, 'oslo.message': orjson.dumps(message).decode()})
    except TypeError:
        # NOTE: half a surrogate pair, which only the standard library takes.
        return json.dumps({'oslo.version': _VERSION, 'oslo.message': json.dumps(message)}).encode()


def unwrap(body: bytes) -> dict[str, Any]:
    """The message of an envelope.

    :raises MalformedMessage: it is none that oslo.messaging would send
    """
    try:
        envelope = _loads(body)
        message = _loads(envelope['oslo.message']) if 'oslo.message' in envelope else envelope
    except (ValueError, TypeError, RecursionError) as exc:
        raise exceptions.MalformedMessage(what='message', value=body[:200]) from exc
    if not isinstance(message, dict):
        raise exceptions.MalformedMessage(what='message', value=body[:200])
    return message


def _loads(text: str | bytes) -> Any:
    try:
        return orjson.loads(text)
    except ValueError:
        # NOTE: half a surrogate pair, which only the standard library takes; or no JSON.
        return json.loads(text)


def decode(body: bytes) -> Call:
    """What a cast asks for.

    :raises MalformedMessage: it asks for nothing
    """
    message = unwrap(body)
    method, arguments = message.get('method'), message.get('args', {})
    if not isinstance(method, str) or not isinstance(arguments, dict):
        raise exceptions.MalformedMessage(what='message', value=body[:200])
    start = len(_CONTEXT)
    return Call(
        method=method,
        version=str(message.get('version', '1.0')),
        arguments=arguments,
        context={name[start:]: value for name, value in message.items() if name.startswith(_CONTEXT)},
        namespace=message.get('namespace'),
    )
