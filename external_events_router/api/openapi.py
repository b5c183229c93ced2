"""The OpenAPI 3.1 document of the API, built from the table of events and the schemas.

The document describes the handlers; they do not use it. ``schemas`` validates requests at the
microversion of the request. The document describes the newest microversion, and each event name
has the first microversion that accepts it.
"""

from __future__ import annotations

import json
from typing import Any

import falcon

from external_events_router import events
from external_events_router import schemas
from external_events_router.api import faults
from external_events_router.api import media
from external_events_router.api import versions

Schema = dict[str, Any]

_BATCH = 'os-server-external-events'
#: Meaning of a status for the whole request.
_FAULTS = {
    400: 'The body is not JSON or not valid, the microversion is malformed, or the project in the path is '
    'not the project of the caller. The message names the field, its value and the permitted values.',
    403: 'The policy does not permit the caller to send events.',
    404: 'No event is for a known server (unless the operator has configured 207 for this case).',
    406: 'The microversion is not supported.',
    413: 'The body has too many bytes, or too many events.',
    415: 'The Content-Type of the body is not JSON.',
    500: 'The service has an internal error; the reason is in its log.',
    503: 'Keystone is unavailable, so the token cannot be validated, or there is no memory for the body.',
}


def document(base_url: str = '/') -> Schema:
    """Return the document.

    :param base_url: URL of the service, as the caller sees it
    """
    return {
        'openapi': '3.1.1',
        'info': {
            'title': 'Server external events',
            'version': versions.text(events.MAX_MICROVERSION),
            'summary': 'Events of servers, sent to the hosts of these servers.',
            'license': {'name': 'Apache License 2.0', 'identifier': 'Apache-2.0'},
        },
        'servers': [{'url': base_url}],
        'paths': _paths(),
        'components': {
            'schemas': _schemas(),
            'responses': {str(status): _fault(status) for status in _FAULTS} | {'401': _unauthorized()},
            'parameters': _parameters(),
            'headers': _headers(),
            'securitySchemes': {
                'token': {
                    'type': 'apiKey',
                    'in': 'header',
                    'name': 'X-Auth-Token',
                    'description': 'A Keystone token.',
                }
            },
        },
    }


class Served:
    """The resource that returns the document. It needs no token."""

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        resp.content_type = media.JSON
        resp.data = json.dumps(document(req.prefix)).encode()


def _paths() -> Schema:
    return {
        '/': {'get': _open_operation('listVersions', 'The endpoints and their versions', 'versions')},
        '/v2.1': {
            'get': {
                **_open_operation('showVersion', 'The versions of the endpoint', 'version'),
                'parameters': _refs('parameters', 'version', 'legacyVersion'),
            }
        },
        '/v2': {'get': _open_operation('showLegacyVersion', 'The version of the endpoint', 'version')},
        '/v2.1/openapi.json': {'get': _open_operation('describe', 'This document', 'any')},
        f'/v2.1/{_BATCH}': {'post': _send('send')},
        f'/v2.1/{{project_id}}/{_BATCH}': {'post': _send('sendInProject', 'project')},
        f'/v2/{_BATCH}': {'post': _send('sendLegacy', legacy=True)},
        f'/v2/{{project_id}}/{_BATCH}': {'post': _send('sendLegacyInProject', 'project', legacy=True)},
    }


def _open_operation(operation_id: str, summary: str, schema: str) -> Schema:
    responses = {'200': {'description': summary, 'content': _content(schema)}}
    if operation_id == 'showVersion':
        responses |= {status: _ref('responses', status) for status in ('400', '406')}
    return {'operationId': operation_id, 'summary': summary, 'security': [], 'responses': responses}


def _send(operation_id: str, *parameters: str, legacy: bool = False) -> Schema:
    headers = () if legacy else ('version', 'legacyVersion')
    statuses = [status for status in _FAULTS if status != 406 or not legacy]
    return {
        'operationId': operation_id,
        'summary': 'Send a batch of events to the hosts of their servers',
        'security': [{'token': []}],
        'parameters': _refs('parameters', *parameters, *headers, 'requestId'),
        'requestBody': {'required': True, 'content': _content('legacyBatch' if legacy else 'batch')},
        'responses': {
            '200': _answer('Every event was delivered.', legacy=legacy),
            '207': _answer('Not every event was delivered; each event has a code.', legacy=legacy),
            **{str(status): _ref('responses', str(status)) for status in sorted([*statuses, 401])},
        },
    }


