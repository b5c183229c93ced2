"""Handlers: what a host does with an event, and what it says of it.

A handler is a callable. It returns for an event that it has handled, raises
:class:`~external_events_router.exceptions.NotHere` for a server that is not on
this host and :class:`~external_events_router.exceptions.Refused` for an event
that it will never handle. On which thread and in which order it is called is
the dispatcher's.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
import logging
import threading
from typing import overload

from oslo_config import cfg

from external_events_router import checks
from external_events_router import context
from external_events_router import events
from external_events_router import exceptions
from external_events_router import plugins

LOG = logging.getLogger(__name__)

#: Entry points of handlers that ``[agent] handlers`` can name. Each is a class
#: with a class method ``from_conf(conf)`` that makes a handler.
NAMESPACE = 'external_events_router.agent.handlers'

#: In place of an event's name: every event.
ANY = '*'

Handler = Callable[[context.RequestContext, events.Event], events.Verdict | None]


class LogHandler:
    """Writes a line per event, and is content."""

    @classmethod
    def from_conf(cls, conf: cfg.ConfigOpts) -> LogHandler:
        """The handler that the configuration asks for."""
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
    """Which handlers an event has. Thread-safe.

    Those registered by the program come first, in the order in which they were
    registered, and then those of the configuration.
    """

    def __init__(self, configured: Sequence[Handler] = ()) -> None:
        # Guards what follows. _by_name: what of() has found since the others
        # last changed; it is read without the lock, and replaced, never cleared.
        self._lock = threading.Lock()
        self._registered: list[tuple[str, Handler]] = []
        self._configured = tuple(configured)
        self._by_name: dict[str, tuple[Handler, ...]] = {}

    @overload
    def on(self, name: str) -> Callable[[Handler], Handler]: ...

    @overload
    def on(self, name: str, handler: Handler) -> Handler: ...

    def on(self, name: str, handler: Handler | None = None) -> Handler | Callable[[Handler], Handler]:
        """Register a handler; without one, a decorator that does it.

        :param name: of the event, or ``*`` for every one
        :raises ValueError: no event has this name
        """
        if name != ANY and name not in events.EVENT_TYPES:
            raise ValueError(f'no event is named {name!r}')
        if handler is None:
            return lambda decorated: self.on(name, decorated)
        with self._lock:
            self._registered.append((name, handler))
            self._by_name = {}
        return handler

    def configure(self, handlers: Sequence[Handler]) -> None:
        """Put others in the place of those of the configuration.

        Calls that run go on with the old ones.
        """
        with self._lock:
            self._configured = tuple(handlers)
            self._by_name = {}

    def of(self, name: str) -> tuple[Handler, ...]:
        """The handlers of an event, in the order in which they are called."""
        found = self._by_name.get(name)
        return self._find(name) if found is None else found

    def close(self) -> None:
        """Close those of the configuration that have a ``close``."""
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
                # NOTE: what comes may have any name, and must not fill the memory.
                self._by_name[name] = found
            return found


def load(conf: cfg.ConfigOpts) -> list[Handler]:
    """The handlers that ``[agent] handlers`` names, in its order.

    :raises ConfigurationError: there is none of a name, or one lacks something
    """
    return [_load(name, conf) for name in conf.agent.handlers]


def handle(handlers: Sequence[Handler], ctxt: context.RequestContext, event: events.Event) -> events.Result:
    """Call handlers one after the other, up to the first that does not handle the event.

    :returns: what the last one called said of it; handled if there was none
    """
    result = None
    for handler in handlers:
        result = _call(handler, ctxt, event)
        if result.verdict is not events.Verdict.HANDLED:
            break
    return events.Result(event.id, events.Verdict.HANDLED) if result is None else result


def _call(handler: Handler, ctxt: context.RequestContext, event: events.Event) -> events.Result:
    try:
        verdict = handler(ctxt, event)
        return events.Result(event.id, events.Verdict.HANDLED if verdict is None else events.Verdict(verdict))
    except exceptions.NotHere:
        return events.Result(event.id, events.Verdict.NOT_HERE)
    except exceptions.Refused as exc:
        reason = str(exc.kwargs.get('reason', exc))
    except (Exception, SystemExit) as exc:
        # Whatever a handler raises, its event has an answer.
        LOG.exception('The handler of %s of server %s failed', event.name, event.server_uuid)
        reason = type(exc).__name__
    return events.Result(event.id, events.Verdict.REFUSED, checks.clean_text(reason))


def _load(name: str, conf: cfg.ConfigOpts) -> Handler:
    plugin = plugins.load(NAMESPACE, name, option='[agent] handlers')
    handler: Handler = plugin.from_conf(conf)
    return handler
