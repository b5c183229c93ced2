"""Sends what became of events back to the resolver that waits for it.

On a thread of its own, so that a slow broker delays no handler. Results go out
as soon as the cast before them is through; those that come up meanwhile go
together, as far as they are for the same resolver worker. What a result says is
not decided here.
"""

from __future__ import annotations

import collections
from collections.abc import Sequence
import dataclasses
import logging
import threading
from typing import Protocol

from external_events_router import context
from external_events_router import events
from external_events_router import exceptions
from external_events_router.agent import clock

LOG = logging.getLogger(__name__)

#: Seconds between attempts while the broker takes nothing: the first, the longest.
FIRST_PAUSE = 0.05
LONGEST_PAUSE = 2.0


@dataclasses.dataclass(frozen=True, slots=True)
class Receipt:
    """Where the results of a delivery's events have to go.

    :ivar host: whose results they are
    :ivar deadline: of the delivery: seconds since the epoch by the resolver's clock
    """

    ctxt: context.RequestContext
    host: str
    delivery_id: str
    reply_to: str
    deadline: float


class AckClient(Protocol):
    """The part of ``resolver.rpcapi.AckAPI`` that is used."""

    def acknowledge_all(self, reply_to: str, acknowledgements: Sequence[events.Acknowledgement]) -> None:
        """Cast what hosts say of deliveries."""
        ...


@dataclasses.dataclass(slots=True, eq=False)
class _Pending:
    receipt: Receipt
    results: list[events.Result]

    def said(self) -> events.Acknowledgement:
        return events.Acknowledgement(self.receipt.delivery_id, self.receipt.host, tuple(self.results))


class Acker:
    """The sending thread, and what it has yet to send."""

    def __init__(
        self, client: AckClient, resolver_clock: clock.ResolverClock, *, max_results: int = 100_000
    ) -> None:
        """Make an acker.

        :param max_results: results that may wait; beyond it the oldest are
            dropped, and the resolver takes them for not acknowledged
        """
        self._client = client
        self._clock = resolver_clock
        self._max_results = max_results
        # Guards everything below. What is being sent is in _sending, so that
        # flush() sees it, and not in _pending, so that more can gather there.
        self._changed = threading.Condition()
        self._pending: collections.OrderedDict[tuple[str, str], _Pending] = collections.OrderedDict()
        self._waiting = 0
        self._sending: list[_Pending] = []
        self._pause = FIRST_PAUSE
        self._stopping = False
        self._thread = threading.Thread(target=self._serve, name='acks', daemon=True)

    def start(self) -> None:
        """Start to send."""
        self._thread.start()

    def add(self, receipt: Receipt, result: events.Result) -> None:
        """Have a result sent; returns at once."""
        with self._changed:
            self._put(receipt, [result], first=False)
            self._changed.notify_all()

    def flush(self, timeout: float) -> bool:
        """Wait until all is sent that was added.

        :returns: whether it was, in time
        """
        with self._changed:
            return self._changed.wait_for(lambda: not self._pending and not self._sending, timeout)

    def stop(self, timeout: float) -> None:
        """Send what there is as far as the time allows, and end."""
        self.flush(timeout)
        with self._changed:
            self._stopping = True
            if self._waiting:
                LOG.warning('%d results were not acknowledged before the end', self._waiting)
            self._changed.notify_all()

    def _put(self, receipt: Receipt, results: list[events.Result], *, first: bool) -> None:
        key = (receipt.reply_to, receipt.delivery_id)
        pending = self._pending.setdefault(key, _Pending(receipt, []))
        pending.results[0 if first else len(pending.results) : 0 if first else None] = results
        self._waiting += len(results)
        while self._waiting > self._max_results:
            _key, dropped = self._pending.popitem(last=False)
            self._drop(dropped, 'too many wait')

    def _serve(self) -> None:
        while (taken := self._take()) is not None:
            by_worker: dict[str, list[_Pending]] = {}
            for pending in taken:
                by_worker.setdefault(pending.receipt.reply_to, []).append(pending)
            for reply_to, for_worker in by_worker.items():
                self._sent(for_worker, self._send(reply_to, for_worker))

    def _send(self, reply_to: str, for_worker: Sequence[_Pending]) -> exceptions.BrokerUnavailable | None:
        try:
            self._client.acknowledge_all(reply_to, [pending.said() for pending in for_worker])
        except exceptions.BrokerUnavailable as exc:
            return exc
        except Exception:
            # The thread's outermost loop: what is for other workers goes on.
            LOG.exception('%d deliveries cannot be acknowledged', len(for_worker))
        return None

    def _take(self) -> Sequence[_Pending] | None:
        """All there is: what comes up while it is sent goes together next."""
        with self._changed:
            self._changed.wait_for(lambda: self._pending or self._stopping)
            if self._stopping:
                return None
            self._sending = list(self._pending.values())
            self._pending.clear()
            self._waiting = 0
            return tuple(self._sending)

    def _sent(self, for_worker: Sequence[_Pending], error: Exception | None) -> None:
        with self._changed:
            for pending in for_worker:
                self._sending.remove(pending)
            if error is None:
                self._pause = FIRST_PAUSE
                self._changed.notify_all()
                return
            for pending in reversed(for_worker):
                if self._clock.left(pending.receipt.deadline) <= 0:
                    self._waiting += len(pending.results)
                    self._drop(pending, str(error))
                else:
                    self._put(pending.receipt, pending.results, first=True)
            self._changed.notify_all()
            # The broker is one for all deliveries, so all wait.
            self._changed.wait_for(lambda: self._stopping, self._pause)
            self._pause = min(self._pause * 2, LONGEST_PAUSE)

    def _drop(self, pending: _Pending, reason: str) -> None:
        self._waiting -= len(pending.results)
        LOG.warning(
            'Delivery %s: %d results are not acknowledged: %s',
            pending.receipt.delivery_id,
            len(pending.results),
            reason,
        )