def _answer(description: str, *, legacy: bool) -> Schema:
    names = ['x-openstack-request-id', 'x-compute-request-id']
    if not legacy:
        names += [versions.HEADER, versions.LEGACY_HEADER]
    return {
        'description': description,
        'headers': {name: _ref('headers', name) for name in names},
        'content': _content('outcomes'),
    }


def _schemas() -> Schema:
    return {
        'batch': _annotated(schemas.request_schema(events.MAX_MICROVERSION)),
        'legacyBatch': _annotated(schemas.request_schema(events.MIN_MICROVERSION, strict=False)),
        'outcomes': _without_dialect(schemas.response_schema()),
        'versions': versions.list_schema(),
        'version': versions.document_schema(),
        'any': {'type': 'object'},
    }


def _annotated(schema: Schema) -> Schema:
    """Add to the schema of a request the properties of each event name."""
    members = schema['properties']['events']['items']['properties']
    names = members['name'].pop('enum')
    members['name']['oneOf'] = [_named(events.EVENT_TYPES[name]) for name in names]
    members['status']['default'] = events.DEFAULT_STATUS
    members['server_uuid']['description'] = (
        'Upper or lower case, with or without dashes, braces and urn:uuid: the server is the same.'
    )
    members['tag']['description'] = 'The object of the event: a port, a volume, an accelerator request.'
    return _without_dialect(schema)


def _named(kind: events.EventType) -> Schema:
    first = versions.text(kind.min_version)
    sentences = [f'Since microversion {first}.']
    if kind.tags:
        sentences.append(f'The tag must be one of {", ".join(kind.tags)}.')
    elif kind.tag_required:
        sentences.append('Requires a tag.')
    return {'const': kind.name, 'description': ' '.join(sentences), 'x-openstack': {'min-ver': first}}


def _without_dialect(schema: Schema) -> Schema:
    # NOTE: $schema names the dialect that OpenAPI 3.1 uses by default.
    return {key: value for key, value in schema.items() if key != '$schema'}


def _fault(status: int) -> Schema:
    name = faults.NAMES.get(status, faults.DEFAULT_NAME)
    inner = _object(code={'const': status}, message={'type': 'string', 'minLength': 1})
    return {'description': _FAULTS[status], 'content': {media.JSON: {'schema': _object(**{name: inner})}}}


def _unauthorized() -> Schema:
    text = {'type': 'string'}
    inner = _object(code={'const': 401}, title=text, message=text)
    return {
        'description': 'The token is missing or not valid.',
        'content': {media.JSON: {'schema': _object(error=inner)}},
    }


def _object(**members: Schema) -> Schema:
    return {
        'type': 'object',
        'properties': members,
        'required': list(members),
        'additionalProperties': False,
    }


def _parameters() -> Schema:
    first, last = versions.text(events.MIN_MICROVERSION), versions.text(events.MAX_MICROVERSION)
    value = f'{first} to {last}, or latest; the default is {first}.'
    return {
        'project': {
            'name': 'project_id',
            'in': 'path',
            'required': True,
            'description': 'The project of the caller.',
            'schema': {'type': 'string', 'pattern': '^[0-9a-f-]+$'},
        },
        'version': _header_parameter(versions.HEADER, f'The microversion, after the word compute: {value}'),
        'legacyVersion': _header_parameter(versions.LEGACY_HEADER, f'The same without the word: {value}'),
        'requestId': _header_parameter(
            'X-OpenStack-Request-ID',
            "The sender's id of the request. If a batch is sent again with the same id, each event is "
            'handled only once.',
        ),
    }


def _header_parameter(name: str, description: str) -> Schema:
    return {'name': name, 'in': 'header', 'description': description, 'schema': {'type': 'string'}}


def _headers() -> Schema:
    descriptions = {
        'x-openstack-request-id': 'The id that this service gives the request.',
        'x-compute-request-id': 'The same id.',
        versions.HEADER: 'The microversion that was used, after the word compute.',
        versions.LEGACY_HEADER: 'The microversion that was used.',
    }
    return {
        name: {'description': text, 'required': True, 'schema': {'type': 'string'}}
        for name, text in descriptions.items()
    }


def _content(schema: str) -> Schema:
    return {media.JSON: {'schema': _ref('schemas', schema)}}


def _ref(kind: str, name: str) -> Schema:
    return {'$ref': f'#/components/{kind}/{name}'}


def _refs(kind: str, *names: str) -> list[Schema]:
    return [_ref(kind, name) for name in names]
