"""Messages of kombu that take a bounded amount of memory, however small they are on the wire.

kombu decompresses a message when it arrives, before any check of its content: 300 bytes of bzip2 become
400 MB. So a client that may publish to one queue could end all processes that read from it.
"""

from __future__ import annotations

import bz2
from collections.abc import Callable
import lzma
import sys
from typing import Any
import zlib

from kombu import exceptions
from kombu.transport import pyamqp

from external_events_router.messaging.amqp import frames

#: Bytes of memory for the dictionary of LZMA, of which the highest preset needs 65 MiB.
LZMA_MEMORY = 128 * 1024 * 1024

#: The name in a message, and its aliases, to what makes the object that decompresses.
_DECOMPRESSORS: dict[str, Callable[[], Any]] = {
    **dict.fromkeys(('application/x-gzip', 'gzip', 'zlib'), zlib.decompressobj),
    **dict.fromkeys(('application/x-bz2', 'bzip2', 'bzip'), bz2.BZ2Decompressor),
    **dict.fromkeys(
        ('application/x-lzma', 'lzma', 'xz'), lambda: lzma.LZMADecompressor(memlimit=LZMA_MEMORY)
    ),
}

_HEADERS = 'application_headers'


class BoundedMessage(pyamqp.Message):  # type: ignore[misc,unused-ignore]
    """A message of kombu, or its error: it is too large, or its compression is unknown or invalid."""

    def __init__(
        self,
        msg: Any,
        channel: Any = None,
        *,
        longest: int = frames.MAX_BODY,
        trusted: str | None = None,
        **kwargs: Any,
    ) -> None:
        """:param longest: bytes of the body, decompressed
        :param trusted: a compression that this configuration asks for, which kombu decompresses if there
            is no bound for it here
        """
        try:
            _unpack(msg, longest, trusted)
        except exceptions.DecodeError:
            # NOTE: where kombu notes errors of its own; it decompresses nothing then.
            self.errors = [sys.exc_info()]
            msg.body = b''
        super().__init__(msg, channel=channel, **kwargs)  # type: ignore[no-untyped-call,unused-ignore]

    def decode(self) -> Any:
        """The value of the body.

        :raises DecodeError: it cannot be used
        """
        if self.errors:
            # NOTE: kombu would decode the body as it came.
            self._reraise_error()  # type: ignore[no-untyped-call,unused-ignore]
        return super().decode()  # type: ignore[no-untyped-call,unused-ignore]


def _unpack(msg: Any, longest: int, trusted: str | None) -> None:
    """Decompress the body in place.

    :raises DecodeError: it cannot be used
    """
    headers = dict(msg.properties.get(_HEADERS) or {})
    compression = headers.get('compression')
    if compression:
        decompressor = _DECOMPRESSORS.get(compression) if isinstance(compression, str) else None
        if decompressor is not None:
            msg.body = _decompressed(msg.body, decompressor(), longest)
            del headers['compression']
            msg.properties[_HEADERS] = headers
        elif trusted is None or compression != trusted:
            raise exceptions.DecodeError(f'its compression {str(compression)[:60]!a} is not known')
    if len(msg.body) > longest:
        raise exceptions.DecodeError(f'it has more than {longest} bytes')


def _decompressed(body: bytes | str, decompressor: Any, longest: int) -> bytes:
    raw = body.encode('utf-8', 'surrogateescape') if isinstance(body, str) else bytes(body)
    try:
        whole: bytes = decompressor.decompress(raw, longest + 1)
    except (zlib.error, lzma.LZMAError, OSError, ValueError, MemoryError) as exc:
        raise exceptions.DecodeError(f'it cannot be decompressed ({type(exc).__name__})') from exc
    if len(whole) <= longest and not decompressor.eof:
        raise exceptions.DecodeError('its compressed body ends too early')
    return whole
