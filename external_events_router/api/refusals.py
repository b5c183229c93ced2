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
    """Sends refused requests to a resolver, on a separate thread. Thread-safe; no call waits."""

    def __init__(self, send: Callable[[Sequence[Mapping[str, Any]], int], None]) -> None:
        """:param send: sends some requests, and the number of requests that were dropped before them"""
        self._send = send
        self._away = throttled_log.ThrottledLog(LOG)
        # Guards _waiting (each item with the instant of its arrival), _dropped and _running.
        self._changed = threading.Condition()
        self._waiting: collections.deque[tuple[float, Mapping[str, Any]]] = collections.deque()
        self._dropped = 0
        self._running = False

    def __call__(self, refusals: Sequence[Mapping[str, Any]]) -> None:
        """Queue refused requests for sending; drop the oldest if too many wait."""
        now = time.monotonic()
        with self._changed:
            self._waiting.extend((now, refusal) for refusal in refusals)
            while len(self._waiting) > WAITING:
                self._waiting.popleft()
                self._dropped += 1
            if not self._running:
                self._running = True
                threading.Thread(target=self._run, name='refusals', daemon=True).start()
            self._changed.notify_all()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting)
                some = [self._waiting.popleft() for _ in range(min(TOGETHER, len(self._waiting)))]
                dropped, self._dropped = self._dropped, 0
            now = time.monotonic()
            aged = [{**refusal, 'age_ms': int((now - came) * 1000)} for came, refusal in some]
            try:
                self._send(aged, dropped)
            except Exception as exc:  # after any error it is tried again
                self._failed(some, dropped, exc)
                time.sleep(PAUSE)
            else:
                self._away.over('Refused requests are passed to a resolver again')
                time.sleep(INTERVAL)

    def _failed(self, some: Sequence[tuple[float, Mapping[str, Any]]], dropped: int, exc: Exception) -> None:
        with self._changed:
            self._waiting.extendleft(reversed(some))
            self._dropped += dropped
            while len(self._waiting) > WAITING:
                self._waiting.popleft()
                self._dropped += 1
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
