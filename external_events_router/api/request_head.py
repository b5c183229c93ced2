"""Refuses requests whose head is ambiguous, for every HTTP server.

Servers differ in the requests that they accept: two lengths, a length together with
``Transfer-Encoding``, codings that they do not decode, too large headers. If two servers on the
path of a request interpret it differently, a client can hide one request in another (request
smuggling). So all such requests are refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from external_events_router.api import faults

#: Bytes of a header line in addition to its name and its value.
_AROUND = len(': \r\n')

#: Maximum significant digits of a length; every valid length has fewer.
MAX_DIGITS = 18


def check(environ: Mapping[str, Any], max_header_bytes: int) -> None:
    """Check that the head of a request is unambiguous.

    :param max_header_bytes: maximum bytes of all header lines together
    :raises Fault: 400, 431 or 501, with the name of the header
    """
    if _header_bytes(environ) > max_header_bytes:
        raise faults.Fault(
            431, f'The headers of the request are too large: at most {max_header_bytes} bytes are allowed.'
        )
    coding = environ.get('HTTP_TRANSFER_ENCODING')
    if coding is not None:
        _check_coding(coding, environ.get('CONTENT_LENGTH'))
    if ',' in environ.get('HTTP_HOST', ''):
        raise faults.Fault(400, 'A request must have only one Host header.')


def content_length(environ: Mapping[str, Any]) -> int | None:
    """Return the declared length of a body, or None if there is no Content-Length.

    :raises Fault: 400 if it is not a number
    """
    text = environ.get('CONTENT_LENGTH')
    if not text:
        return None
    if not (text.isascii() and text.isdigit()):
        raise faults.Fault(400, 'Content-Length must be a number.')
    # NOTE: int() refuses strings of thousands of digits.
    return int(text[-MAX_DIGITS:]) if len(text.lstrip('0')) <= MAX_DIGITS else 10**MAX_DIGITS


def _header_bytes(environ: Mapping[str, Any]) -> int:
    return sum(
        [len(name) - 5 + len(value) + _AROUND for name, value in environ.items() if name[:5] == 'HTTP_']
    )


def _check_coding(coding: str, length: str | None) -> None:
    if length:
        raise faults.Fault(400, 'A request must not have both Content-Length and Transfer-Encoding.')
    codings = [each.strip().lower() for each in coding.split(',')]
    if codings.count('chunked') > 1:
        raise faults.Fault(400, 'Transfer-Encoding must not name chunked twice.')
    if codings != ['chunked']:
        raise faults.Fault(501, f'Transfer-Encoding {coding[:60]!a} is not supported: it must be chunked.')
