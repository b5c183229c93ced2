"""The OpenAPI 3.1 document of the admin API, built from the table of operations."""

from __future__ import annotations

import re
from typing import Any

from external_events_router.admin import etags
from external_events_router.admin import routes
from external_events_router.admin import schemas
from external_events_router.api import faults
from external_events_router.conf import admin as admin_conf

Schema = dict[str, Any]

PATH = f'{routes.PREFIX}/openapi.json'

_JSON = 'application/json'

#: Further requirements of a request, besides its parameters.
SECURITY: list[Schema] = [{'token': []}]

_FAULTS = {
    400: 'A parameter or the body is not valid. The message names it and the permitted values.',
    403: 'The policy does not permit the caller to perform the operation.',
    404: 'The object does not exist.',
    409: 'The configuration of the router does not permit the operation.',
    412: 'The object was changed since the version in If-Match.',
    413: 'The body has too many bytes.',
    415: 'The Content-Type of the body is not application/json.',
    500: 'The service has an internal error; the reason is in its log.',
    503: 'A database, the broker, a resolver or Keystone is unavailable, or too many requests wait.',
}

_DEFAULT_MAX_LIMIT = next(opt.default for opt in admin_conf.OPTS if opt.name == 'max_limit')


def document(*, base_url: str = '/', max_limit: int = _DEFAULT_MAX_LIMIT) -> Schema:
    """Return the document.

    :param base_url: URL of the service, as the caller sees it
    :param max_limit: see ``[admin] max_limit``
    """
    paths: Schema = {}
    for route in routes.ROUTES:
        paths.setdefault(routes.PREFIX + route.path, {})[route.method.lower()] = _operation(route, max_limit)
    paths[PATH] = {
        'get': {
            'operationId': 'describe',
            'summary': 'This document',
            'security': [],
            'responses': {
                '200': {'description': 'This document', 'content': {_JSON: {'schema': {'type': 'object'}}}}
            },
        }
    }
    return {
        'openapi': '3.1.1',
        'info': {
            'title': 'Admin API of external-events-router',
            'version': 'v1',
            'summary': 'Events, held events, hosts and the host map, for operators.',
            'license': {'name': 'Apache License 2.0', 'identifier': 'Apache-2.0'},
        },
        'servers': [{'url': base_url}],
        'paths': paths,
        'components': {
            'schemas': {**schemas.ANSWERS, **schemas.BODIES},
            'responses': {str(status): _fault(status) for status in _FAULTS} | {'401': _unauthorized()},
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


def _operation(route: routes.Route, max_limit: int) -> Schema:
    names = re.findall('{([a-z]+)}', route.path)
    parameters = [_path_parameter(name) for name in names]
    parameters += [parameter.document() for parameter in routes.query_of(route, max_limit=max_limit)]
    if route.versioned and route.method != 'GET':
        parameters.append(
            {
                'name': 'If-Match',
                'in': 'header',
                'description': 'The ETag of the version that the caller has read. If the object has another '
                'version, nothing is changed and the answer is 412.',
                'schema': {'type': 'string', 'pattern': etags.PATTERN},
            }
        )
    operation: Schema = {
        'operationId': route.handler.__name__,
        'summary': route.summary,
        'description': f'Rule of the policy: external-events:{route.rule}.',
        'security': SECURITY,
        'parameters': parameters,
        'responses': {_success(route)[0]: _success(route)[1]}
        | {str(status): {'$ref': f'#/components/responses/{status}'} for status in sorted([*_FAULTS, 401])},
    }
    if route.body is not None:
        schema = {'$ref': f'#/components/schemas/{route.body}'}
        operation['requestBody'] = {'required': True, 'content': {_JSON: {'schema': schema}}}
    return operation


def _success(route: routes.Route) -> tuple[str, Schema]:
    if route.answer is None:
        return '204', {'description': 'Done.'}
    answer: Schema = {
        'description': f'{route.summary}.',
        'content': {_JSON: {'schema': {'$ref': f'#/components/schemas/{route.answer}'}}},
    }
    if route.versioned and route.answer in ('heldEvent', 'serverHosts'):
        answer['headers'] = {
            'ETag': {
                'description': 'The version of the object.',
                'required': True,
                'schema': {'type': 'string'},
            }
        }
    return '200', answer


def _path_parameter(name: str) -> Schema:
    description, pattern = routes.PATH[name]
    return {
        'name': name,
        'in': 'path',
        'required': True,
        'description': description,
        'schema': {'type': 'string', 'pattern': pattern},
    }


def _fault(status: int) -> Schema:
    return _described(_FAULTS[status], faults.NAMES.get(status, faults.DEFAULT_NAME), {'const': status})


def _unauthorized() -> Schema:
    found = _described('The token is missing or not valid.', 'error', {'const': 401})
    inner = found['content'][_JSON]['schema']['properties']['error']
    inner['properties']['title'] = {'type': 'string'}
    inner['required'].append('title')
    return found


def _described(description: str, name: str, code: Schema) -> Schema:
    inner = {
        'type': 'object',
        'properties': {'code': code, 'message': {'type': 'string', 'minLength': 1}},
        'required': ['code', 'message'],
        'additionalProperties': False,
    }
    outer = {
        'type': 'object',
        'properties': {name: inner},
        'required': [name],
        'additionalProperties': False,
    }
    return {'description': description, 'content': {_JSON: {'schema': outer}}}
