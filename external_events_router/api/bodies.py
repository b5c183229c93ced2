"""Bodies of requests: reading the bytes, and parsing them as JSON.

The request buffer has received them before; ``schemas`` checks the document.
"""

from __future__ import annotations

from collections.abc import Mapping
import json
from typing import Any

from external_events_router.api import faults
from external_events_router.api import request_buffer

_CHUNK = 64 * 1024


def read(environ: Mapping[str, Any], max_bytes: int) -> bytes:
    """Return the body of a request, with or without Content-Length.

    :raises Fault: 413 if it is longer than permitted, 400 if it ends too early
    """
    declared = environ.get('CONTENT_LENGTH')
    if not declared and not environ.get('wsgi.input_terminated'):
        return b''
    left = int(declared) if declared else max_bytes + 1
    chunks = []
    try:
        while left > 0 and (chunk := environ['wsgi.input'].read(min(left, _CHUNK))):
            chunks.append(chunk)
            left -= len(chunk)
    except OSError as exc:
        raise faults.Fault(400, 'The request body could not be read.') from exc
    body = b''.join(chunks)
    if len(body) > max_bytes:
        raise request_buffer.too_large(max_bytes)
    if declared and left:
        raise faults.Fault(400, 'The request body is shorter than its Content-Length.')
    return body


def parse(body: bytes) -> Any:
    """Return the JSON document of a body; None if the body is empty.

    :raises Fault: 400 with the position of the error
    """
    if not body:
        return None
    try:
        return json.loads(body.decode('utf-8'))
    except UnicodeDecodeError as exc:
        raise faults.Fault(400, f'Malformed request body: not UTF-8 at byte {exc.start}') from exc
    except json.JSONDecodeError as exc:
        raise faults.Fault(
            400, f'Malformed request body: {exc.msg} at line {exc.lineno} column {exc.colno}'
        ) from exc
    except ValueError as exc:
        raise faults.Fault(400, 'Malformed request body: a number has too many digits') from exc
    except RecursionError as exc:
        raise faults.Fault(400, 'Malformed request body: nested too deep') from exc
