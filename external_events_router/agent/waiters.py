"""Waiting for events during an action.

Start to wait, run the action, then wait: events that arrive during the action are not missed. This
module ignores events without a waiting thread, and events that arrived before.
"""

from __future__ import annotations

from collections.abc import Iterable
import threading
import time
import types
import uuid

from external_events_router import events
from external_events_router import exceptions

#: Waits that have ended: for how many seconds they are remembered, and how many.
REMEMBERED_SECONDS = 900.0
REMEMBERED = 1000

#: Name and tag of an event.
Key = tuple[str, str | None]


class Expected:
    """Awaited events of one server: a context manager.

    Events that arrive between the start and the end of the block are recorded. Each is recorded
    once; a second event with the same name and tag is ignored.
    """

    def __init__(self, waiters: Waiters, server_uuid: str, keys: Iterable[Key], *, timeout: float) -> None:
        self.server_uuid = server_uuid
        self.keys = frozenset(keys)
        self._waiters = waiters
        self._timeout = timeout
        self._arrived: dict[Key, events.Event] = {}
        self._changed = threading.Condition(waiters.lock)
        #: When the wait began, an instant of ``time.monotonic()``.
        self.since = time.monotonic()

    def __enter__(self) -> Expected:
        self.since = time.monotonic()
        self._waiters.add(self)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: types.TracebackType | None,
    ) -> None:
        self._waiters.remove(self)

    @property
    def arrived(self) -> dict[Key, events.Event]:
        """Return the arrived events, by name and tag."""
        with self._waiters.lock:
            return dict(self._arrived)

    @property
    def missing(self) -> frozenset[Key]:
        """Return name and tag of events that have not arrived yet."""
        with self._waiters.lock:
            return self._missing()

    @property
    def failed(self) -> tuple[events.Event, ...]:
        """Return arrived events with the status ``failed``."""
        with self._waiters.lock:
            return self._failed()

    def wait(self, timeout: float | None = None, *, until_failed: bool = False) -> dict[Key, events.Event]:
        """Wait for all events.

        :param timeout: seconds from now; None: the timeout of ``expect``
        :param until_failed: return as soon as an event with the status ``failed`` has arrived, even
            if others are missing
        :returns: the events by name and tag, with any status
        :raises WaitTimeout: some events did not arrive in time; the message names them
        :raises AgentStopped: the agent was stopped
        """
        seconds = self._timeout if timeout is None else timeout
        until = time.monotonic() + seconds
        with self._waiters.lock:
            while self._missing() and not (until_failed and self._failed()):
                if self._waiters.stopped:
                    raise exceptions.AgentStopped(missing=self._name_missing())
                if not self._changed.wait(max(0.0, until - time.monotonic())) and self._missing():
                    raise exceptions.WaitTimeout(timeout=seconds, missing=self._name_missing())
            return dict(self._arrived)

    # The following methods are called by Waiters with its lock held.

    def take(self, event: events.Event) -> None:
        """Record an event that is among the keys."""
        self._arrived.setdefault((event.name, event.tag), event)
        self._changed.notify_all()

    def wake(self) -> None:
        """Wake waiting threads, so that they check the state again."""
        self._changed.notify_all()

    def _missing(self) -> frozenset[Key]:
        return self.keys - self._arrived.keys()

    def _failed(self) -> tuple[events.Event, ...]:
        return tuple(event for event in self._arrived.values() if event.status == 'failed')

    def _name_missing(self) -> str:
        return ', '.join(
            f'{name} of server {self.server_uuid}' + ('' if tag is None else f' with tag {tag!r}')
            for name, tag in sorted(self._missing(), key=repr)
        )


class Waiters:
    """The awaited events of one host. Thread-safe."""

    def __init__(self) -> None:
        # Guards the table, and the arrived events of its entries.
        self.lock = threading.Lock()
        self.stopped = False
        self._by_event: dict[tuple[str, str, str | None], list[Expected]] = {}
        # Guarded, too: when the last wait for an event ended, an instant of time.monotonic(), in
        # this order. It shows that an event arrived too late.
        self._ended: dict[tuple[str, str, str | None], float] = {}

    def expect(self, server_uuid: str, keys: Iterable[Key], *, timeout: float = 300.0) -> Expected:
        """Return a context manager that waits for events. Enter it before the action that causes them.

        :param server_uuid: any form that ``uuid.UUID`` reads
        :param keys: name and tag of each event
        :param timeout: seconds that :meth:`Expected.wait` waits
        :raises ValueError: not a uuid, or an unknown event name
        """
        wanted = list(keys)
        for name, _tag in wanted:
            if name not in events.EVENT_TYPES:
                raise ValueError(f'unknown event name {name!r}')
        return Expected(self, str(uuid.UUID(server_uuid)), wanted, timeout=timeout)

    @property
    def is_idle(self) -> bool:
        """Whether no thread waits, and none has waited recently.

        It is read without the lock: a thread that starts to wait at this moment cannot know whether an
        event arrived before.
        """
        return not self._by_event and not self._ended

    def deliver(self, event: events.Event) -> events.Handling:
        """Pass an event to all waiting threads.

        :returns: whether a thread waits for it, and since when; or when the last wait for it ended
        """
        if self.is_idle:
            return events.NOT_HANDLED
        key = (event.server_uuid, event.name, event.tag)
        now = time.monotonic()
        with self.lock:
            waiting = self._by_event.get(key, ())
            for expected in waiting:
                expected.take(event)
            if waiting:
                return events.Handling(True, _milliseconds(now - min(each.since for each in waiting)))
            ended = self._ended.get(key)
        if ended is None or now - ended > REMEMBERED_SECONDS:
            return events.NOT_HANDLED
        return events.Handling(False, -_milliseconds(now - ended))

    def stop(self) -> None:
        """Raise :class:`AgentStopped` in all waiting threads, now and from now on."""
        with self.lock:
            self.stopped = True
            for waiting in self._by_event.values():
                for expected in waiting:
                    expected.wake()

    def add(self, expected: Expected) -> None:
        """Register an object made by :meth:`expect`."""
        with self.lock:
            for name, tag in expected.keys:
                self._by_event.setdefault((expected.server_uuid, name, tag), []).append(expected)

    def remove(self, expected: Expected) -> None:
        """Remove an object that :meth:`add` has registered."""
        with self.lock:
            for name, tag in expected.keys:
                key = (expected.server_uuid, name, tag)
                waiting = self._by_event[key]
                waiting.remove(expected)
                if not waiting:
                    del self._by_event[key]
                    self._remember_end(key)

    def _remember_end(self, key: tuple[str, str, str | None]) -> None:
        """Remember that the last wait for an event has ended, for a while; called with the lock held."""
        now = time.monotonic()
        self._ended.pop(key, None)
        self._ended[key] = now
        while self._ended:
            oldest = next(iter(self._ended))
            if len(self._ended) <= REMEMBERED and now - self._ended[oldest] <= REMEMBERED_SECONDS:
                return
            del self._ended[oldest]


def _milliseconds(seconds: float) -> int:
    return min(events.MAX_MILLISECONDS, round(max(0.0, seconds) * 1000))
