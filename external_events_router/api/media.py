"""Media types: the type of the request body, and the accepted types of the response.

The format is always JSON, with one of two names. Character sets are ignored: JSON is UTF-8.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from external_events_router.api import faults

JSON = 'application/json'
VENDOR = 'application/vnd.openstack.compute+json'

#: Types of a response. The first is used if the request prefers neither.
OFFERED = (JSON, VENDOR)

#: Accepted types of a body. Some clients send JSON as ``text/plain``, and a missing type is also
#: treated as JSON.
TAKEN = ('', JSON, VENDOR, 'text/plain')


def check(environ: Mapping[str, Any]) -> None:
    """Check that the type of the body is a name of JSON.

    :raises Fault: 415 with the type
    """
    name = (environ.get('CONTENT_TYPE') or '').split(';', 1)[0]
    if name not in TAKEN:
        allowed = ', '.join(filter(None, TAKEN))
        raise faults.Fault(415, f'Unsupported Content-Type {name[:60]!a}: use one of {allowed}.')


def wanted(environ: Mapping[str, Any]) -> str:
    """Return the type of :data:`OFFERED` that the request prefers."""
    return _best(environ)[0]


def version(environ: Mapping[str, Any]) -> str | None:
    """Return the version of the endpoint in a media type, as in ``...+json;version=2.1``."""
    _, parameters = _parsed(environ.get('CONTENT_TYPE') or '')
    return parameters.get('version') or _best(environ)[1].get('version')


def _best(environ: Mapping[str, Any]) -> tuple[str, dict[str, str]]:
    """Return the offered type with the highest quality, and the parameters of the matching mask."""
    ranked = []
    for mask, parameters in map(_parsed, environ.get('HTTP_ACCEPT', '').split(',')):
        quality = _quality(parameters)
        for position, name in enumerate(OFFERED):
            if quality is not None and mask in (name, 'application/*', '*/*'):
                # An exact mask takes precedence over the order of OFFERED.
                ranked.append((quality, -mask.count('*'), -position, name, parameters))
    if not ranked:
        return JSON, {}
    return max(ranked, key=lambda rank: rank[:3])[3:]


def _parsed(text: str) -> tuple[str, dict[str, str]]:
    name, *parameters = (part.strip() for part in text.split(';'))
    pairs = (parameter.partition('=') for parameter in parameters)
    return name, {key.strip(): value.strip().strip('"') for key, _, value in pairs}


def _quality(parameters: Mapping[str, str]) -> float | None:
    try:
        return float(parameters.get('q', 1))
    except ValueError:
        return None
