"""Messages of kombu with a limit on their memory, also after decompression.

kombu decompresses a message when it arrives, before any check of its content: 300 bytes of bzip2 can become
400 MB. So a client that may publish to one queue could crash all processes that read from it.
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

#: Maximum bytes of memory for the dictionary of LZMA. Its highest preset needs 65 MiB.
LZMA_MEMORY = 128 * 1024 * 1024

#: Names of a compression in a message, to the function that creates a decompressor.
_DECOMPRESSORS: dict[str, Callable[[], Any]] = {
    **dict.fromkeys(('application/x-gzip', 'gzip', 'zlib'), zlib.decompressobj),
    **dict.fromkeys(('application/x-bz2', 'bzip2', 'bzip'), bz2.BZ2Decompressor),
    **dict.fromkeys(
        ('application/x-lzma', 'lzma', 'xz'), lambda: lzma.LZMADecompressor(memlimit=LZMA_MEMORY)
    ),
}

_HEADERS = 'application_headers'


class BoundedMessage(pyamqp.Message):  # type: ignore[misc,unused-ignore]
    """A message of kombu. It raises an error if it is too large, or its compression is unknown or invalid."""

    def __init__(
        self,
        msg: Any,
        channel: Any = None,
        *,
        longest: int = frames.MAX_BODY,
        trusted: str | None = None,
        **kwargs: Any,
    ) -> None:
        """:param longest: maximum bytes of the decompressed body
        :param trusted: a compression that this configuration uses, which kombu decompresses if this
            module does not support it
        """
        try:
            _unpack(msg, longest, trusted)
        except exceptions.DecodeError:
            # NOTE: kombu stores its own errors there; then it does not decompress the body.
            self.errors = [sys.exc_info()]
            msg.body = b''
        super().__init__(msg, channel=channel, **kwargs)  # type: ignore[no-untyped-call,unused-ignore]

    def decode(self) -> Any:
        """Return the value of the body.

        :raises DecodeError: the body is not valid
        """
        if self.errors:
            # NOTE: kombu would decode the body without decompressing it.
            self._reraise_error()  # type: ignore[no-untyped-call,unused-ignore]
        return super().decode()  # type: ignore[no-untyped-call,unused-ignore]


def _unpack(msg: Any, longest: int, trusted: str | None) -> None:
    """Decompress the body in place.

    :raises DecodeError: the body is not valid
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
