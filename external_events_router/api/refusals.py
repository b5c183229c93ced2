"""Passes refused requests to the journal, which a resolver writes.

A request that is refused as a whole (no token, no permission, an invalid body, ...) never reaches
a resolver. The journal states it nevertheless, because for the sender's operator it is the most
common reason why an event did not arrive. The number of records is limited per minute and sender.
"""

from __future__ import annotations

import collections
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
import json
import logging
import threading
import time
from typing import Any

from oslo_log import log
from oslo_middleware import request_id

from external_events_router import context
from external_events_router import events
from external_events_router import exceptions
from external_events_router import throttled_log
from external_events_router.api import auth
from external_events_router.api import presence

LOG = log.getLogger(__name__)

#: Keys of the WSGI environment: the caller is known; the document that was parsed.
IDENTIFIED = 'external_events_router.identified'
DOCUMENT = 'external_events_router.document'

#: Refused requests of one sender with one status that are recorded in a minute, and senders that
#: are counted; further senders share one limit.
PER_MINUTE = 10
SENDERS = 1000

#: Servers, and names of events, of a refused request that are recorded; characters of each; events
#: that are searched for them. If a request has more events, its servers are not recorded.
MAX_NAMED = 20
MAX_TEXT = 255
MAX_SEARCHED = 1000

#: Refused requests that wait for a resolver, and that one message contains; seconds between two
#: messages, and after an error.
WAITING = 1000
TOGETHER = 100
INTERVAL = 1.0
PAUSE = 5.0

#: Seconds between two messages with the state of the process; that a resolver needs to write a message;
#: and that a stop waits.
HEARTBEAT = 3.0
SETTLE = 5.0
STOP_TIMEOUT = 3.0

#: Takes refused requests, as :func:`describe` returns them.
Sink = Callable[[Sequence[Mapping[str, Any]]], None]

_REASONS = {
    # The versions of the API, in answer to a path without one.
    300: 'not_found',
    400: 'bad_request',
    401: 'not_authenticated',
    403: 'not_permitted',
    404: 'not_found',
    413: 'too_large',
    429: 'overloaded',
    503: 'overloaded',
}


#: Replaces parts of the first refused request beyond the limit. Its record represents all further
#: refused requests of this minute; their servers are not recorded.
_LIMITED = {
    'detail': (
        f'the sender had more than {PER_MINUTE} refused requests in a minute; this and further ones '
        'are not recorded'
    ),
    'servers': [],
    'names': [],
    'suppressed': 1,
}


class Identified:
    """Marks requests whose caller the filter before it has identified."""

    def __init__(self, app: auth.WSGIApp) -> None:
        self._app = app

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        environ[IDENTIFIED] = True
        return self._app(environ, start_response)


class Recorded:
    """Records POST requests that are answered with an error."""

    def __init__(self, app: auth.WSGIApp, sink: Sink) -> None:
        self._app = app
        self._sink = sink
        self._limit = Limit()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ['REQUEST_METHOD'] != 'POST':
            return self._app(environ, start_response)
        statuses: list[str] = []

        def respond(status: str, *args: Any) -> Any:
            statuses.append(status)
            return start_response(status, *args)

        body = self._app(environ, respond)
        if statuses and statuses[-1][0] in '345':
            self._record(int(statuses[-1][:3]), environ, body)
        return body

    def _record(self, status: int, environ: Mapping[str, Any], body: Iterable[bytes]) -> None:
        try:
            described = describe(status, environ, body)
            count, suppressed = self._limit.take(_sender(described), status)
            if count <= PER_MINUTE:
                self._sink([{**described, 'suppressed': suppressed}])
            elif count == PER_MINUTE + 1:
                self._sink([{**described, **_LIMITED}])
        except Exception:  # the answer is sent without the record
            LOG.exception('A refused request is not recorded: unexpected error')


