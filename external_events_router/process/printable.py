"""Escapes characters that a terminal cannot show.

Tags, host names and reasons come from other services. A control character in them can move the
cursor or clear the screen, and a direction mark can make a line look like another line. This module
does not decide which text is printed.
"""

from __future__ import annotations

import io
from typing import TextIO


def escape(text: str) -> str:
    """Return a text on one line, in which every character is visible.

    :returns: the text; characters that are not printable (``str.isprintable``) are replaced by escapes
        such as ``\\n``, ``\\x1b``, ``\\u202e``
    """
    if text.isprintable():
        return text
    return ''.join(char if char.isprintable() else _visible(char) for char in text)


def _visible(char: str) -> str:
    return char.encode('unicode_escape', 'surrogatepass').decode('ascii')


class Stream(io.TextIOBase):
    """A text stream that escapes the characters of each written line."""

    def __init__(self, inner: TextIO) -> None:
        """:param inner: the stream to write to"""
        self.inner = inner

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The encoding of the inner stream."""
        return self.inner.encoding

    def isatty(self) -> bool:
        """Return whether the inner stream is a terminal."""
        return self.inner.isatty()

    def fileno(self) -> int:
        """Return the descriptor of the inner stream."""
        return self.inner.fileno()

    def writable(self) -> bool:
        """Return True."""
        return True

    def write(self, text: str, /) -> int:
        """Write a text. A character that the encoding does not contain is escaped, too."""
        safe = '\n'.join(map(escape, text.split('\n')))
        if self.inner.encoding:
            safe = safe.encode(self.inner.encoding, 'backslashreplace').decode(self.inner.encoding)
        self.inner.write(safe)
        return len(text)

    def flush(self) -> None:
        """Flush the inner stream."""
        self.inner.flush()
