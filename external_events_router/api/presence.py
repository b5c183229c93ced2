"""The state of an API process, so that the journal knows until when it has all refused requests.

With ``[api] resolver = rpc`` an API process has no journal of its own: it passes on refused requests to a
resolver. If it is killed, or cannot reach a resolver, the journal must not be called complete.
"""

from __future__ import annotations

from collections.abc import Mapping
import os
import secrets
import time
from typing import Any

from oslo_config import cfg

from external_events_router.process import slots

#: Prefix of the claims of names.
PURPOSE = 'external-events-api-journal'


class Presence:
    """The description of this process. It keeps its name until its end."""

    def __init__(self, host: str, record: str) -> None:
        """Claim a name.

        :param host: ``[DEFAULT] host``
        :param record: ``[journal] record``
        """
        self._slot = slots.claim_first(slots.SocketClaims(PURPOSE, host))
        self._host = host
        self._record = record
        self._id = secrets.randbelow(2**31 - 1) + 1
        self._started = time.monotonic()

    @classmethod
    def from_conf(cls, conf: cfg.ConfigOpts) -> Presence:
        """Describe this process with the values of the configuration."""
        return cls(conf.host, conf.journal.record)

    def described(
        self, complete_until: float, *, dropped_since: float | None = None, is_stopped: bool = False
    ) -> Mapping[str, Any]:
        """Describe the process for a message.

        :param complete_until: all requests that arrived before this instant of ``time.monotonic()`` and
            were refused have been passed on or dropped
        :param dropped_since: when the first request was refused that was dropped since the last message
        :param is_stopped: the process accepts no more requests
        """
        now = time.monotonic()
        return {
            'id': self._id,
            'name': f'{self._host}:api-{self._slot.number}',
            'host': self._host,
            'pid': os.getpid(),
            'record': self._record,
            'age_ms': int((now - self._started) * 1000) + 1,
            'complete_ms': max(0, int((now - max(complete_until, self._started)) * 1000) + 1),
            'dropped_ms': 0 if dropped_since is None else int((now - dropped_since) * 1000) + 1,
            'stopped': is_stopped,
        }
