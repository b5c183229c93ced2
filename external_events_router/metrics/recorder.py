"""The interface through which the services count; it does nothing unless metrics are enabled.

A leaf. The recorder belongs to the process, as its files do: ``current()`` returns it, and ``setup``
installs one that writes to files. No method raises, waits, or keeps its arguments.
"""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Hashable
from collections.abc import Iterable
from collections.abc import Mapping
from typing import Protocol

from external_events_router import events

#: How an event came to its hosts: with its batch, or after it was held.
DIRECT, HELD = 'direct', 'held'


class Answer(Protocol):
    """What is known of one event at one host; see ``resolver.answers.Answer``."""

    @property
    def verdict(self) -> events.Verdict | None: ...

    @property
    def asked(self) -> bool: ...


class Recorder:
    """Ignores everything. Thread-safe, as every recorder.

    :cvar is_counting: whether anything is counted; check it before values that take time to determine
    """

    is_counting = False

    def request_ended(self, status: str) -> None:
        """The API has answered a request.

        :param status: begins with the number of the HTTP status
        """

    def batch_answered(
        self, outcomes: Collection[events.Outcome], *, user: str | None, seconds: float
    ) -> None:
        """The API has answered a batch with a code for each event.

        :param user: name of the user whose token the sender has; None: not known
        """

    def batch_routed(self, outcomes: Collection[events.Outcome], *, seconds: float) -> None:
        """A resolver has decided on a batch."""

    def hosts_answered(self, answers: Collection[Answer], *, path: str, seconds: float) -> None:
        """The wait for the hosts of a batch or of a redelivery has ended.

        :param answers: one for each event and host
        :param path: :data:`DIRECT` or :data:`HELD`
        """

    def looked_up(self, result: str, seconds: float) -> None:
        """The hosts of a batch were looked up.

        :param result: of ``catalogue.LOOKUPS``
        """

    def held(self, number: int, *, stored: bool) -> None:
        """Events were to be held.

        :param stored: whether the database has them
        """

    def redelivered(self, ages: Iterable[float]) -> None:
        """Held events were acknowledged by all their hosts.

        :param ages: seconds since each was held
        """

    def ended(self, states: Iterable[str]) -> None:
        """Held events have ended without all acknowledgements.

        :param states: of each
        """

    def breakers_changed(self, *, opened: int = 0, closed: int = 0) -> None:
        """Circuit breakers of hosts were opened or closed."""

    def hosts_counted(self, *, open_breakers: int, known: int) -> None:
        """The numbers of hosts now."""

    def broker_lost(self, connections: Hashable, present: bool) -> None:
        """The broker is unavailable to some connections of this process, or is available again."""

    def broker_blocked(self, connections: Hashable, present: bool) -> None:
        """The broker blocks the messages of some connections of this process, or accepts them again."""

    def journal_written(self, rows: int) -> None:
        """Rows were written to the journal."""

    def journal_dropped(self, rows: int) -> None:
        """Rows are missing in the journal."""

    def rejected(self, kind: str) -> None:
        """An invalid item was rejected; see ``rejected``."""

    def agent_delivery_ended(self, results: Mapping[str, int], *, seconds: float) -> None:
        """All events of a delivery have ended at the agent.

        :param results: number of events for each result
        """

    def agent_reported(self, *, accepted: bool) -> None:
        """The agent has sent a report of a host, or could not."""


_current = Recorder()


def current() -> Recorder:
    """The recorder of this process."""
    return _current


def install(recorder: Recorder) -> None:
    """Make a recorder that of this process."""
    global _current
    _current = recorder
