"""Errors of the HTTP API, in the form that OpenStack's clients read.

``{"badRequest": {"code": 400, "message": "..."}}``: the name says the kind, so
that a client need not know every status. The outcomes of single events are not
errors of the API: they are in an ordinary answer.
"""

from __future__ import annotations

from collections.abc import Iterable
import http
import json

#: Names of faults by status, as compute clients know them.
NAMES = {
    400: 'badRequest',
    401: 'unauthorized',
    403: 'forbidden',
    404: 'itemNotFound',
    405: 'badMethod',
    413: 'overLimit',
    415: 'badMediaType',
    501: 'notImplemented',
    503: 'serviceUnavailable',
}

#: The name where the table has none.
DEFAULT_NAME = 'computeFault'

CONTENT_TYPE = 'application/json; charset=UTF-8'

UNEXPECTED = 'The server could not handle the request because of an unexpected error; see its log.'


class Fault(Exception):
    """The whole request is answered with an error.

    :ivar status: HTTP status
    :ivar message: for the sender: which field or header, its value, what is allowed
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message

    def body(self) -> bytes:
        """The JSON document."""
        name = NAMES.get(self.status, DEFAULT_NAME)
        return json.dumps({name: {'code': self.status, 'message': self.message}}).encode()

    def status_line(self) -> str:
        """As WSGI wants it: number and phrase."""
        return f'{self.status} {http.HTTPStatus(self.status).phrase}'

    def headers(self, body: bytes) -> Iterable[tuple[str, str]]:
        """The headers that go with the document."""
        return [('Content-Type', CONTENT_TYPE), ('Content-Length', str(len(body)))]


def not_found() -> Fault:
    """No such path, or not with this method (compute answers 404 to both)."""
    return Fault(404, 'The resource could not be found.')
