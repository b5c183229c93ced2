"""JSON Schemas for request and response of the API, and error messages for invalid documents.

The schemas are built from the table of events, per microversion. ``api`` chooses the HTTP status of an
error.
"""

from __future__ import annotations

import functools
import json
import re
from typing import Any

import jsonschema
import jsonschema.protocols
import jsonschema_rs

from external_events_router import events

#: Maximum characters of a value in an error message.
_SHOWN = 60

_IDENTIFIER = re.compile('[A-Za-z_][A-Za-z0-9_-]{0,40}')
_EXPECTED_TYPES = {
    'object': 'an object',
    'array': 'an array',
    'string': 'a string',
    'integer': 'an integer',
    'boolean': 'a boolean',
}


def request_schema(version: events.Microversion, *, strict: bool = True) -> dict[str, Any]:
    """Return the schema of a request body.

    :param strict: unknown members are errors; False: they are ignored, as in the compatible ``/v2``
        endpoint
    """
    return _request_schema(events.names_at(version), strict)


def _request_schema(names: tuple[str, ...], strict: bool) -> dict[str, Any]:
    event: dict[str, Any] = {
        'type': 'object',
        'properties': {
            'name': {'type': 'string', 'enum': list(names)},
            'server_uuid': {'type': 'string', 'format': 'uuid'},
            'tag': {'type': 'string', 'maxLength': events.MAX_TAG_LENGTH},
            'status': {'type': 'string', 'enum': list(events.STATUSES)},
        },
        'required': ['name', 'server_uuid'],
    }
    batch: dict[str, Any] = {
        'type': 'object',
        'properties': {'events': {'type': 'array', 'minItems': 1, 'items': event}},
        'required': ['events'],
    }
    if strict:
        event['additionalProperties'] = batch['additionalProperties'] = False
    return {'$schema': jsonschema.Draft202012Validator.META_SCHEMA['$id'], **batch}


def response_schema() -> dict[str, Any]:
    """Return the schema of a response with a code per event (200 and 207)."""
    event = {
        'type': 'object',
        'properties': {
            'name': {'type': 'string', 'enum': list(events.EVENT_TYPES)},
            'server_uuid': {'type': 'string', 'format': 'uuid'},
            'tag': {'type': 'string', 'maxLength': events.MAX_TAG_LENGTH},
            'status': {'type': 'string', 'enum': ['completed', 'failed']},
            'code': {'type': 'integer', 'enum': [int(code) for code in events.Code]},
        },
        'required': ['name', 'server_uuid', 'status', 'code'],
        'additionalProperties': False,
    }
    return {
        '$schema': jsonschema.Draft202012Validator.META_SCHEMA['$id'],
        'type': 'object',
        'properties': {'events': {'type': 'array', 'minItems': 1, 'items': event}},
        'required': ['events'],
        'additionalProperties': False,
    }


def request_problem(document: Any, version: events.Microversion, *, strict: bool = True) -> str | None:
    """Return the first error of a request body, or None.

    :returns: a message with the member, its value, and the permitted values
    :raises RecursionError: the document is nested too deeply
    """
    names = events.names_at(version)
    if _is_valid(document, names, strict):
        return None
    for error in _validator(names, strict).iter_errors(document):
        return _message(error)
    return None


def _is_valid(document: Any, names: tuple[str, ...], strict: bool) -> bool:
    """Return whether a body is valid and has the usual form; otherwise its errors must be searched.

    This takes a tenth of the time of the search. The library accepts UUIDs in the usual form only, and
    no texts with half a surrogate pair as names of members or as UUIDs.
    """
    try:
        return _fast_validator(names, strict).is_valid(document)
    except (UnicodeEncodeError, ValueError):
        return False


def _is_uuid(value: object) -> bool:
    return not isinstance(value, str) or events.canonical_uuid(value) is not None


@functools.cache
def _fast_validator(names: tuple[str, ...], strict: bool) -> jsonschema_rs.Draft202012Validator:
    return jsonschema_rs.Draft202012Validator(_request_schema(names, strict), validate_formats=True)


@functools.cache
def _validator(names: tuple[str, ...], strict: bool) -> jsonschema.protocols.Validator:
    checker = jsonschema.FormatChecker(formats=())
    checker.checks('uuid')(_is_uuid)
    return jsonschema.Draft202012Validator(_request_schema(names, strict), format_checker=checker)


def _message(error: jsonschema.ValidationError) -> str:
    where = _path(error)
    value: Any = error.instance
    shown = _short(value)
    # NOTE: by their types these members are optional, but errors of a validator always have them.
    rule: Any = error.validator_value
    schema: Any = error.schema
    match error.validator:
        case 'required':
            missing = [name for name in rule if name not in value]
            return f'{_member(where, missing[0])} is missing'
        case 'additionalProperties':
            allowed = schema['properties']
            unknown = next(name for name in value if name not in allowed)
            return f'{_member(where, unknown)} is not a known member; known are: {", ".join(allowed)}'
        case 'type':
            return f'{where or "the body"} is {shown}, but must be {_EXPECTED_TYPES[rule]}'
        case 'enum':
            return f'{where} is {shown}, but must be one of: {", ".join(rule)}{_since(error)}'
        case 'maxLength':
            return f'{where} is {shown}, which has {len(value)} characters; at most {rule} are allowed'
        case 'format':
            return f'{where} is {shown}, but must be a UUID'
        case _:
            return f'{where} is empty, but must contain at least one event'


def _since(error: jsonschema.ValidationError) -> str:
    name: Any = error.instance
    if error.path[-1] == 'name' and name in events.EVENT_TYPES:
        major, minor = events.EVENT_TYPES[name].min_version
        return f' ({name} needs microversion {major}.{minor})'
    return ''


def _path(error: jsonschema.ValidationError) -> str:
    path = ''
    for step in error.absolute_path:
        path = f'{path}[{step}]' if isinstance(step, int) else _member(path, step)
    return path


def _member(path: str, name: str) -> str:
    shown = name if _IDENTIFIER.fullmatch(name) else _short(name)
    return f'{path}.{shown}' if path else shown


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return '{...}' if value else '{}'
    if isinstance(value, list):
        return '[...]' if value else '[]'
    if isinstance(value, str) and len(value) > _SHOWN:
        return f'{json.dumps(value[:_SHOWN])}...'
    text = json.dumps(value)
    return text if isinstance(value, str) or len(text) <= _SHOWN else f'{text[:_SHOWN]}...'
