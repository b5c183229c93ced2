"""Errors of the HTTP API, in the format that clients of OpenStack read.

``{"badRequest": {"code": 400, "message": "..."}}``: the name is the kind of error, so that a client
does not need to know every status. Outcomes of single events are not errors of the API: they are
part of a normal response.
"""

from __future__ import annotations

from collections.abc import Iterable
import http
import json

#: Names of faults by status, as in Nova.
NAMES = {
    400: 'badRequest',
    401: 'unauthorized',
    403: 'forbidden',
    404: 'itemNotFound',
    405: 'badMethod',
    409: 'conflictingRequest',
    412: 'preconditionFailed',
    413: 'overLimit',
    415: 'badMediaType',
    501: 'notImplemented',
    503: 'serviceUnavailable',
}

#: Name for any other status.
DEFAULT_NAME = 'computeFault'

CONTENT_TYPE = 'application/json; charset=UTF-8'

UNEXPECTED = 'The server could not handle the request because of an unexpected error; see its log.'


class Fault(Exception):
    """Exception: the whole request is answered with an error.

    :ivar status: HTTP status
    :ivar message: text for the sender, with the field or header, its value, and the permitted values
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message

    def body(self) -> bytes:
        """Return the JSON document."""
        name = NAMES.get(self.status, DEFAULT_NAME)
        return json.dumps({name: {'code': self.status, 'message': self.message}}).encode()

    def status_line(self) -> str:
        """Return number and phrase, in the format of WSGI."""
        return f'{self.status} {http.HTTPStatus(self.status).phrase}'

    def headers(self, body: bytes) -> Iterable[tuple[str, str]]:
        """Return the headers for the document."""
        return [('Content-Type', CONTENT_TYPE), ('Content-Length', str(len(body)))]


def not_found() -> Fault:
    """Return the fault for an unknown path or method (Nova answers 404 in both cases)."""
    return Fault(404, 'The resource could not be found.')
