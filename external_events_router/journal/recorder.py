"""The interface with which the services record events. No call waits or raises.

With ``[journal] record = none`` it is :class:`Announced`, which records no events.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
import os
import random
import time
from typing import Protocol

from oslo_config import cfg

from external_events_router import context
from external_events_router import events
from external_events_router.db import session
from external_events_router.journal import entries
from external_events_router.journal import retention
from external_events_router.journal import store
from external_events_router.journal import writer

#: The option with the URL of the database, for errors.
OPTION = '[journal] connection'

#: Seconds that a stop waits for the records to be written.
STOP_TIMEOUT = 5.0


class Recorder(Protocol):
    """Records what happens. Thread-safe."""

    def batch(
        self,
        ctxt: context.RequestContext,
        outcomes: Sequence[events.Outcome],
        answers: Mapping[tuple[str, str], entries.Answer],
        *,
        since: float,
        replayed: bool = False,
    ) -> None:
        """Record a batch that was routed.

        :param answers: the answers, by host and id of the event; not changed afterwards
        :param since: when it arrived, an instant of ``time.monotonic()``
        :param replayed: an operator had it sent again
        """
        ...

    def steps(self, steps: Iterable[entries.Step]) -> None:
        """Record what happened to events after their answers."""
        ...

    def refused(self, refusal: entries.Refusal) -> None:
        """Record a request that was refused as a whole."""
        ...

    def missed(self, number: int, *, seconds: float) -> None:
        """Record that requests of the last seconds are missing: an API could not pass them on."""
        ...

    def present(self, presence: entries.Presence) -> None:
        """Record how far an API process has passed on its refused requests."""
        ...

    def start(self) -> None:
        """Begin to write."""
        ...

    def stop(self) -> None:
        """Write the queue, and end."""
        ...


class Nothing:
    """Records nothing."""

    def batch(
        self,
        ctxt: context.RequestContext,
        outcomes: Sequence[events.Outcome],
        answers: Mapping[tuple[str, str], entries.Answer],
        *,
        since: float,
        replayed: bool = False,
    ) -> None:
        """See :class:`Recorder`."""

    def steps(self, steps: Iterable[entries.Step]) -> None:
        """See :class:`Recorder`."""

    def refused(self, refusal: entries.Refusal) -> None:
        """See :class:`Recorder`."""

    def missed(self, number: int, *, seconds: float) -> None:
        """See :class:`Recorder`."""

    def present(self, presence: entries.Presence) -> None:
        """See :class:`Recorder`."""

    def start(self) -> None:
        """See :class:`Recorder`."""

    def stop(self) -> None:
        """See :class:`Recorder`."""


NOTHING = Nothing()


class Announced(Nothing):
    """Records only that this worker runs, so that the journal is not complete while it does."""

    def __init__(self, writing: writer.Writer) -> None:
        self._writing = writing

    def start(self) -> None:
        """See :class:`Recorder`."""
        self._writing.start()

    def stop(self) -> None:
        """See :class:`Recorder`."""
        self._writing.stop(STOP_TIMEOUT)


class Journal:
    """Records in the database."""

    def __init__(
        self,
        writing: writer.Writer,
        cleaner: retention.Cleaner,
        classify: entries.Classify,
        *,
        problems_only: bool = False,
    ) -> None:
        """:param classify: states the reason of an outcome
        :param problems_only: do not record events that were simply delivered
        """
        self._writer = writing
        self._cleaner = cleaner
        self._classify = classify
        self._problems_only = problems_only

    def batch(
        self,
        ctxt: context.RequestContext,
        outcomes: Sequence[events.Outcome],
        answers: Mapping[tuple[str, str], entries.Answer],
        *,
        since: float,
        replayed: bool = False,
    ) -> None:
        """See :class:`Recorder`."""
        if self._problems_only and not replayed and not any(map(_may_be_problem, outcomes)):
            return
        self._writer.add(
            entries.Batch(
                ctxt,
                since,
                time.monotonic(),
                outcomes,
                answers,
                self._classify,
                problems_only=self._problems_only and not replayed,
                replayed=replayed,
            )
        )

    def steps(self, steps: Iterable[entries.Step]) -> None:
        """See :class:`Recorder`."""
        for step in steps:
            self._writer.add(step)

    def refused(self, refusal: entries.Refusal) -> None:
        """See :class:`Recorder`."""
        self._writer.add(refusal)

    def missed(self, number: int, *, seconds: float) -> None:
        """See :class:`Recorder`."""
        self._writer.miss(number, seconds=seconds)

    def present(self, presence: entries.Presence) -> None:
        """See :class:`Recorder`."""
        self._writer.present(presence)

    def start(self) -> None:
        """See :class:`Recorder`."""
        self._writer.start()
        self._cleaner.start()

    def stop(self) -> None:
        """See :class:`Recorder`."""
        self._cleaner.stop(STOP_TIMEOUT)
        self._writer.stop(STOP_TIMEOUT)


def _may_be_problem(outcome: events.Outcome) -> bool:
    # NOTE: the outcome of a held event has a reason.
    return outcome.code is not events.Code.DELIVERED or outcome.reason is not None


def open_database(conf: cfg.ConfigOpts) -> session.Database:
    """Open the database of the journal.

    :raises ConfigurationError: the option names no database that we know
    """
    if conf.journal.connection:
        return session.Database.at(conf, conf.journal.connection, option=OPTION)
    return session.Database.from_conf(conf)


def from_conf(conf: cfg.ConfigOpts, classify: entries.Classify, *, name: str, service: str) -> Recorder:
    """Build the recorder that the configuration describes.

    :param classify: states the reason of an outcome
    :param name: the name of the worker, ``<host>:<slot>``
    :param service: the service of the process
    :raises ConfigurationError: a value cannot be used
    """
    options = conf.journal
    identity = store.Identity(name, service, conf.host, os.getpid(), options.record)
    writing = writer.Writer(
        store.Store(open_database(conf)),
        identity,
        queue_size=options.queue_size,
        longest=conf.delivery.ack_timeout + 1.0,
    )
    if options.record == 'none':
        return Announced(writing)
    cleaner = retention.Cleaner(
        retention.Retention(
            open_database(conf),
            keep=options.keep,
            max_rows=options.max_rows,
            owner=random.randrange(1, 2**31),  # noqa: S311 - no secret
        )
    )
    return Journal(writing, cleaner, classify, problems_only=options.record == 'problems')
