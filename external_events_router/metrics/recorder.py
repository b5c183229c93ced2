"""The interface through which the services count; it does nothing unless metrics are enabled.

This is a leaf module. A process has one recorder: ``current()`` returns it, and ``setup`` installs a
recorder that writes to files. Its methods do not raise exceptions, do not wait, and do not keep their
arguments.
"""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Hashable
from collections.abc import Iterable
from collections.abc import Mapping
from typing import Protocol

from external_events_router import events

#: Path of an event to its hosts: with its batch, or after it was held.
DIRECT, HELD = 'direct', 'held'


class Answer(Protocol):
    """The answer of one host to one event; see ``resolver.answers.Answer``."""

    @property
    def verdict(self) -> events.Verdict | None: ...

    @property
    def asked(self) -> bool: ...


class Recorder:
    """Ignores everything. Thread-safe, as every recorder.

    :cvar is_counting: whether it counts; check it before you determine values that take time
    """

    is_counting = False

    def request_ended(self, status: str) -> None:
        """The API has answered a request.

        :param status: the HTTP status; it begins with the number
        """

    def batch_answered(
        self, outcomes: Collection[events.Outcome], *, user: str | None, seconds: float
    ) -> None:
        """The API has answered a batch with a code for each event.

        :param user: the user name in the token of the sender; None: not known
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

        :param result: one of ``catalogue.LOOKUPS``
        """

    def held(self, number: int, *, stored: bool) -> None:
        """The resolver tried to hold events.

        :param stored: whether they are in the database
        """

    def redelivered(self, ages: Iterable[float]) -> None:
        """Held events were acknowledged by all their hosts.

        :param ages: of each event, the seconds since it was held
        """

    def ended(self, states: Iterable[str]) -> None:
        """Held events have ended without all acknowledgements.

        :param states: the state of each event
        """

    def breakers_changed(self, *, opened: int = 0, closed: int = 0) -> None:
        """Circuit breakers of hosts were opened or closed."""

    def hosts_counted(self, *, open_breakers: int, known: int) -> None:
        """The numbers of hosts were determined."""

    def broker_lost(self, connections: Hashable, present: bool) -> None:
        """The broker is unavailable to some connections of this process, or is available again.

        :param connections: any object; one that does not exist any longer counts no more
        """

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
        """The agent has sent a report of a host, or the attempt failed."""


_current = Recorder()


def current() -> Recorder:
    """Return the recorder of this process."""
    return _current


def install(recorder: Recorder) -> None:
    """Make a recorder the recorder of this process."""
    global _current
    _current = recorder
