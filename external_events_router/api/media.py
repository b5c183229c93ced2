"""Media types: what a request says that its body is, and as what it wants the answer.

JSON in every case, under one of two names. The character set is never asked
for: JSON is UTF-8.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from external_events_router.api import faults

JSON = 'application/json'
VENDOR = 'application/vnd.openstack.compute+json'

#: In which an answer may be wanted; the first where all are equal.
OFFERED = (JSON, VENDOR)

#: What a body may be said to be; ``text/plain`` is what some clients call JSON,
#: and nothing at all is taken for JSON too.
TAKEN = ('', JSON, VENDOR, 'text/plain')


def check(environ: Mapping[str, Any]) -> None:
    """Let a request pass whose body is said to be JSON.

    :raises Fault: 415 that names the type
    """
    name = (environ.get('CONTENT_TYPE') or '').split(';', 1)[0]
    if name not in TAKEN:
        allowed = ', '.join(filter(None, TAKEN))
        raise faults.Fault(415, f'Unsupported Content-Type {name[:60]!a}: it must be one of {allowed}.')


def wanted(environ: Mapping[str, Any]) -> str:
    """The name of :data:`OFFERED` under which the answer is wanted most."""
    return _best(environ)[0]


def version(environ: Mapping[str, Any]) -> str | None:
    """The endpoint's version that a media type asks for, as in ``...+json;version=2.1``."""
    _, parameters = _parsed(environ.get('CONTENT_TYPE') or '')
    return parameters.get('version') or _best(environ)[1].get('version')


def _best(environ: Mapping[str, Any]) -> tuple[str, dict[str, str]]:
    """Of the answers that are offered, the one of highest quality, and the parameters of its mask."""
    ranked = []
    for mask, parameters in map(_parsed, environ.get('HTTP_ACCEPT', '').split(',')):
        quality = _quality(parameters)
        for position, name in enumerate(OFFERED):
            if quality is not None and mask in (name, 'application/*', '*/*'):
                # A mask that is more exact counts for more than the order of the offers.
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
