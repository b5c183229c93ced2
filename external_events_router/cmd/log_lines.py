"""A record of the log is a line of the log, whatever a stranger has put into it.

Much of what is logged was sent by somebody: a tag, a path, the text of an error
of a library about either. Characters that end lines, move a terminal's cursor or
turn the direction of the text are written as escapes, in every handler that
oslo.log has set up. It decides nothing about what is logged.
"""

from __future__ import annotations

import logging
import re

#: What is no text: control characters (of 8 bits too), separators of lines,
#: marks of direction, halves of surrogate pairs.
_CONTROLS = re.compile(
    '[\x00-\x08\x0a-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb\ud800-\udfff]'
)


def escape(text: str) -> str:
    """A text whose characters all are what they look like, on one line."""
    # NOTE: none of them is printable, and that is found out in a tenth of the time.
    return text if text.isprintable() else _CONTROLS.sub(_escaped, text)


def _escaped(match: re.Match[str]) -> str:
    return match[0].encode('unicode_escape', 'surrogatepass').decode('ascii')


class Formatter(logging.Formatter):
    """Another formatter, on records of one line.

    A traceback keeps its lines: each of them begins with what oslo.log puts
    before it.
    """

    def __init__(self, inner: logging.Formatter) -> None:
        super().__init__()
        self._inner = inner

    def format(self, record: logging.LogRecord) -> str:
        """See ``logging.Formatter``."""
        # NOTE: as copy.copy() does it, in a fifth of the time.
        same, record = record, logging.LogRecord.__new__(type(record))
        record.__dict__.update(same.__dict__)
        record.msg, record.args = escape(record.getMessage()), None
        text = self._inner.format(record)
        traceback = f'\n{record.exc_text}' if record.exc_text else ''
        # NOTE: oslo.log puts the text of an error that is being handled into
        # the first line, as it is.
        line = escape(text.removesuffix(traceback))
        return '\n'.join([line, *map(escape, traceback.split('\n')[1:])])


def install() -> None:
    """Have every handler of the log write such lines; again, after the log was set up again."""
    named = [each for each in logging.Logger.manager.loggerDict.values() if isinstance(each, logging.Logger)]
    for handler in {handler for logger in (logging.getLogger(), *named) for handler in logger.handlers}:
        inner = handler.formatter or logging.Formatter()
        if not isinstance(inner, Formatter):
            handler.setFormatter(Formatter(inner))
