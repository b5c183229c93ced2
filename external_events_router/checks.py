"""Cheap checks of what other processes send: names, ids, numbers, texts.

A leaf: the standard library only. Each check costs a fraction of a microsecond, because
some of them are made for every event. What an invalid value means is decided by the caller.
"""

from __future__ import annotations

import re
import reprlib
from typing import Any
from typing import TypeGuard

#: Bytes of a routing key, which AMQP 0-9-1 sends as a short string.
MAX_ROUTING_KEY = 255

#: Characters of a host name in the database, see ``db.models``.
MAX_HOST = 255

#: Characters of an id that another process made up: of an event, of a delivery.
MAX_ID = 64

#: Characters of a value in a log message or an error.
MAX_SHOWN = 200

#: Characters of a reason that a host gives.
MAX_REASON = 1000

# NOTE: letters, digits and what host names of real clouds have beside them: domains (.),
# IPv6 addresses (:), cells (@). Not what a topic exchange reads as a wildcard (* and #).
_HOST = re.compile(r'[0-9A-Za-z._:@-]{1,255}')
_ID = re.compile(r'[0-9A-Za-z._:-]{1,64}')


def longest_host(topic: str) -> int:
    """Characters that a host name may have, so that ``<topic>.<host>`` is a routing key."""
    return min(MAX_HOST, MAX_ROUTING_KEY - len(topic.encode()) - 1)


def is_host(value: object, longest: int = MAX_HOST) -> TypeGuard[str]:
    """Whether a value is the name of a host or of a resolver worker.

    :param longest: characters, see :func:`longest_host`
    """
    return type(value) is str and len(value) <= longest and _HOST.fullmatch(value) is not None


def is_id(value: object) -> TypeGuard[str]:
    """Whether a value is an id of an event or of a delivery."""
    return type(value) is str and _ID.fullmatch(value) is not None


def is_number(value: object) -> TypeGuard[float]:
    """Whether a value is a finite number."""
    if isinstance(value, bool) or not isinstance(value, (float, int)):
        return False
    # NOTE: an integer of JSON may be larger than a float can be.
    return -1e18 < value < 1e18


def clean_text(text: str, longest: int = MAX_REASON) -> str:
    """A text without what a database or a log cannot take, and not longer than that.

    Half a surrogate pair and control characters become question marks.
    """
    text = text[:longest]
    if text.isascii() and text.isprintable():
        return text
    text = text.encode('utf-8', 'replace').decode()
    return ''.join(character if character.isprintable() else '?' for character in text)


def shown(value: Any) -> str:
    """A value for a log message or an error: printable, at most :data:`MAX_SHOWN` characters.

    Takes no longer for a large value.
    """
    if type(value) is bytes:
        value = value[:MAX_SHOWN]
    try:
        text = _SHORT.repr(value)
    except Exception as exc:  # a value of a foreign class, or an integer of too many digits
        text = f'<{type(value).__name__} that cannot be shown: {type(exc).__name__}>'
    return text if len(text) <= MAX_SHOWN else f'{text[: MAX_SHOWN - 3]}...'


_SHORT = reprlib.Repr()
_SHORT.maxstring = MAX_SHOWN
_SHORT.maxother = MAX_SHOWN
_SHORT.maxlevel = 3
_SHORT.maxdict = _SHORT.maxlist = _SHORT.maxtuple = 6
