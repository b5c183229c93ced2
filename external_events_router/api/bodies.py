"""Parses bodies of requests as JSON.

``request_buffer`` receives the bytes; ``schemas`` checks the document.
"""

from __future__ import annotations

import json
from typing import Any

from external_events_router.api import faults


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
