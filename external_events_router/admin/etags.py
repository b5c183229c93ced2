"""Entity tags: a hash of a document, with which a client states the version that it has read."""

from __future__ import annotations

from collections.abc import Mapping
import hashlib
import json
import re
from typing import Any

from external_events_router.api import faults

_TAG = re.compile(r'(?:W/)?"[\x21\x23-\x7e]*"')


def of(document: Mapping[str, Any]) -> str:
    """Return the entity tag of a document."""
    text = json.dumps(document, sort_keys=True)
    return f'"{hashlib.sha256(text.encode()).hexdigest()[:32]}"'


def check(if_match: str | None, document: Mapping[str, Any]) -> bool:
    """Compare the header ``If-Match`` with a document.

    :returns: whether the header names a version; False: it is missing or permits any version
    :raises Fault: 412, the document has another version; 400, the header is malformed
    """
    if if_match is None or if_match.strip() == '*':
        return False
    tags = [tag.strip() for tag in if_match.split(',')]
    if not all(_TAG.fullmatch(tag) for tag in tags):
        raise faults.Fault(400, 'If-Match is not a list of entity tags in double quotes.')
    if of(document) not in tags:
        raise faults.Fault(
            412, 'The object was changed since it was read: read it again, and use its new ETag in If-Match.'
        )
    return True
