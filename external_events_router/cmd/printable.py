"""Text that a terminal can show: every other character is written as a visible escape.

Tags, host names and reasons come from other services. A control character in
one of them moves the cursor or clears the screen, and a mark of direction makes
a line look like another one. It decides nothing about what is printed.
"""

from __future__ import annotations

import io
from typing import TextIO


def escape(text: str) -> str:
    """Return a text on one line, in which every character is visible.

    :returns: the text, with ``\\n``, ``\\x1b``, ``\\u202e`` and so on in place of
        characters that are not printable (``str.isprintable``)
    """
    if text.isprintable():
        return text
    return ''.join(char if char.isprintable() else _visible(char) for char in text)


def _visible(char: str) -> str:
    return char.encode('unicode_escape', 'surrogatepass').decode('ascii')


class Stream(io.TextIOBase):
    """A text stream that escapes what is written to it; lines stay lines."""

    def __init__(self, inner: TextIO) -> None:
        """:param inner: where the text goes to"""
        self.inner = inner

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The encoding of the inner stream."""
        return self.inner.encoding

    def isatty(self) -> bool:
        """Whether the inner stream is a terminal."""
        return self.inner.isatty()

    def fileno(self) -> int:
        """The descriptor of the inner stream."""
        return self.inner.fileno()

    def writable(self) -> bool:
        """True."""
        return True

    def write(self, text: str, /) -> int:
        """Write a text; a character that the encoding does not have is escaped, too."""
        safe = '\n'.join(map(escape, text.split('\n')))
        if self.inner.encoding:
            safe = safe.encode(self.inner.encoding, 'backslashreplace').decode(self.inner.encoding)
        self.inner.write(safe)
        return len(text)

    def flush(self) -> None:
        """Flush the inner stream."""
        self.inner.flush()
