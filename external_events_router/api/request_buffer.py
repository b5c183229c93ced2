"""Receives whole requests before they are handled, so that a slow sender delays only itself.

This is a WSGI filter. A body is read on a thread of the server, which can have a thread for each connection.
After that the request waits for one of the few places in which requests are handled. The memory of
all bodies together is limited. ``connections`` limits the time for a body, because no WSGI server
has an interface to stop reading.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
import io
import threading
import time
from typing import Any

from oslo_log import log

from external_events_router.api import auth
from external_events_router.api import chunked
from external_events_router.api import faults
from external_events_router.api import request_head

LOG = log.getLogger(__name__)

StartResponse = Callable[..., Any]

#: Bytes of a refused body that are read and discarded.
DRAINED = 8 * 1024 * 1024

#: First bytes of each body, which are not counted. Nearly all bodies are shorter, so these requests
#: are handled also while there is no memory for larger bodies.
FREE = 16 * 1024

#: Seconds that a body waits for memory, and that a chunked body waits for a place.
WAIT_LIMIT = 5.0

#: Chunked bodies that are read at the same time. No known sender uses them. With chunks of one
#: byte, they take a hundred times the processor time of other bodies.
CHUNKED = 2

#: Pause between two parts of a chunked body, as a multiple of the time for the last part.
PAUSE = 3

#: Maximum seconds of this pause, and bytes of a part.
LONGEST_PAUSE = 0.02
PART = 1024

#: Maximum seconds between two chunked bodies that are read in one call.
LONGEST_REST = 1.0

_CHUNK = 64 * 1024

#: Member of the WSGI environment with the received bytes of a request; see :func:`body_of`.
BODY = 'external_events_router.body'


def refuse(fault: faults.Fault, start_response: StartResponse) -> Iterable[bytes]:
    """Answer a request with a fault."""
    body = fault.body()
    start_response(fault.status_line(), list(fault.headers(body)))
    return [body]


def too_large(max_bytes: int) -> faults.Fault:
    """Return the fault for a body that is longer than the limit."""
    return faults.Fault(413, f'The request body is too large: at most {max_bytes} bytes are allowed.')


def body_of(environ: Mapping[str, Any], max_bytes: int) -> bytes:
    """Return the body of a request that :class:`RequestBuffer` has received.

    Its length is checked here and not when it is received, because other faults take precedence, such
    as a missing token.

    :raises Fault: 413 if it is longer than permitted, 400 if it has ended too early
    """
    body: bytes = environ[BODY]
    if len(body) > max_bytes:
        raise too_large(max_bytes)
    declared = environ.get('CONTENT_LENGTH')
    if declared and len(body) < int(declared):
        raise faults.Fault(400, 'The request body is shorter than its Content-Length.')
    return body


class Memory:
    """A number of bytes that requests share. Thread-safe.

    :param size: number of bytes
    :param wait_limit: maximum seconds to wait for free bytes
    """

    def __init__(self, size: int, *, wait_limit: float = WAIT_LIMIT) -> None:
        self._left = size
        self._wait_limit = wait_limit
        self._waiting = 0
        # Guards the attributes above.
        self._changed = threading.Condition()

    def take(self, size: int) -> bool:
        """Wait for bytes and take them; return False if they are not free in time."""
        with self._changed:
            self._waiting += 1
            try:
                if not self._changed.wait_for(lambda: self._left >= size, self._wait_limit):
                    return False
            finally:
                self._waiting -= 1
            self._left -= size
            return True

    def give_back(self, size: int) -> None:
        """Return bytes."""
        with self._changed:
            self._left += size
            self._changed.notify_all()

    def is_short(self) -> bool:
        """Return whether a request waits for memory."""
        return self._waiting > 0


class RequestBuffer:
    """Reads the body, refuses a body that is too long, and limits the number of handled requests.

    A refused body is read to its end, up to :data:`DRAINED` bytes: otherwise servers reset the
    connection while the sender still sends, and the sender would see the reset instead of the response.

    :param max_bytes: maximum bytes of a body
    :param max_header_bytes: maximum bytes of the headers
    :param places: semaphore with the number of requests that are handled at the same time
    """

    def __init__(
        self,
        app: auth.WSGIApp,
        *,
        max_bytes: int,
        max_header_bytes: int,
        memory: Memory,
        places: threading.Semaphore,
    ) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._max_header_bytes = max_header_bytes
        self._memory = memory
        self._places = places
        self._chunked = threading.Semaphore(CHUNKED)

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        body = _Body(environ['wsgi.input'], self._max_bytes, self._memory)
        try:
            request_head.check(environ, self._max_header_bytes)
            length = _length(environ)
            if 'HTTP_TRANSFER_ENCODING' in environ:
                self._read_chunked(body, environ)
            else:
                body.read(length)
            if environ.get('CONTENT_LENGTH') and length > self._max_bytes:
                raise too_large(self._max_bytes)
            environ[BODY] = bytes(body.kept)
            environ['wsgi.input'] = io.BytesIO(environ[BODY])
            with self._places:
                return self._app(environ, start_response)
        except faults.Fault as fault:
            return refuse(fault, start_response)
        finally:
            body.forget()

    def _read_chunked(self, body: _Body, environ: dict[str, Any]) -> None:
        if not self._chunked.acquire(timeout=WAIT_LIMIT):
            raise faults.Fault(503, 'Too many requests without Content-Length at the same time. Try again.')
        try:
            if not chunked.is_silent(environ):
                body.read(_length(environ), paced=True)
            elif chunked.can_watch():
                body.read_whole(chunked.Watch(int(environ['SERVER_PORT']), self._max_bytes))
            else:
                raise faults.Fault(411, 'A request must have a Content-Length.')
        finally:
            self._chunked.release()


def _length(environ: dict[str, Any]) -> int:
    """Return the length of a body, or the maximum length that is read if it is unknown."""
    declared = request_head.content_length(environ)
    if declared is None:
        return DRAINED if environ.get('wsgi.input_terminated') else 0
    return declared


class _Body:
    """The part of a body that may be handled, and one more byte if the body is too long."""

    def __init__(self, stream: Any, max_bytes: int, memory: Memory) -> None:
        self.kept = bytearray()
        self._stream = stream
        self._most = max_bytes + 1
        self._memory = memory
        self._taken = 0

    def read(self, left: int, *, paced: bool = False) -> None:
        """Read the remaining bytes, unless there are more than :data:`DRAINED`.

        :param paced: pause between the parts, so that other requests can run
        """
        part = PART if paced else _CHUNK
        began = time.monotonic()
        while 0 < left <= DRAINED and (chunk := self._part(min(left, part))):
            left -= len(chunk)
            self._keep(chunk[: self._most - len(self.kept)])
            if paced:
                time.sleep(min(PAUSE * (time.monotonic() - began), LONGEST_PAUSE))
                began = time.monotonic()

    def read_whole(self, watch: chunked.Watch) -> None:
        """Read a chunked body in one call, which detects a malformed body.

        :raises Fault: 413 if it is too long, 400 if it is malformed or empty
        """
        began = time.monotonic()
        with watch.running():
            body = self._part(None)
        # NOTE: let other requests run before the next one.
        time.sleep(min(PAUSE * (time.monotonic() - began), LONGEST_REST))
        if watch.exceeded or len(body) >= self._most:
            raise too_large(self._most - 1)
        if not body:
            raise faults.Fault(
                400, 'The request body is empty, or its chunks are malformed or end too early.'
            )
        self._keep(body)

    def _part(self, size: int | None) -> bytes:
        try:
            read: bytes = self._stream.read() if size is None else self._stream.read(size)
        except Exception as exc:  # servers raise various exceptions for malformed chunks
            raise faults.Fault(400, 'The request body could not be read.') from exc
        return read

    def _keep(self, chunk: bytes) -> None:
        counted = max(0, len(self.kept) + len(chunk) - max(FREE, len(self.kept)))
        if counted and not self._memory.take(counted):
            LOG.warning(
                'No memory for a request body for %.0f s; answering 503, its events are lost. Increase [api] '
                'max_body_memory if this occurs often',
                WAIT_LIMIT,
            )
            raise faults.Fault(503, 'Too many large requests at the same time. Try again.')
        self._taken += counted
        self.kept += chunk

    def forget(self) -> None:
        """Return the memory of the body."""
        self._memory.give_back(self._taken)
        self._taken = 0
