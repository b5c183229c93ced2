"""Confirmations of previews: signed, valid for a short time, for one user, action, filter and number."""

from __future__ import annotations

import base64
from collections.abc import Callable
from collections.abc import Mapping
import hashlib
import hmac
import json
from typing import Any

from external_events_router import exceptions
from external_events_router.operations import held

#: Maximum characters of a confirmation.
MAX_LENGTH = 1000

#: Distinguishes the key from other uses of the key in the database.
_PURPOSE = b'external-events-router admin confirmation'


class Confirmations:
    """Makes and checks confirmations.

    :param key: returns the secret that all admin processes share
    :param lifetime: seconds
    """

    def __init__(self, key: Callable[[], bytes], *, lifetime: float) -> None:
        self._key = key
        self._lifetime = lifetime

    def make(
        self, action: str, user_id: str | None, chosen: held.Filter, preview: held.Preview, *, now: float
    ) -> tuple[str, float]:
        """Return a confirmation, and the time at which it becomes invalid.

        :param now: seconds since the epoch by the clock of the database
        :raises DatabaseUnavailable: the key cannot be read
        """
        expires = now + self._lifetime
        facts = [int(expires), preview.number, preview.last_held, preview.last_ended]
        payload = json.dumps(facts).encode()
        mac = self._mac(action, user_id, chosen, payload)
        return base64.urlsafe_b64encode(mac + payload).decode(), expires

    def check(
        self, text: str, action: str, user_id: str | None, chosen: held.Filter, *, now: float
    ) -> held.Preview:
        """Return the preview that a confirmation confirms, without its list of kinds.

        :raises InvalidArgument: it was made for another user, action or filter, or is not valid any longer
        :raises DatabaseUnavailable: the key cannot be read
        """
        try:
            raw = base64.b64decode(text.encode('ascii'), altchars=b'-_', validate=True)
        except ValueError:
            raw = b''
        mac, payload = raw[: hashlib.sha256().digest_size], raw[hashlib.sha256().digest_size :]
        if not hmac.compare_digest(mac, self._mac(action, user_id, chosen, payload)):
            raise exceptions.InvalidArgument(
                'the confirmation is not for this user, action and filter; request a new preview'
            )
        expires, number, last_held, last_ended = json.loads(payload)
        if now >= expires:
            raise exceptions.InvalidArgument('the confirmation has expired; request a new preview')
        return held.Preview(number, (), last_held, last_ended)

    def _mac(self, action: str, user_id: str | None, chosen: held.Filter, payload: bytes) -> bytes:
        bound = json.dumps([action, user_id, described(chosen), payload.decode('latin-1')])
        key = hmac.digest(self._key(), _PURPOSE, 'sha256')
        return hmac.digest(key, bound.encode(), 'sha256')


def described(chosen: held.Filter) -> Mapping[str, Any]:
    """Return a filter as plain data."""
    return {
        'host': chosen.host,
        'server': chosen.server,
        'state': None if chosen.state is None else str(chosen.state),
    }
