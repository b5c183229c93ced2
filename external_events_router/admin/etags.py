"""Entity tags: a hash of a document, with which a client states the version that it has read."""

from __future__ import annotations

from collections.abc import Mapping
import hashlib
import json
import re
from typing import Any

from external_events_router.api import faults

#: The form of ``If-Match``: any version, or entity tags.
PATTERN = '^([*]|(W/)?"[!#-~]*"(, ?(W/)?"[!#-~]*")*)$'

_HEADER = re.compile(PATTERN)


def of(document: Mapping[str, Any]) -> str:
    """Return the entity tag of a document."""
    text = json.dumps(document, sort_keys=True)
    return f'"{hashlib.sha256(text.encode()).hexdigest()[:32]}"'


def check_form(if_match: str | None) -> None:
    """Check the form of the header ``If-Match``, before anything is read.

    :raises Fault: 400, the header is malformed
    """
    if if_match is not None and not _HEADER.fullmatch(if_match):
        raise faults.Fault(400, 'If-Match is not a list of entity tags in double quotes.')


def check(if_match: str | None, document: Mapping[str, Any]) -> bool:
    """Compare the header ``If-Match`` with a document.

    :returns: whether the header names a version; False: it is missing or permits any version
    :raises Fault: 412, the document has another version; 400, the header is malformed
    """
    check_form(if_match)
    if if_match is None or if_match == '*':
        return False
    if of(document) not in [tag.strip() for tag in if_match.split(',')]:
        raise faults.Fault(
            412, 'The object was changed since it was read: read it again, and use its new ETag in If-Match.'
        )
    return True
