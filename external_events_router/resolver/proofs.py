"""Proofs that a report comes from the agent of the host that it names.

RabbitMQ permits only the agent of a host to read the queue of this host. So the resolver sends a
token to this queue, and the agent repeats it with its reports. A token is the time at which it
expires and an HMAC of this time and the name of the host, so each worker that has the key can
verify it, and nothing is stored for a host.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
import hmac
import itertools
import threading
import time

from oslo_log import log

from external_events_router import checks
from external_events_router import exceptions
from external_events_router.resolver.drivers import base

LOG = log.getLogger(__name__)

#: Seconds for which a token is valid, and seconds before its end at which it is renewed.
LIFETIME = 86400.0
RENEW = LIFETIME / 4

#: Period in seconds in which a worker sends a host at most one token, for any number of reports. So
#: the queue of an unavailable host fills at most at this rate.
PAUSE = 10.0

#: Seconds after which the key is read again, and seconds until the next attempt after a failure.
KEY_LIFETIME = 300.0
KEY_PAUSE = 10.0

#: Seconds from the first report without a valid token to the first log message about such reports,
#: and between two messages.
FIRST_MESSAGE = 300.0
EVERY = 3600.0

#: Maximum number of hosts that are collected for a message, and number of hosts that it names.
MAX_HOSTS = 10_000
EXAMPLES = 3


def make_token(key: bytes, host: str, expires: int) -> str:
    """Return the token of a host: ``<expires>.<HMAC-SHA256>``, 54 characters.

    :param key: known to all resolvers, and to no agent
    :param expires: seconds since the epoch
    """
    # NOTE: a host name cannot contain the separators, see ``checks.is_host``.
    code = hmac.digest(key, f'report/{host}/{expires}'.encode(), 'sha256')
    return f'{expires}.{base64.urlsafe_b64encode(code).rstrip(b"=").decode()}'


def seconds_left(key: bytes, host: str, token: object, now: float) -> float | None:
    """Return the seconds for which a token is valid; None: it is not a valid token of this host."""
    if not checks.is_id(token):
        return None
    expires, _, _code = token.partition('.')
    if not (expires.isdecimal() and len(expires) <= 12) or int(expires) <= now:
        return None
    if not hmac.compare_digest(token.encode(), make_token(key, host, int(expires)).encode()):
        return None
    return int(expires) - now


class Proofs:
    """Decides whether a report is accepted, and sends tokens. Thread-safe."""

    def __init__(
        self,
        read_key: Callable[[], bytes],
        sender: base.TokenSender | None,
        *,
        required: bool,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """:param read_key: may raise ``DatabaseUnavailable``
        :param sender: None: the hosts run nova-compute, which does not report
        :param required: refuse reports without a valid token
        """
        self._key = _Key(read_key, monotonic)
        self._sender = sender
        self._required = required
        self._wall = wall
        self._monotonic = monotonic
        self._without = _WithoutToken(required=required, clock=monotonic)
        # Guards the attributes below: the hosts that were sent a token in the current period.
        self._lock = threading.Lock()
        self._period = 0
        self._sent: set[str] = set()

    def accepts(self, host: str, token: str | None) -> bool:
        """Return whether a report is accepted; otherwise the agent has to report again with a token.

        :param token: token of the agent; empty: it has none yet; None: it does not support tokens
        :raises DatabaseUnavailable: tokens are required, and the key cannot be read
        """
        try:
            key = self._key.get()
        except exceptions.DatabaseUnavailable:
            if self._required:
                raise
            return True
        left = seconds_left(key, host, token, self._wall())
        if left is not None:
            self._without.remove(host)
            if left < RENEW:
                self._send(key, host)
            return True
        sent = token is not None and self._send(key, host)
        self._without.add(host, again_only=sent)
        return not self._required

    def _send(self, key: bytes, host: str) -> bool:
        """Send a token to a host, unless it was sent one in this period.

        :returns: whether a token is in its queue, or will be
        """
        if self._sender is None:
            return False
        period = int(self._monotonic() / PAUSE)
        with self._lock:
            if period != self._period:
                self._period, self._sent = period, set()
            if host in self._sent:
                return True
            self._sent.add(host)
        try:
            sent = self._sender.take_token(host, make_token(key, host, int(self._wall() + LIFETIME)))
        except exceptions.RouterError as exc:
            LOG.debug('Could not send a token for reports to host %s: %s', host, exc)
            return False
        if not sent:
            with self._lock:
                self._sent.discard(host)
        return sent


class _Key:
    """The key, which is read again regularly, because it may have been replaced."""

    def __init__(self, read: Callable[[], bytes], clock: Callable[[], float]) -> None:
        self._read = read
        self._clock = clock
        # Held by the thread that reads the key. Meanwhile other threads use the previous key.
        self._lock = threading.Lock()
        self._key: bytes | None = None
        self._until = 0.0

    def get(self) -> bytes:
        """Return the key.

        :raises DatabaseUnavailable: it was never read, and the database is unavailable
        """
        key = self._key
        if key is not None and self._clock() < self._until:
            return key
        if not self._lock.acquire(blocking=key is None):
            assert key is not None  # noqa: S101 - without a key, acquire() has waited
            return key
        try:
            if self._key is None or self._clock() >= self._until:
                self._renew()
            assert self._key is not None  # noqa: S101 - _renew() raises if there is no key
            return self._key
        finally:
            self._lock.release()

    def _renew(self) -> None:
        try:
            self._key = self._read()
        except exceptions.DatabaseUnavailable:
            self._until = self._clock() + KEY_PAUSE
            if self._key is None:
                raise
        else:
            self._until = self._clock() + KEY_LIFETIME


class _WithoutToken:
    """Logs the hosts that report without a valid token, once per hour."""

    def __init__(self, *, required: bool, clock: Callable[[], float]) -> None:
        self._required = required
        self._clock = clock
        # Guards the attributes below. _once: hosts that were just sent a token and may use it next time.
        self._lock = threading.Lock()
        self._hosts: dict[str, None] = {}
        self._once: set[str] = set()
        self._due: float | None = None

    def add(self, host: str, *, again_only: bool) -> None:
        """Record a report without a valid token.

        :param again_only: ignore it if it is the first one of the host
        """
        with self._lock:
            if again_only and host not in self._once:
                if len(self._once) < MAX_HOSTS:
                    self._once.add(host)
                return
            if len(self._hosts) < MAX_HOSTS:
                self._hosts[host] = None
            now = self._clock()
            if self._due is None:
                self._due = now + FIRST_MESSAGE
            if now < self._due:
                return
            hosts, self._hosts = self._hosts, {}
            self._once.clear()
            self._due = now + EVERY
        self._log(hosts)

    def remove(self, host: str) -> None:
        """Record that a report had a valid token."""
        if host in self._hosts or host in self._once:
            with self._lock:
                self._hosts.pop(host, None)
                self._once.discard(host)

    def _log(self, hosts: dict[str, None]) -> None:
        examples = ', '.join(itertools.islice(hosts, EXAMPLES))
        if self._required:
            LOG.warning(
                'Number of hosts whose reports were refused, because they have no valid token: %d (for '
                'example %s). The host map is not changed for them. Upgrade their agents, remove '
                '[upgrade_levels] host_map and agent, or set [resolver] require_report_token = false',
                len(hosts),
                examples,
            )
        else:
            LOG.warning(
                'Number of hosts that report without a valid token: %d (for example %s). The reports are '
                'accepted; but until tokens are required, each client that may report can change the host '
                'map of every host. Upgrade their agents, then set [resolver] require_report_token = true',
                len(hosts),
                examples,
            )
