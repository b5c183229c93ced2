"""The HTTP server of the all-in-one command and of the admin API: cheroot with strict rules for requests.

cheroot parses lengths and chunk sizes with Python's ``int``, ends a body at a chunk of zero bytes
without checking the bytes after it, keeps only the last of several headers with the same name, and
accepts names with an underscore for the same header.
"""

from __future__ import annotations

import re
import socket
from typing import Any

from cheroot import server
from cheroot import wsgi
from oslo_config import cfg

from external_events_router.api import auth

#: Bytes of the head of a chunk, and of all trailers together.
MAX_CHUNK_HEAD = 4096
MAX_TRAILERS = 8192

#: Maximum bytes of a chunk that are read at a time.
MAX_PART = 64 * 1024

#: Limit of this server for the headers, as a multiple of ``[api] max_header_bytes``: below it, the
#: application answers in the format of the API.
HEADER_MARGIN = 2

_NAME = re.compile(rb"[!#$%&'*+.^`|~0-9A-Za-z_-]+")
_CHUNK_HEAD = re.compile(rb'([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n]*)?\r\n')
_LENGTH = re.compile(rb'[0-9]{1,18}')


class _Headers(server.HeaderReader):
    """Reads header lines, ignores names with underscores, and joins headers with the same name."""

    def __call__(self, rfile: Any, hdict: dict[bytes, bytes] | None = None) -> dict[bytes, bytes]:
        headers = {} if hdict is None else hdict
        while (line := rfile.readline()) != b'\r\n':
            name, colon, value = line.partition(b':')
            if not (colon and line.endswith(b'\r\n') and _NAME.fullmatch(name)):
                raise ValueError('Illegal header line.')
            value = value.strip(b' \t\r\n')
            if any(char in value for char in b'\r\n\0'):
                raise ValueError('Illegal header value.')
            if b'_' not in name:
                key = name.title()
                headers[key] = headers[key] + b', ' + value if key in headers else value
        return headers


class _Chunks(server.ChunkedRFile):
    """A body in chunks. It ends with its last chunk and its trailers; anything else is an error."""

    def __init__(self, rfile: Any) -> None:
        super().__init__(rfile, 0)
        # Bytes of the chunk that are not read yet.
        self._left = 0

    def _fetch(self) -> None:
        if self.closed:
            return
        if not self._left:
            self._left = self._read_head()
        if not self._left:
            self._read_trailers()
            self.closed = True
            return
        part = self.rfile.read(min(self._left, MAX_PART))
        self._left -= len(part)
        if not part or (not self._left and self.rfile.read(2) != b'\r\n'):
            raise ValueError('a chunk that ends too early')
        self.buffer += part

    def _read_head(self) -> int:
        head = _CHUNK_HEAD.fullmatch(self.rfile.readline(MAX_CHUNK_HEAD))
        if head is None:
            raise ValueError('malformed chunk size')
        return int(head[1], 16)

    def _read_trailers(self) -> None:
        left = MAX_TRAILERS
        while (line := self.rfile.readline(left)) != b'\r\n':
            left -= len(line)
            if left <= 0 or not line.endswith(b'\r\n'):
                raise ValueError('malformed trailers')


class _Request(server.HTTPRequest):
    header_reader = _Headers()

    def read_request_headers(self) -> bool:
        """Read the headers, and refuse a request whose end of the body is ambiguous."""
        if not super().read_request_headers():  # type: ignore[no-untyped-call,unused-ignore]
            return False
        length = self.inheaders.get(b'Content-Length')
        if length is not None and not _LENGTH.fullmatch(length):
            self.simple_response('400 Bad Request', 'Malformed Content-Length Header.')
            return False
        if length is not None and b'Transfer-Encoding' in self.inheaders:
            self.simple_response('400 Bad Request', 'Content-Length and Transfer-Encoding.')
            return False
        return True

    def respond(self) -> None:
        """Call the application."""
        if not self.chunked_read:
            super().respond()
            return
        # NOTE: bytes after a malformed body must not be read as the next request.
        self.close_connection = True
        self.rfile = _Chunks(self.conn.rfile)
        self.server.gateway(self).respond()
        self._finish()

    def _finish(self) -> None:
        self.ensure_headers_sent()
        if self.chunked_write:
            self.conn.wfile.write(b'0\r\n\r\n')


class _Connection(server.HTTPConnection):
    RequestHandlerClass = _Request


def make_server(
    conf: cfg.ConfigOpts,
    app: auth.WSGIApp,
    *,
    shutdown_timeout: int,
    address: tuple[str, int] | None = None,
    threads: int | None = None,
) -> wsgi.Server:
    """Build the server for the address in the configuration.

    :param shutdown_timeout: seconds
    :param address: host and port; None: those of ``[api]``
    :param threads: number of requests that are handled at the same time; None: that of ``[api]``
    """
    made = wsgi.Server(
        address or (conf.api.bind_host, conf.api.bind_port),
        app,
        numthreads=threads or conf.api.threads,
        request_queue_size=socket.SOMAXCONN,
        timeout=conf.api.idle_timeout,
        shutdown_timeout=shutdown_timeout,
    )
    made.ConnectionClass = _Connection
    made.max_request_header_size = HEADER_MARGIN * conf.api.max_header_bytes
    return made
