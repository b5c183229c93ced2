"""Fast checks of values from other processes: names, ids, numbers, texts.

Imports only the standard library. A check takes less than a microsecond, because some run for every
event. The caller decides what to do with an invalid value.
"""

from __future__ import annotations

import re
import reprlib
from typing import Any
from typing import TypeGuard

#: Maximum bytes of a routing key, which AMQP 0-9-1 encodes as a short string.
MAX_ROUTING_KEY = 255

#: Maximum characters of a host name in the database, see ``db.models``.
MAX_HOST = 255

#: Maximum characters of an id from another process: of an event, of a delivery.
MAX_ID = 64

#: Maximum characters of a value in a log message or an error.
MAX_SHOWN = 200

#: Maximum characters of a reason from a host.
MAX_REASON = 1000

# NOTE: letters, digits and the other characters of real host names: domains (.), IPv6 addresses (:),
# cells (@). The wildcards of a topic exchange (* and #) are not permitted.
_HOST = re.compile(r'[0-9A-Za-z._:@-]{1,255}')
_ID = re.compile(r'[0-9A-Za-z._:-]{1,64}')


def longest_host(topic: str) -> int:
    """Return the maximum characters of a host name, so that ``<topic>.<host>`` is a routing key."""
    return min(MAX_HOST, MAX_ROUTING_KEY - len(topic.encode()) - 1)


def is_host(value: object, longest: int = MAX_HOST) -> TypeGuard[str]:
    """Return whether a value is a valid name of a host or of a resolver worker.

    :param longest: maximum characters, see :func:`longest_host`
    """
    return type(value) is str and len(value) <= longest and _HOST.fullmatch(value) is not None


def is_id(value: object) -> TypeGuard[str]:
    """Return whether a value is a valid id of an event or of a delivery."""
    return type(value) is str and _ID.fullmatch(value) is not None


def is_list(value: object, longest: int) -> TypeGuard[list[Any]]:
    """Return whether a value from another process is a list with a limited number of items."""
    return type(value) is list and len(value) <= longest


def is_number(value: object) -> TypeGuard[float]:
    """Return whether a value is a finite number."""
    if isinstance(value, bool) or not isinstance(value, (float, int)):
        return False
    # NOTE: an integer in JSON can be larger than the largest float.
    return -1e18 < value < 1e18


def clean_text(text: str, longest: int = MAX_REASON) -> str:
    """Return a text that a database and a log accept, cut to ``longest`` characters.

    Control characters and halves of surrogate pairs are replaced by question marks.
    """
    text = text[:longest]
    if text.isascii() and text.isprintable():
        return text
    text = text.encode('utf-8', 'replace').decode()
    return ''.join(character if character.isprintable() else '?' for character in text)


def shown(value: Any) -> str:
    """Return a value as printable text for a message, with at most :data:`MAX_SHOWN` characters.

    A large value does not take longer.
    """
    if type(value) is bytes:
        value = value[:MAX_SHOWN]
    try:
        text = _SHORT.repr(value)
    except Exception as exc:  # an object of another library, or an integer with too many digits
        text = f'<{type(value).__name__} that cannot be shown: {type(exc).__name__}>'
    return text if len(text) <= MAX_SHOWN else f'{text[: MAX_SHOWN - 3]}...'


_SHORT = reprlib.Repr()
_SHORT.maxstring = MAX_SHOWN
_SHORT.maxother = MAX_SHOWN
_SHORT.maxlevel = 3
_SHORT.maxdict = _SHORT.maxlist = _SHORT.maxtuple = 6
