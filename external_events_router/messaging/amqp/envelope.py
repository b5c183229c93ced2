"""Messages in the format of oslo.messaging: an RPC message in an envelope, JSON inside JSON.

This is envelope version 2.0. The members of the message, and the names of the members that contain
the context, are taken from messages of oslo.messaging 18.
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
    """A method call or cast.

    :ivar context: dict of the request context
    """

    method: str
    version: str
    arguments: Mapping[str, Any]
    context: Mapping[str, Any]
    namespace: str | None = None


def encode(call: Call, *, extra: Mapping[str, Any] | None = None) -> bytes:
    """Return the body of a cast.

    :param extra: further members of the message, for example to ask for a reply
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
    """Return a message in its envelope."""
    try:
        return orjson.dumps({'oslo.version': _VERSION, 'oslo.message': orjson.dumps(message).decode()})
    except TypeError:
        # NOTE: half a surrogate pair, which only the standard library can encode.
        return json.dumps({'oslo.version': _VERSION, 'oslo.message': json.dumps(message)}).encode()


def unwrap(body: bytes) -> dict[str, Any]:
    """Return the message of an envelope.

    :raises MalformedMessage: oslo.messaging would not send such a message
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
        # NOTE: half a surrogate pair, which only the standard library can decode; or invalid JSON.
        return json.loads(text)


def decode(body: bytes) -> Call:
    """Return the call in a message.

    :raises MalformedMessage: the message contains no valid call
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
