"""Waiting for events around an action.

Register, act, wait: what arrives while the action runs is not missed. Events
that nobody waits for, and events that came before, are none of this module's.
"""

from __future__ import annotations

from collections.abc import Iterable
import threading
import time
import types
import uuid

from external_events_router import events
from external_events_router import exceptions

#: An event's name and tag.
Key = tuple[str, str | None]


class Expected:
    """Events of one server that are waited for: a context manager.

    They are waited for from entering the block until leaving it. Each is taken
    once; a second one with the same name and tag changes nothing.
    """

    def __init__(self, waiters: Waiters, server_uuid: str, keys: Iterable[Key], *, timeout: float) -> None:
        self.server_uuid = server_uuid
        self.keys = frozenset(keys)
        self._waiters = waiters
        self._timeout = timeout
        self._arrived: dict[Key, events.Event] = {}
        self._changed = threading.Condition(waiters.lock)

    def __enter__(self) -> Expected:
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
        """What has come so far, by name and tag."""
        with self._waiters.lock:
            return dict(self._arrived)

    @property
    def missing(self) -> frozenset[Key]:
        """What has not come yet."""
        with self._waiters.lock:
            return self._missing()

    @property
    def failed(self) -> tuple[events.Event, ...]:
        """Those that have come whose status says that the sender failed."""
        with self._waiters.lock:
            return self._failed()

    def wait(self, timeout: float | None = None, *, until_failed: bool = False) -> dict[Key, events.Event]:
        """Wait for all of them.

        :param timeout: seconds from now; None: those given to ``expect``
        :param until_failed: return as soon as one has come whose status is
            ``failed``, without those that are still missing
        :returns: the events by name and tag, whatever their status
        :raises WaitTimeout: some did not come in time; it names them
        :raises AgentStopped: the agent was stopped meanwhile
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

    # The following are for Waiters, and called with its lock held.

    def take(self, event: events.Event) -> None:
        """Take an event that is among the keys."""
        self._arrived.setdefault((event.name, event.tag), event)
        self._changed.notify_all()

    def wake(self) -> None:
        """Have waiting threads look again."""
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
    """Who waits for what on one host. Thread-safe."""

    def __init__(self) -> None:
        # Guards the table, and what the waiters in it have got.
        self.lock = threading.Lock()
        self.stopped = False
        self._by_event: dict[tuple[str, str, str | None], list[Expected]] = {}

    def expect(self, server_uuid: str, keys: Iterable[Key], *, timeout: float = 300.0) -> Expected:
        """Events to wait for; enter the result before the action that brings them about.

        :param server_uuid: any form that ``uuid.UUID`` reads
        :param keys: name and tag of each
        :param timeout: seconds that :meth:`Expected.wait` waits
        :raises ValueError: not a uuid, or a name that no event has
        """
        wanted = list(keys)
        for name, _tag in wanted:
            if name not in events.EVENT_TYPES:
                raise ValueError(f'no event is named {name!r}')
        return Expected(self, str(uuid.UUID(server_uuid)), wanted, timeout=timeout)

    def deliver(self, event: events.Event) -> bool:
        """Give an event to everyone who waits for it.

        :returns: whether anyone did
        """
        if not self._by_event:
            # Mostly so, and seen without the lock: who begins to wait at this
            # very moment cannot tell whether the event was before.
            return False
        with self.lock:
            waiting = self._by_event.get((event.server_uuid, event.name, event.tag), ())
            for expected in waiting:
                expected.take(event)
            return bool(waiting)

    def stop(self) -> None:
        """Wake everyone with :class:`AgentStopped`, now and from now on."""
        with self.lock:
            self.stopped = True
            for waiting in self._by_event.values():
                for expected in waiting:
                    expected.wake()

    def add(self, expected: Expected) -> None:
        """Register what was made by :meth:`expect`."""
        with self.lock:
            for name, tag in expected.keys:
                self._by_event.setdefault((expected.server_uuid, name, tag), []).append(expected)

    def remove(self, expected: Expected) -> None:
        """Take back :meth:`add`."""
        with self.lock:
            for name, tag in expected.keys:
                key = (expected.server_uuid, name, tag)
                waiting = self._by_event[key]
                waiting.remove(expected)
                if not waiting:
                    del self._by_event[key]
