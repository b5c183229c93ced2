"""Handlers: functions that process an event on a host and return the result.

A handler is a callable. It returns if it has handled the event. It raises
:class:`~external_events_router.exceptions.NotHere` if the server is not on this host, and
:class:`~external_events_router.exceptions.Refused` if it will never handle the event. The dispatcher
decides on which thread and in which order handlers are called.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
import functools
import logging
import threading
import time
from typing import overload

from oslo_config import cfg

from external_events_router import checks
from external_events_router import context
from external_events_router import events
from external_events_router import exceptions
from external_events_router import plugins

LOG = logging.getLogger(__name__)

#: Entry points of handlers that ``[agent] handlers`` can name. Each is a class with a class method
#: ``from_conf(conf)`` that returns a handler.
NAMESPACE = 'external_events_router.agent.handlers'

#: Used instead of the name of an event: matches every event.
ANY = '*'

Handler = Callable[[context.RequestContext, events.Event], events.Verdict | None]


class LogHandler:
    """Logs a message for each event and reports it as handled."""

    @classmethod
    def from_conf(cls, conf: cfg.ConfigOpts) -> LogHandler:
        """Build the handler from the configuration."""
        return cls()

    def __call__(self, ctxt: context.RequestContext, event: events.Event) -> None:
        LOG.info(
            'Event %s of server %s: tag %r, status %s, id %s',
            event.name,
            event.server_uuid,
            event.tag,
            event.status,
            event.id,
        )


class Handlers:
    """The handlers of each event. Thread-safe.

    Handlers that the program has registered are called first, in the order of registration, then
    the handlers of the configuration.
    """

    def __init__(self, configured: Sequence[Handler] = ()) -> None:
        # Guards the attributes below. _by_name: cached results of of(). It is read without the lock,
        # and on changes replaced by a new dict, never cleared.
        self._lock = threading.Lock()
        self._registered: list[tuple[str, Handler]] = []
        self._configured = tuple(configured)
        self._by_name: dict[str, tuple[Handler, ...]] = {}

    @overload
    def on(self, name: str) -> Callable[[Handler], Handler]: ...

    @overload
    def on(self, name: str, handler: Handler) -> Handler: ...

    def on(self, name: str, handler: Handler | None = None) -> Handler | Callable[[Handler], Handler]:
        """Register a handler, or return a decorator that registers one.

        :param name: name of the event, or ``*`` for all events
        :raises ValueError: no event has this name
        """
        if name != ANY and name not in events.EVENT_TYPES:
            raise ValueError(f'unknown event name {name!r}')
        if handler is None:
            return lambda decorated: self.on(name, decorated)
        with self._lock:
            self._registered.append((name, handler))
            self._by_name = {}
        return handler

    def configure(self, handlers: Sequence[Handler]) -> None:
        """Replace the handlers of the configuration.

        Running calls of the previous handlers continue.
        """
        with self._lock:
            self._configured = tuple(handlers)
            self._by_name = {}

    def of(self, name: str) -> tuple[Handler, ...]:
        """Return the handlers of an event, in the order in which they are called."""
        found = self._by_name.get(name)
        return self._find(name) if found is None else found

    def close(self) -> None:
        """Close handlers of the configuration that have a ``close`` method."""
        with self._lock:
            configured = self._configured
        for handler in configured:
            close = getattr(handler, 'close', None)
            if close is not None:
                close()

    def _find(self, name: str) -> tuple[Handler, ...]:
        with self._lock:
            registered = tuple(handler for on, handler in self._registered if on in (name, ANY))
            found = registered + self._configured
            if name in events.EVENT_TYPES:
                # NOTE: received events may have any name; unknown names must not fill the memory.
                self._by_name[name] = found
            return found


def load(conf: cfg.ConfigOpts) -> list[Handler]:
    """Create the handlers that ``[agent] handlers`` names, in this order.

    :raises ConfigurationError: a name is unknown, or a handler cannot be created
    """
    return [_load(name, conf) for name in conf.agent.handlers]


def handle(
    handlers: Sequence[Handler],
    ctxt: context.RequestContext,
    event: events.Event,
    *,
    waited: events.Handling = events.NOT_HANDLED,
) -> events.Result:
    """Call handlers one after the other, up to the first that does not handle the event.

    :param waited: whether a thread waited for the event
    :returns: result of the last call, with the name of this handler and the duration of all;
        handled if there are no handlers
    """
    result = events.Result(event.id, events.Verdict.HANDLED, handling=waited)
    if not handlers:
        return result
    began = time.monotonic()
    for handler in handlers:
        result = _call(handler, ctxt, event)
        if result.verdict is not events.Verdict.HANDLED:
            break
    taken = min(events.MAX_MILLISECONDS, round((time.monotonic() - began) * 1000))
    result.handling = _handling(waited.waiter, waited.wait_ms, name_of(handler), taken)
    return result


# NOTE: most events have the same handler and take 0 ms, and the agent remembers their results.
_handling = functools.lru_cache(maxsize=1000)(events.Handling)


def name_of(handler: Handler) -> str:
    """Return the name of a handler for operators: of its function or class."""
    name = getattr(handler, '__name__', None) or type(handler).__name__
    return checks.clean_text(str(name), events.MAX_HANDLER)


def _call(handler: Handler, ctxt: context.RequestContext, event: events.Event) -> events.Result:
    try:
        verdict = handler(ctxt, event)
        return events.Result(event.id, events.Verdict.HANDLED if verdict is None else events.Verdict(verdict))
    except exceptions.NotHere:
        return events.Result(event.id, events.Verdict.NOT_HERE)
    except exceptions.Refused as exc:
        reason = str(exc.kwargs.get('reason', exc))
    except (Exception, SystemExit) as exc:
        # Whatever a handler raises, its event gets a result.
        LOG.exception(
            'The handler for %s of server %s failed; the sender gets 500', event.name, event.server_uuid
        )
        reason = type(exc).__name__
    return events.Result(event.id, events.Verdict.REFUSED, checks.clean_text(reason))


def _load(name: str, conf: cfg.ConfigOpts) -> Handler:
    plugin = plugins.load(NAMESPACE, name, option='[agent] handlers')
    handler: Handler = plugin.from_conf(conf)
    return handler