class Limit:
    """Limits the recorded refused requests of a sender in a minute. Thread-safe."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        # Guards _minute: the current minute; _counts: the number of refusals in it for each sender
        # and status; and _suppressed: the refusals of earlier minutes that were not recorded.
        self._lock = threading.Lock()
        self._minute = 0.0
        self._counts: dict[tuple[str, int], int] = {}
        self._suppressed: dict[tuple[str, int], int] = {}

    def take(self, sender: str, status: int) -> tuple[int, int]:
        """Count a refused request.

        :returns: the number of refused requests of this sender in this minute, and the number of
            requests without a record that were not reported yet
        """
        with self._lock:
            minute = self._clock() // 60
            if minute != self._minute:
                self._minute = minute
                self._counts.clear()
            key = (sender, status)
            if key not in self._counts and len(self._counts) >= SENDERS:
                key = ('', status)
            self._counts[key] = self._counts.get(key, 0) + 1
            count = self._counts[key]
            if count <= PER_MINUTE:
                return count, self._suppressed.pop(key, 0)
            # NOTE: the first request beyond the limit has a record, which states that there is no other.
            further = count > PER_MINUTE + 1
            if further and (key in self._suppressed or len(self._suppressed) < SENDERS):
                self._suppressed[key] = self._suppressed.get(key, 0) + 1
            return count, 0


class Forwarder:
    """Sends refused requests to a resolver, on a separate thread. Thread-safe; no call waits.

    With a presence it also sends, every few seconds, until when all refused requests have been sent.
    """

    def __init__(
        self,
        send: Callable[[Sequence[Mapping[str, Any]], int, Mapping[str, Any] | None], None],
        *,
        state: presence.Presence | None = None,
        longest: float = 0.0,
    ) -> None:
        """:param send: sends some requests, the number of requests that were dropped before them, and the
            state of this process
        :param state: None: the process does not describe itself
        :param longest: seconds that a request may take
        """
        self._send = send
        self._state = state
        self._longest = longest
        self._away = throttled_log.ThrottledLog(LOG)
        # Guards _waiting (each item with the instant of its arrival), _dropped, _dropped_since, _running and
        # _stopped.
        self._changed = threading.Condition()
        self._waiting: collections.deque[tuple[float, Mapping[str, Any]]] = collections.deque()
        self._dropped = 0
        self._dropped_since: float | None = None
        self._running = False
        self._stopped = False
        # Of the thread: instants of messages, with the instant until which all was sent by them.
        self._reached: collections.deque[tuple[float, float]] = collections.deque()
        self._complete_until = 0.0
        self._thread = threading.Thread(target=self._run, name='refusals', daemon=True)

    def start(self) -> None:
        """Begin to send the state of this process."""
        with self._changed:
            self._start()

    def __call__(self, refusals: Sequence[Mapping[str, Any]]) -> None:
        """Queue refused requests for sending; drop the oldest if too many wait."""
        now = time.monotonic()
        with self._changed:
            self._waiting.extend((now, refusal) for refusal in refusals)
            self._drop()
            self._start()
            self._changed.notify_all()

    def stop(self, timeout: float = STOP_TIMEOUT) -> None:
        """Send what waits as far as the time allows, and that this process has stopped.

        :param timeout: seconds
        """
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(timeout)

    def _start(self) -> None:
        """Start the thread; called with the lock held."""
        if not self._running:
            self._running = True
            self._thread.start()

    def _drop(self) -> None:
        """Drop the oldest if too many wait; called with the lock held."""
        while len(self._waiting) > WAITING:
            came, _refusal = self._waiting.popleft()
            self._dropped += 1
            self._dropped_since = min(came, self._dropped_since or came)

    def _run(self) -> None:
        while self._send_some():
            pass

    def _send_some(self) -> bool:
        """Wait for refused requests or for the next message of the state, and send it.

        :returns: false: all was sent, and the process stops
        """
        with self._changed:
            heartbeat = None if self._state is None else HEARTBEAT
            self._changed.wait_for(lambda: self._waiting or self._stopped, heartbeat)
            some = [self._waiting.popleft() for _ in range(min(TOGETHER, len(self._waiting)))]
            dropped, self._dropped = self._dropped, 0
            dropped_since, self._dropped_since = self._dropped_since, None
            is_last = self._stopped and not self._waiting
            now = time.monotonic()
            until = (self._waiting[0][0] if self._waiting else now) - self._longest
        aged = [{**refusal, 'age_ms': int((now - came) * 1000)} for came, refusal in some]
        try:
            self._send(aged, dropped, self._described(until, dropped_since, is_last=is_last))
        except Exception as exc:  # after any error it is tried again
            self._failed(some, dropped, dropped_since, exc)
            self._pause(PAUSE)
            return not self._stopped
        self._reached.append((now, until))
        self._away.over('Refused requests are passed to a resolver again')
        self._pause(INTERVAL)
        return not is_last

    def _described(
        self, until: float, dropped_since: float | None, *, is_last: bool
    ) -> Mapping[str, Any] | None:
        if self._state is None:
            return None
        # NOTE: earlier messages may have gone to other resolvers, which need some time to write them.
        settled = time.monotonic() - SETTLE
        while self._reached and self._reached[0][0] <= settled:
            self._complete_until = self._reached.popleft()[1]
        complete_until = until if is_last else self._complete_until
        return self._state.described(complete_until, dropped_since=dropped_since, is_stopped=is_last)

    def _pause(self, seconds: float) -> None:
        """Wait between two messages, but not during a stop."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopped, seconds)

    def _failed(
        self,
        some: Sequence[tuple[float, Mapping[str, Any]]],
        dropped: int,
        dropped_since: float | None,
        exc: Exception,
    ) -> None:
        with self._changed:
            self._waiting.extendleft(reversed(some))
            self._dropped += dropped
            if dropped_since is not None:
                self._dropped_since = min(dropped_since, self._dropped_since or dropped_since)
            self._drop()
        known = isinstance(exc, exceptions.RouterError)
        self._away.occurred(
            logging.WARNING,
            'Refused requests cannot be passed to a resolver, which writes the journal: %s',
            exc if known else type(exc).__name__,
        )


