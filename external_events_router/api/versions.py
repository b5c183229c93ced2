"""Microversions: the version documents, and the microversion of a request.

The documents are those of the compute service, because clients look for this service. ``schemas``
defines what a microversion changes in a request.
"""

from __future__ import annotations

import functools
import json
import re
from typing import Any
from urllib import parse

import falcon
import microversion_parse

from external_events_router import events
from external_events_router.api import bodies
from external_events_router.api import faults
from external_events_router.api import media
from external_events_router.api import request_buffer

SERVICE_TYPE = 'compute'
HEADER = 'OpenStack-API-Version'
LEGACY_HEADER = 'X-OpenStack-Nova-API-Version'

_HEADER_KEY = f'HTTP_{HEADER.upper().replace("-", "_")}'
_LEGACY_HEADER_KEY = f'HTTP_{LEGACY_HEADER.upper().replace("-", "_")}'

#: Limits the number of digits; int() refuses strings of thousands of digits.
_VERSION = re.compile(r'([1-9][0-9]{0,99})\.(0|[1-9][0-9]{0,99})')

#: Methods whose body is read and checked, although no document depends on it.
_WITH_BODY = ('POST', 'PUT')

#: Characters that are not escaped in the path of a link.
_PATH_SAFE = "/~!$&'()*+,;=:@"


def text(version: events.Microversion) -> str:
    """Return a microversion as text."""
    return f'{version[0]}.{version[1]}'


def negotiate(req: falcon.Request, resp: falcon.Response) -> events.Microversion:
    """Return the microversion of a request, and set it in the headers of the response.

    :raises Fault: 400 if it is malformed, 406 if it is not supported
    """
    version = _requested(req.env)
    resp.set_header(HEADER, f'{SERVICE_TYPE} {text(version)}')
    resp.set_header(LEGACY_HEADER, text(version))
    resp.set_header('Vary', f'{HEADER}, {LEGACY_HEADER}')
    if not events.MIN_MICROVERSION <= version <= events.MAX_MICROVERSION:
        raise faults.Fault(
            406,
            f'Version {text(version)} is not supported by the API. '
            f'Minimum is {text(events.MIN_MICROVERSION)} and maximum is {text(events.MAX_MICROVERSION)}.',
        )
    return version


def _requested(environ: dict[str, Any]) -> events.Microversion:
    header, legacy = environ.get(_HEADER_KEY), environ.get(_LEGACY_HEADER_KEY)
    if header is None and legacy is None:
        return events.MIN_MICROVERSION
    return _read(header, legacy)


# NOTE: a few senders use a few versions; errors are not cached.
@functools.lru_cache(maxsize=100)
def _read(header: str | None, legacy: str | None) -> events.Microversion:
    given = {HEADER: header, LEGACY_HEADER: legacy}
    headers = {name: value for name, value in given.items() if value is not None}
    asked = microversion_parse.get_version(headers, SERVICE_TYPE, legacy_headers=[LEGACY_HEADER])
    if asked is None:
        return events.MIN_MICROVERSION
    if asked == 'latest':
        return events.MAX_MICROVERSION
    if (match := _VERSION.fullmatch(asked)) is None:
        raise faults.Fault(
            400, f'API version {asked[:60]!a} is of invalid format: it must be MAJOR.MINOR or "latest".'
        )
    return int(match[1]), int(match[2])


#: Contents of the version documents by endpoint; the keys are the paths of the endpoints.
_ENDPOINTS: dict[str, dict[str, str]] = {
    'v2': {
        'id': 'v2.0',
        'status': 'DEPRECATED',
        'version': '',
        'min_version': '',
        'updated': '2025-07-04T12:00:00Z',
    },
    'v2.1': {
        'id': 'v2.1',
        'status': 'CURRENT',
        'version': text(events.MAX_MICROVERSION),
        'min_version': text(events.MIN_MICROVERSION),
        'updated': '2013-07-23T11:33:21Z',
    },
}


