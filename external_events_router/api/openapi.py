"""The API described by itself: an OpenAPI 3.1 document, made of the table of events and the schemas.

It describes what the handlers do and is not what they do it by: requests are
judged by ``schemas``, at the microversion that they ask for. The document is of
the newest microversion; from which one on an event's name is admitted stands
beside the name.
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
#: When a status is the answer to the whole request.
_FAULTS = {
    400: 'The body is no JSON or not of this form, the microversion is none, or the project in the path '
    "is not the caller's. The message names the field, its value and what is allowed.",
    403: 'The policy does not let the caller send events.',
    404: 'No event names a known server (where the operator has not chosen a 207 for it).',
    406: 'The microversion is not supported.',
    413: 'The body has too many bytes, or too many events.',
    415: 'The body is said to be something else than JSON.',
    500: 'The service has an error of its own; its log says which.',
    503: 'The token has to be validated and Keystone does not answer, or memory for the body is short.',
}


def document(base_url: str = '/') -> Schema:
    """The document.

    :param base_url: where the service is, as its caller sees it
    """
    return {
        'openapi': '3.1.1',
        'info': {
            'title': 'Server external events',
            'version': versions.text(events.MAX_MICROVERSION),
            'summary': 'What happened to servers, told to the hosts they are on.',
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
                    'description': 'A token of Keystone.',
                }
            },
        },
    }


class Served:
    """The document, as a resource; needs no token."""

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
            '207': _answer('Not every event was delivered; each says what became of it.', legacy=legacy),
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
    """A request's schema with what else the table knows of each name."""
    members = schema['properties']['events']['items']['properties']
    names = members['name'].pop('enum')
    members['name']['oneOf'] = [_named(events.EVENT_TYPES[name]) for name in names]
    members['status']['default'] = events.DEFAULT_STATUS
    members['server_uuid']['description'] = 'Case, dashes, braces and urn:uuid: make no other server of it.'
    members['tag']['description'] = 'What it happened to: a port, a volume, an accelerator request.'
    return _without_dialect(schema)


def _named(kind: events.EventType) -> Schema:
    first = versions.text(kind.min_version)
    told = [f'Since microversion {first}.']
    if kind.tags:
        told.append(f'The tag must be one of {", ".join(kind.tags)}.')
    elif kind.tag_required:
        told.append('Needs a tag.')
    return {'const': kind.name, 'description': ' '.join(told), 'x-openstack': {'min-ver': first}}


def _without_dialect(schema: Schema) -> Schema:
    # NOTE: the dialect of OpenAPI 3.1 is the very one that $schema names.
    return {key: value for key, value in schema.items() if key != '$schema'}


def _fault(status: int) -> Schema:
    name = faults.NAMES.get(status, faults.DEFAULT_NAME)
    inner = _object(code={'const': status}, message={'type': 'string', 'minLength': 1})
    return {'description': _FAULTS[status], 'content': {media.JSON: {'schema': _object(**{name: inner})}}}


def _unauthorized() -> Schema:
    text = {'type': 'string'}
    inner = _object(code={'const': 401}, title=text, message=text)
    return {
        'description': 'There is no token, or it is not valid.',
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
    told = f'{first} to {last}, or latest; {first} where nothing is said.'
    return {
        'project': {
            'name': 'project_id',
            'in': 'path',
            'required': True,
            'description': "The caller's own project.",
            'schema': {'type': 'string', 'pattern': '^[0-9a-f-]+$'},
        },
        'version': _header_parameter(versions.HEADER, f'The microversion, after the word compute: {told}'),
        'legacyVersion': _header_parameter(versions.LEGACY_HEADER, f'The same without the word: {told}'),
        'requestId': _header_parameter(
            'X-OpenStack-Request-ID',
            "The sender's own id of the request. A batch sent again under the same id does nothing twice.",
        ),
    }


def _header_parameter(name: str, description: str) -> Schema:
    return {'name': name, 'in': 'header', 'description': description, 'schema': {'type': 'string'}}


def _headers() -> Schema:
    told = {
        'x-openstack-request-id': "This service's id of the request.",
        'x-compute-request-id': 'The same.',
        versions.HEADER: 'The microversion that was used, after the word compute.',
        versions.LEGACY_HEADER: 'The microversion that was used.',
    }
    return {
        name: {'description': text, 'required': True, 'schema': {'type': 'string'}}
        for name, text in told.items()
    }


def _content(schema: str) -> Schema:
    return {media.JSON: {'schema': _ref('schemas', schema)}}


def _ref(kind: str, name: str) -> Schema:
    return {'$ref': f'#/components/{kind}/{name}'}


def _refs(kind: str, *names: str) -> list[Schema]:
    return [_ref(kind, name) for name in names]
