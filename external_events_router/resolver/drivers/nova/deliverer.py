"""Delivers to nova-compute: a cast to each host, on threads of its cell.

With ``[nova] acknowledge = broker``, an event counts as handled when the broker of its cell has confirmed
that it is in the queue of the host. With ``reply``, it counts when nova-compute has replied.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from concurrent import futures
import dataclasses
import functools
import logging
import operator
import time
from typing import Protocol

from oslo_log import log

from external_events_router import context
from external_events_router import events
from external_events_router import exceptions
from external_events_router.concurrency import signal
from external_events_router.resolver import answers
from external_events_router.resolver.drivers import base
from external_events_router.resolver.drivers import rounds
from external_events_router.resolver.drivers.nova import cast_batches
from external_events_router.resolver.drivers.nova import cell_client as cell_clients
from external_events_router.resolver.drivers.nova import cells
from external_events_router.resolver.drivers.nova import contexts as nova_contexts
from external_events_router.resolver.drivers.nova import host_map as host_map
from external_events_router.resolver.drivers.nova import in_flight
from external_events_router.resolver.drivers.nova import objects

LOG = log.getLogger(__name__)

_HANDLED = answers.Answer(events.Verdict.HANDLED)
_UNREAD = answers.Answer(None, answers.NOT_READ, asked=False)
#: Errors of nova-compute without any handled event: it does not support the message, or does not have the
#: server.
_NOT_UNDERSTOOD = frozenset(
    {'IncompatibleObjectVersion', 'NoSuchMethod', 'UnsupportedObjectError', 'UnsupportedVersion'}
)
_NOT_THERE = 'InstanceNotFound'

#: Verdicts of a reply that concern only one event.
_OF_ONE = (events.Verdict.NOT_HERE, events.Verdict.REFUSED)

_NOT_BEGUN = answers.Answer(None, answers.NO_THREAD, asked=False)


class Clients(Protocol):
    """The used part of ``cell_client.CellClients``."""

    def to(self, cell: cells.Cell) -> cell_clients.CellClient: ...

    def close(self) -> None: ...


@dataclasses.dataclass(frozen=True, slots=True)
class _Load:
    """The events for one host in a round.

    :ivar host: the name of the host in the host map
    :ivar cell_client: the client for the cell of the host
    :ivar sent: the events, in the order of the batch
    :ivar records: records of the servers
    :ivar began: an instant of ``time.monotonic()``
    """

    host: str
    cell_client: cell_clients.CellClient
    sent: Sequence[events.Event]
    records: Mapping[str, host_map.Record]
    began: float

    def keys(self, event_ids: Iterable[str]) -> list[answers.Key]:
        return [(self.host, event_id) for event_id in event_ids]


class NovaDeliverer:
    """Delivers to nova-compute. Thread-safe; one per resolver worker."""

    def __init__(
        self,
        clients: Clients,
        observer: base.HostObserver,
        *,
        reply_timeout: float | None = None,
    ) -> None:
        """:param reply_timeout: maximum seconds until the reply of nova-compute; None: do not ask for one"""
        self._clients = clients
        self._observer = observer
        self._reply_timeout = reply_timeout
        self._pending = in_flight.InFlight()

    def start(self) -> None:
        """Do nothing: there is nothing to receive, and connections to cells are opened when needed."""

    def stop(self) -> None:
        """See :class:`base.Deliverer`."""
        self._clients.close()

    def is_ready(self) -> bool:
        """Return True: each cell has its own broker."""
        return True

    def begin(
        self,
        ctxt: context.RequestContext,
        by_host: Mapping[str, Sequence[events.Event]],
        *,
        deadline: float,
        lifetime: Callable[[events.Event], float],
        records: Mapping[str, object],
        settled: signal.Signal,
    ) -> base.Delivery:
        """See :class:`base.Deliverer`. The delivery is deferred, because a connection to a cell may block."""
        deliver = functools.partial(
            self.deliver, ctxt, by_host, deadline=deadline, lifetime=lifetime, records=records
        )
        return base.DeferredDelivery(deliver, settled)

    def deliver(
        self,
        ctxt: context.RequestContext,
        by_host: Mapping[str, Sequence[events.Event]],
        *,
        deadline: float,
        lifetime: Callable[[events.Event], float],
        records: Mapping[str, object],
        contexts: Mapping[str, context.RequestContext] = base.NO_CONTEXTS,
    ) -> answers.Answers:
        """See :class:`base.Deliverer`. An event without a record is not sent.

        :param lifetime: not used: nova-compute does not support deadlines
        :param records: objects of :class:`host_map.nova.Record`
        """
        keys = [(host, event.id) for host, sent in by_host.items() for event in sent]
        asks = rounds.AckRound(keys)
        begun = self._begin(
            self._loads(by_host, records, asks), asks, lambda event: contexts.get(event.id, ctxt)
        )
        with self._observer.wait(by_host):
            received = asks.wait(deadline)
        for load, sent, future in begun:
            if future.cancel():
                for key in load.keys(event.id for event in sent):
                    self._pending.settle(key, _NOT_BEGUN)
        # NOTE: in this order. A result that arrives later is kept for the next attempt.
        self._pending.leave(keys, asks)
        received |= asks.wait(0.0)
        for key in keys:
            received.setdefault(key, answers.Answer(None, answers.NO_ACK))
        self._report(by_host, received)
        return received

    def _loads(
        self,
        by_host: Mapping[str, Sequence[events.Event]],
        records: Mapping[str, object],
        asks: rounds.AckRound,
    ) -> list[_Load]:
        loads = []
        for host, sent in by_host.items():
            known: dict[str, host_map.Record] = {}
            for event in sent:
                record = records.get(event.server_uuid)
                if isinstance(record, host_map.Record) and host in record.cells:
                    known[event.server_uuid] = record
                else:
                    asks.answer((host, event.id), _UNREAD)
            readable = [event for event in sent if event.server_uuid in known]
            if not readable:
                continue
            try:
                cell_client = self._clients.to(next(iter(known.values())).cells[host])
            except Exception as exc:
                LOG.exception('Could not use the cell of host %s; its events are held', host)
                for event in readable:
                    asks.answer((host, event.id), _unexpected(exc, asked=False))
            else:
                loads.append(_Load(host, cell_client, readable, known, time.monotonic()))
        return loads

    def _begin(
        self,
        loads: Iterable[_Load],
        asks: rounds.AckRound,
        context_of: Callable[[events.Event], context.RequestContext],
    ) -> list[tuple[_Load, Sequence[events.Event], futures.Future[None]]]:
        """Start to send events that are not in flight.

        :returns: the casts of each thread
        """
        begun: list[tuple[_Load, Sequence[events.Event], futures.Future[None]]] = []
        for load in loads:
            fresh = [event for event in load.sent if not self._pending.join((load.host, event.id), asks)]
            try:
                packed = cast_batches.group_into_casts(fresh, context_of)
                if packed:
                    future = load.cell_client.pool.submit(functools.partial(self._send, load, packed))
                    begun.append((load, fresh, future))
            except Exception as exc:
                LOG.exception('Could not send %d events to host %s; they are held', len(fresh), load.host)
                for key in load.keys(event.id for event in fresh):
                    self._pending.settle(key, _unexpected(exc, asked=False))
        return begun

    def _send(self, load: _Load, packed: Iterable[cast_batches.CastBatch]) -> None:
        """Send the casts of a host one after the other; on a thread of its cell."""
        for cast_batch in packed:
            try:
                cast_batch.context.update_store()
                received = self._sent(load, cast_batch)
            except Exception as exc:
                # NOTE: settle each event once; otherwise a later attempt would wait for it.
                LOG.exception('Cast to %s failed', load.host)
                received = {event.id: _unexpected(exc) for event in cast_batch.carried}
            if any(answer.verdict is not None for answer in received.values()):
                self._observer.responded(load.host, load.began)
            was_late = False
            for event in cast_batch.carried:
                for key in load.keys(cast_batch.ids(event)):
                    waited_for = self._pending.settle(key, received[event.id])
                    was_late |= not waited_for and received[event.id].verdict is not None
            if was_late:
                self._observer.late(load.host)

    def _sent(self, load: _Load, cast_batch: cast_batches.CastBatch) -> dict[str, answers.Answer]:
        """Return the result of each event of a cast; never raises."""
        received = {}
        for event in cast_batch.carried:
            if event.name in cast_batches.WITH_ACTION:
                server_cell = self._clients.to(load.records[event.server_uuid].cell)
                problem = _problem(
                    server_cell,
                    load.host,
                    functools.partial(server_cell.record_action, event, cast_batch.context),
                )
                if problem is not None:
                    # The handler of nova-compute would fail without the action.
                    received[event.id] = problem
        return received | self._put(
            load, cast_batch.context, [event for event in cast_batch.carried if event.id not in received]
        )

    def _put(
        self, load: _Load, ctxt: context.RequestContext, carried: Sequence[events.Event]
    ) -> dict[str, answers.Answer]:
        if not carried:
            return {}
        answer = (
            _problem(load.cell_client, load.host, functools.partial(self._cast, load, ctxt, carried))
            or self._handled()
        )
        if answer.verdict in _OF_ONE and len(carried) > 1:
            # NOTE: the reply does not contain which event has failed, nor how many were handled before.
            # Handling an event twice does no harm.
            LOG.info('%s; sending its %d events separately', answer.reason, len(carried))
            return functools.reduce(operator.or_, (self._put(load, ctxt, [event]) for event in carried))
        return {event.id: answer for event in carried}

    def _handled(self) -> answers.Answer:
        if self._reply_timeout is None:
            return _HANDLED
        return answers.Answer(events.Verdict.HANDLED, at=time.monotonic())

    def _cast(self, load: _Load, ctxt: context.RequestContext, carried: Sequence[events.Event]) -> None:
        servers = dict.fromkeys(event.server_uuid for event in carried)
        with load.cell_client.gate.cast():
            load.cell_client.computes().external_instance_event(
                nova_contexts.on_the_wire(ctxt),
                cells.host_name(load.host),
                load.cell_client.rpc_version(),
                instances=[load.records[server].primitive for server in servers],
                events=[objects.external_event(event) for event in carried],
                reply_timeout=self._reply_timeout,
            )

    def _report(self, by_host: Mapping[str, Sequence[events.Event]], received: answers.Answers) -> None:
        silent = {}
        for host, sent in by_host.items():
            of_host = [received[host, event.id] for event in sent]
            if any(answer.verdict is not None for answer in of_host):
                self._observer.answered(host)
            elif tried := [answer for answer in of_host if answer.asked]:
                silent[host] = tried[0].reason or answers.NO_ACK
        if silent:
            self._observer.silent(silent)


def _unexpected(exc: Exception, *, asked: bool = True) -> answers.Answer:
    return answers.Answer(None, f'{answers.UNEXPECTED}{type(exc).__name__}', asked)


def _problem(
    cell_client: cell_clients.CellClient, host: str, step: Callable[[], None]
) -> answers.Answer | None:
    """Run a step on a thread of a cell, and return why it failed, or None."""
    try:
        step()
    except exceptions.HostFailed as exc:
        error = exc.kwargs['error']
        if error in _NOT_UNDERSTOOD:
            return answers.Answer(None, str(exc))
        gone = error == _NOT_THERE
        return answers.Answer(events.Verdict.NOT_HERE if gone else events.Verdict.REFUSED, str(exc))
    except (exceptions.ConfigurationError, exceptions.DatabaseUnavailable) as exc:
        _warn(cell_client, str(exc))
        return answers.Answer(None, str(exc))
    except exceptions.RouterError as exc:
        LOG.debug('Cast to %s failed: %s', host, exc)
        return answers.Answer(None, str(exc), asked=not isinstance(exc, exceptions.BrokerUnavailable))
    except Exception as exc:  # the outermost frame of this thread's work
        # NOTE: without the text of the error, which may contain part of the URL of the cell.
        LOG.debug('Cast to %s failed', host, exc_info=True)
        answer = _unexpected(exc)
        _warn(cell_client, answer.reason or '')
        return answer
    return None


def _warn(cell_client: cell_clients.CellClient, reason: str) -> None:
    cell_client.failure_log.occurred(
        logging.WARNING,
        'Casts to the computes of %s fail: %s; their events are held until this is repaired '
        '(check transport_url and database_connection in its cell mapping), other cells are not affected',
        cell_client.cell,
        reason,
    )
