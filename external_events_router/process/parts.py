"""The parts of this process that describe their state, for the report of SIGUSR2 and for ``/readiness``.

A part registers itself when it starts. The registry keeps only weak references, so a part need not
unregister.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
import dataclasses
import enum
import threading
from typing import Any
import weakref


class State(enum.Enum):
    """How well a part works; the last one is the worst."""

    OK = 'ok'
    #: It does not work, and another process on another machine would have the same fault.
    DEGRADED = 'degraded'
    #: It does not work in this process, and may work in another one.
    FAILED = 'failed'


class Kind(enum.Enum):
    """The kinds of parts, with the titles of their sections in a report."""

    CONNECTION = 'Connections'
    BREAKERS = 'Circuit breakers'
    ROUNDS = 'Rounds in flight'
    QUEUES = 'Queues'
    HOLD = 'Hold'
    HOST_MAP = 'Host map'
    JOURNAL = 'Journal'
    KEYSTONE = 'Keystone'
    REQUESTS = 'Requests'
    POOL = 'Pools'


@dataclasses.dataclass(frozen=True)
class Status:
    """The status of a part.

    :ivar name: the name of the part; several parts may have the same name
    :ivar details: names and values that JSON can represent; no secrets
    """

    name: str
    state: State = State.OK
    details: Mapping[str, Any] = dataclasses.field(default_factory=dict)


class Registry:
    """The parts of a process. Thread-safe."""

    def __init__(self) -> None:
        # Guards the table: part to its kind and to the function that returns its status.
        self._lock = threading.Lock()
        self._parts: weakref.WeakKeyDictionary[Any, tuple[Kind, Callable[[Any], Status]]] = (
            weakref.WeakKeyDictionary()
        )

    def add(self, kind: Kind, part: Any, status: Callable[[Any], Status]) -> None:
        """Add a part, which must be hashable by its identity.

        :param status: returns the status of the part. It waits for nothing except the lock of the part, so
            that the heartbeat of the process shows that no thread holds this lock forever.
        """
        with self._lock:
            self._parts[part] = (kind, status)

    def remove(self, part: Any) -> None:
        """Remove a part that was stopped."""
        with self._lock:
            self._parts.pop(part, None)

    def read(self, kind: Kind) -> list[Status]:
        """Return the status of each part of a kind, sorted by name."""
        with self._lock:
            found = [(part, status) for part, (each, status) in self._parts.items() if each is kind]
        return sorted((status(part) for part, status in found), key=lambda status: status.name)


#: The parts of this process.
ALL = Registry()