def describe(status: int, environ: Mapping[str, Any], body: Iterable[bytes]) -> dict[str, Any]:
    """Describe a refused request for the journal.

    :param body: the body of the answer
    """
    detail = _message(body)
    reason = _REASONS.get(status, 'failed' if status >= 500 else 'other')
    if status == 503 and 'Keystone' in detail:
        reason = 'keystone_unavailable'
    known = environ.get(IDENTIFIED, False)
    servers, names = _named(environ.get(DOCUMENT))
    return {
        'status': status,
        'reason': reason,
        'detail': detail,
        'user_id': _text(environ.get('HTTP_X_USER_ID')) if known else None,
        'user_name': _text(environ.get('HTTP_X_USER_NAME')) if known else None,
        'project_id': _text(environ.get('HTTP_X_PROJECT_ID')) if known else None,
        'address': _text(environ.get('REMOTE_ADDR')),
        'request_id': environ.get(request_id.ENV_REQUEST_ID),
        'global_request_id': environ.get(request_id.GLOBAL_REQ_ID),
        'servers': servers,
        'names': names,
    }


def not_routed(ctxt: context.RequestContext, batch: Sequence[events.Event], reason: str) -> dict[str, Any]:
    """Describe a batch that reached no resolver for the journal: each of its events has code 503."""
    return {
        'status': 207,
        'reason': 'not_routed',
        'detail': _text(reason),
        'user_id': ctxt.user_id,
        'user_name': _text(ctxt.user_name),
        'project_id': ctxt.project_id,
        'address': None,
        'request_id': ctxt.request_id,
        'global_request_id': ctxt.global_request_id,
        'servers': list(dict.fromkeys(event.server_uuid for event in batch))[:MAX_NAMED],
        'names': list(dict.fromkeys(event.name for event in batch)),
    }


def _sender(described: Mapping[str, Any]) -> str:
    return str(described['user_id'] or described['address'] or '')


def _message(body: Iterable[bytes]) -> str:
    """Return the text of an error in the body of its answer."""
    if not isinstance(body, (list, tuple)):
        return ''
    raw = b''.join(body)
    try:
        (fault,) = json.loads(raw).values()
        return _text(str(fault['message'])) or ''
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return _text(raw[:MAX_TEXT].decode(errors='replace')) or ''


def _named(document: Any) -> tuple[list[str], list[str]]:
    """Return the servers and the names of the events in a document, as far as it has any."""
    items = document.get('events') if isinstance(document, dict) else None
    if not isinstance(items, list):
        return [], []
    searched = [item for item in items[:MAX_SEARCHED] if isinstance(item, dict)]
    texts = _texts(item.get('server_uuid') for item in searched)
    servers = list(dict.fromkeys(events.canonical_uuid(text) or text for text in texts))
    if len(items) > MAX_SEARCHED and len(servers) < MAX_NAMED:
        return [], []
    return servers[:MAX_NAMED], _texts(item.get('name') for item in searched)[:MAX_NAMED]


def _texts(values: Iterable[Any]) -> list[str]:
    """Return the different texts among some values."""
    return list(dict.fromkeys(value[:MAX_TEXT] for value in values if isinstance(value, str)))


def _text(value: object) -> str | None:
    return None if value is None else str(value)[:MAX_TEXT]
