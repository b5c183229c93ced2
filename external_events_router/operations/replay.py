"""Sends recorded events again through a resolver: selects them, and returns the results."""

from __future__ import annotations

import collections
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
import contextlib
import dataclasses
import time
from typing import Any

from oslo_config import cfg

from external_events_router import events
from external_events_router import exceptions
from external_events_router.journal import reads
from external_events_router.journal import records
from external_events_router.journal import replay
from external_events_router.messaging import rpc
from external_events_router.operations import events as event_operations
from external_events_router.operations import journal
from external_events_router.operations import times
from external_events_router.resolver import rpcapi
from external_events_router.resolver.hold import hold

#: Seconds beyond the ack timeout that a resolver has to answer a batch.
MARGIN = 2.0

#: Seconds in which the broker must accept a connection.
CONNECT_TIMEOUT = 5.0

#: Maximum number of events of one operation.
MAX_EVENTS = 100_000


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """The events of an operation.

    :ivar selected: all events that were found, by whether they can be sent
    :ivar chosen: events to send, in the order in which they arrived
    :ivar is_due: whether an event is still useful; always true for all of ``chosen`` with ``force``
    """

    selected: replay.Selected
    chosen: tuple[records.EventRow, ...]
    is_due: Callable[[records.EventRow], bool] = lambda row: True

    def counts(self) -> list[dict[str, Any]]:
        """Return the numbers of events for each name."""
        return [
            {'name': name, 'due': due, 'late': late, 'held': held}
            for name, due, late, held in self.selected.counts()
        ]


def plan(
    conf: cfg.ConfigOpts,
    rows: journal.Journal,
    chosen: event_operations.Filter,
    *,
    since: float,
    force: bool = False,
    most: int = MAX_EVENTS,
) -> Plan:
    """Return the events that an operation would send.

    :param chosen: filter with a host or a server
    :param since: seconds since the epoch; events that arrived later
    :param force: also send events past their deadline
    :param most: maximum number of events
    :raises InvalidArgument: a filter is not valid, or there are too many events
    :raises DatabaseUnavailable: the journal cannot be read
    """
    if chosen.host is None and chosen.server is None:
        raise exceptions.InvalidArgument('a replay needs a host or a server')
    lifetimes = hold.Lifetimes.from_conf(conf)
    now, began, first = rows.reader.now(), time.monotonic(), times.microseconds(since)
    matches = chosen.matches(rows.reader)
    # NOTE: an event may have arrived the first time before the period.
    period = reads.Period(max(0, first - times.microseconds(lifetimes.longest)), now)
    found = list(matches.of(period, most=most + 1))
    if len(found) > most:
        raise exceptions.InvalidArgument(f'these are more than {most} events; use a shorter period')
    selected = replay.select(found, now=now, since=first, lifetime=lifetimes.of)
    events_to_send = (*selected.due, *selected.late) if force else selected.due

    def is_due(row: records.EventRow) -> bool:
        # NOTE: the operator may have answered late, and many events take long.
        reached = now + times.microseconds(time.monotonic() - began)
        return force or reached < replay.deadline(row, lifetimes.of)

    return Plan(selected, tuple(sorted(events_to_send, key=event_operations.key)), is_due)


def send(
    api: rpcapi.OperatorAPI,
    chosen: Sequence[records.EventRow],
    *,
    ack_timeout: float,
    actor: str,
    end: float | None = None,
    is_due: Callable[[records.EventRow], bool] = lambda row: True,
) -> Iterator[events.Outcome]:
    """Have events sent again, one request after the other, so that those of a server keep their order.

    :param ack_timeout: seconds that a resolver waits for hosts
    :param actor: the operator, for the journal
    :param end: an instant of ``time.monotonic()`` after which no further request is sent; None: no limit
    :param is_due: asked just before an event is sent; false: leave it out
    :returns: the outcome of each event that was sent; the caller must read all of them
    :raises ResolverUnavailable: no resolver answered; the events before were sent
    :raises BrokerUnavailable: the broker cannot be reached; the events before were sent
    """
    rows = {row.event_id: row for row in chosen}
    for ctxt, batch in replay.batches(chosen):
        if end is not None and time.monotonic() > end:
            return
        due = [event for event in batch if is_due(rows[event.id])]
        if due:
            yield from api.replay(
                ctxt, due, actor=actor, ack_timeout=ack_timeout, timeout=ack_timeout + MARGIN
            )


@contextlib.contextmanager
def resolver(conf: cfg.ConfigOpts) -> Iterator[rpcapi.OperatorAPI]:
    """Provide a client of the resolvers.

    :raises BrokerUnavailable: the broker does not accept a connection
    """
    # NOTE: a call on a broker that cannot be reached has no time limit.
    rpc.check_broker(conf, CONNECT_TIMEOUT)
    transport = rpc.get_transport(conf)
    try:
        yield rpcapi.OperatorAPI.from_conf(conf, transport)
    finally:
        transport.cleanup()


def results(
    selected: replay.Selected,
    outcomes: Sequence[events.Outcome],
    chosen: Sequence[records.EventRow] = (),
) -> list[dict[str, Any]]:
    """Return the numbers of events for each name, by their results.

    :param chosen: events that were to be sent; those without an outcome were late then
    """
    sent = {outcome.event.id for outcome in outcomes}
    expired = collections.Counter(row.name for row in chosen if row.event_id not in sent)
    counts: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for outcome in outcomes:
        delivered = outcome.code is events.Code.DELIVERED
        # NOTE: the outcome of a held event has a reason.
        kind = 'not_delivered' if not delivered else 'held' if outcome.reason else 'delivered'
        counts[outcome.event.name].update(('sent', kind))
    return [
        {
            'name': name,
            **{kind: counts[name][kind] for kind in ('sent', 'delivered', 'held', 'not_delivered')},
            'late': late + expired[name],
            'already_held': held,
        }
        for name, _due, late, held in selected.counts()
    ]
