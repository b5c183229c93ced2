"""Takes requests in whole before they are handled, so that a slow sender holds up nobody but itself.

Plain WSGI. A body is read on the server's thread, of which there may be as many
as connections; only then does the request get one of the few places where
requests are handled. What bodies take of the memory together has a bound. How
long a body may take has its bound elsewhere (see ``connections``), for no WSGI
server can be told to stop reading.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
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

#: Bytes of a body that are read though nobody wants them.
DRAINED = 8 * 1024 * 1024

#: Bytes of each body that are not counted: what nearly all have, however short
#: memory is.
FREE = 16 * 1024

#: Seconds that a body waits for memory, or for its turn.
PATIENCE = 5.0

#: Bodies without a length that are read at a time. No sender of ours has them; in
#: chunks of a byte they cost a server a hundred times what others do.
CHUNKED = 2

#: How long such a body is not read, as a multiple of the time that its last part took.
PAUSE = 3

#: Seconds that it is not read at most, and bytes of a part.
LONGEST_PAUSE = 0.02
PART = 1024

#: Seconds between two such bodies, if they are read in one call.
LONGEST_REST = 1.0

_CHUNK = 64 * 1024


def refuse(fault: faults.Fault, start_response: StartResponse) -> Iterable[bytes]:
    """Answer with a fault."""
    body = fault.body()
    start_response(fault.status_line(), list(fault.headers(body)))
    return [body]


def too_large(max_bytes: int) -> faults.Fault:
    """The fault of a body over the limit."""
    return faults.Fault(413, f'The request body is too large: at most {max_bytes} bytes are allowed.')


class Memory:
    """A number of bytes that requests share. Thread-safe.

    :param size: bytes that may be taken at a time
    :param patience: seconds that one waits until there are enough
    """

    def __init__(self, size: int, *, patience: float = PATIENCE) -> None:
        self._left = size
        self._patience = patience
        self._waiting = 0
        # Guards the two above.
        self._changed = threading.Condition()

    def take(self, size: int) -> bool:
        """Take some, if they come free in time."""
        with self._changed:
            self._waiting += 1
            try:
                if not self._changed.wait_for(lambda: self._left >= size, self._patience):
                    return False
            finally:
                self._waiting -= 1
            self._left -= size
            return True

    def give_back(self, size: int) -> None:
        """Let others have them."""
        with self._changed:
            self._left += size
            self._changed.notify_all()

    def is_short(self) -> bool:
        """Whether anybody waits."""
        return self._waiting > 0


class Intake:
    """Reads the body, refuses one that is too long, and lets so many requests through at a time.

    A body is read to its end though it is refused, up to :data:`DRAINED` bytes:
    servers end the connection under a sender whose body they have not read, and
    it would see that in place of the answer.

    :param max_bytes: bytes that a body may have
    :param max_header_bytes: bytes that the headers may have
    :param places: as many as requests may be handled at the same time
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
            environ['wsgi.input'] = io.BytesIO(body.kept)
            with self._places:
                return self._app(environ, start_response)
        except faults.Fault as fault:
            return refuse(fault, start_response)
        finally:
            body.forget()

    def _read_chunked(self, body: _Body, environ: dict[str, Any]) -> None:
        if not self._chunked.acquire(timeout=PATIENCE):
            raise faults.Fault(503, 'Too many requests without a Content-Length are under way. Try again.')
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
    """Bytes that a body says it has, or may have if it does not say."""
    declared = request_head.content_length(environ)
    if declared is None:
        return DRAINED if environ.get('wsgi.input_terminated') else 0
    return declared


class _Body:
    """As much of a body as may be handled, and a byte more, which says that it is too long."""

    def __init__(self, stream: Any, max_bytes: int, memory: Memory) -> None:
        self.kept = bytearray()
        self._stream = stream
        self._most = max_bytes + 1
        self._memory = memory
        self._taken = 0

    def read(self, left: int, *, paced: bool = False) -> None:
        """Read what is left, unless it is more than anybody reads.

        :param paced: leave time between the parts for others
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
        """Read a body in chunks in one call, which tells a broken one from a whole one.

        :raises Fault: 413 if it is too long, 400 if it is broken, or empty
        """
        began = time.monotonic()
        with watch.running():
            body = self._part(None)
        # NOTE: leave time for others before the next one.
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
        except Exception as exc:  # whatever a server raises at chunks that it cannot read
            raise faults.Fault(400, 'The request body could not be read.') from exc
        return read

    def _keep(self, chunk: bytes) -> None:
        counted = max(0, len(self.kept) + len(chunk) - max(FREE, len(self.kept)))
        if counted and not self._memory.take(counted):
            LOG.warning('no memory for a request body after %.0f s', PATIENCE)
            raise faults.Fault(503, 'Too many large requests are under way. Try again.')
        self._taken += counted
        self.kept += chunk

    def forget(self) -> None:
        """Give the memory back."""
        self._memory.give_back(self._taken)
        self._taken = 0