def _self_link(prefix: str, endpoint: str, rest: str = '') -> dict[str, str]:
    return {'rel': 'self', 'href': f'{prefix}/{endpoint}/{rest}'}


def _media_type(endpoint: str) -> dict[str, str]:
    version = endpoint.removeprefix('v')
    return {
        'base': 'application/json',
        'type': f'application/vnd.openstack.compute+json;version={version}',
    }


def document_schema() -> dict[str, Any]:
    """Return the JSON Schema of the document at the root of an endpoint."""
    return {'type': 'object', 'properties': {'version': _about_schema()}, 'required': ['version']}


def list_schema() -> dict[str, Any]:
    """Return the JSON Schema of the document at ``/``."""
    about = {'type': 'array', 'minItems': len(_ENDPOINTS), 'items': _about_schema()}
    return {'type': 'object', 'properties': {'versions': about}, 'required': ['versions']}


def _about_schema() -> dict[str, Any]:
    members: dict[str, Any] = {member: {'type': 'string'} for member in _ENDPOINTS['v2']}
    link = {'type': 'object', 'properties': {'rel': {'type': 'string'}, 'href': {'type': 'string'}}}
    members['links'] = {'type': 'array', 'minItems': 1, 'items': {**link, 'required': ['rel', 'href']}}
    return {'type': 'object', 'properties': members, 'required': list(members)}


def _answer(req: falcon.Request, resp: falcon.Response, document: dict[str, Any]) -> None:
    media.check(req.env)
    if req.method in _WITH_BODY:
        bodies.parse(request_buffer.body_of(req.env, request_buffer.DRAINED))
    _check_query(req.env)
    resp.content_type = media.wanted(req.env)
    resp.data = json.dumps(document).encode()


def _check_query(environ: dict[str, Any]) -> None:
    query = parse.unquote_to_bytes(environ['QUERY_STRING'].encode('latin-1'))
    try:
        query.decode()
    except UnicodeDecodeError as exc:
        raise faults.Fault(400, f'Malformed query string: {query[:60]!r} is not UTF-8.') from exc


def list_endpoints(req: falcon.Request, resp: falcon.Response) -> None:
    """Answer with the document at ``/``."""
    documents = [
        {**about, 'links': [_self_link(req.prefix, endpoint)]} for endpoint, about in _ENDPOINTS.items()
    ]
    _answer(req, resp, {'versions': documents})


def offer_choices(req: falcon.Request, resp: falcon.Response) -> None:
    """Answer a path without an endpoint with links to the same path below each endpoint."""
    resp.status = falcon.HTTP_300
    # NOTE: WSGI decodes the bytes of the path as latin-1.
    path = parse.quote(req.env['PATH_INFO'].encode('latin-1').lstrip(b'/'), _PATH_SAFE)
    choices = [
        {
            'id': about['id'],
            'status': about['status'],
            'links': [_self_link(req.prefix, endpoint, path)],
            'media-types': [_media_type(endpoint)],
        }
        for endpoint, about in _ENDPOINTS.items()
    ]
    _answer(req, resp, {'choices': choices})


class Document:
    """The document at the root of an endpoint, for all methods. It needs no token."""

    def __init__(self, endpoint: str, *, microversioned: bool) -> None:
        self._endpoint = endpoint
        self._microversioned = microversioned

    def __call__(self, req: falcon.Request, resp: falcon.Response, **_params: Any) -> None:
        if self._microversioned:
            negotiate(req, resp)
        document = {
            **_ENDPOINTS[self._endpoint],
            'links': [
                _self_link(req.prefix, self._endpoint),
                {'rel': 'describedby', 'type': 'text/html', 'href': 'http://docs.openstack.org/'},
            ],
            'media-types': [_media_type(self._endpoint)],
        }
        _answer(req, resp, {'version': document})
