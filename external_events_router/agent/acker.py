"""Sends the results of events to the resolver worker that waits for them.

At most one message per resolver worker is in flight. Results that arrive meanwhile for the same worker
go together in the next message, which is sent by the thread that reports the end of the previous one.
If no message is in flight, a result is sent in the next iteration of the thread of the transport, together
with the results that are added until then: those of one read from the socket, or of a burst of short
handlers. So the acker needs no thread. While the broker is unavailable, a timer runs until the next
attempt. This module does not decide the results.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
import dataclasses
import itertools
import logging
import threading
from typing import Protocol

from external_events_router import context
from external_events_router import events
from external_events_router import exceptions
from external_events_router import throttled_log
from external_events_router.agent import clock

LOG = logging.getLogger(__name__)

#: Seconds between attempts while the broker is unavailable: the first and the longest pause.
FIRST_PAUSE = 0.05
LONGEST_PAUSE = 2.0

#: Number of results after which no further delivery is added to a message: resolvers drop a
#: message that is too large, see ``frames.MAX_BODY``.
MAX_TOGETHER = 10_000

#: Maximum number of log messages per minute about single deliveries.
MESSAGES = 20

#: Receives the end of a cast: the reason why the broker does not have the message, or None. After
#: ``BrokerUnavailable`` the acker tries again.
Done = Callable[[Exception | None], None]


@dataclasses.dataclass(slots=True)
class Receipt:
    """The destination of the results of a delivery.

    Treat it as immutable. (A frozen dataclass takes four times as long to create.)

    :ivar host: host that reports the results
    :ivar deadline: deadline of the delivery: seconds since the epoch, by the clock of the resolver
    """

    ctxt: context.Deferred
    host: str
    delivery_id: str
    reply_to: str
    deadline: float


class AckClient(Protocol):
    """Casts without waiting; ``resolver.rpcapi.AckAPI`` is one."""

    def acknowledge_all(
        self, reply_to: str, acknowledgements: Sequence[events.Acknowledgement], done: Done
    ) -> None:
        """Cast the results of deliveries.

        :param done: called once, from any thread, possibly before this method returns
        """
        ...


@dataclasses.dataclass(slots=True, eq=False)
class _Pending:
    """Results of one delivery. A lower ``number`` means that they wait longer."""

    number: int
    receipt: Receipt
    results: list[events.Result]

    def acknowledgement(self) -> events.Acknowledgement:
        return events.Acknowledgement(self.receipt.delivery_id, self.receipt.host, tuple(self.results))


@dataclasses.dataclass(slots=True, eq=False)
class _Worker:
    """The results for one resolver worker: waiting, by delivery, and in flight."""

    reply_to: str
    pending: dict[str, _Pending] = dataclasses.field(default_factory=dict)
    on_its_way: Sequence[_Pending] = ()


class _OnItsWay:
    """One cast. Its end is handled once, even if several threads report it, or one reports it twice."""

    def __init__(self, acker: Acker, worker: _Worker) -> None:
        self._acker = acker
        self._worker = worker
        # Guards the attributes below. _begun: the call that started the cast has returned.
        self._lock = threading.Lock()
        self._ended = False
        self._begun = False
        self._more = False

    def done(self, error: Exception | None) -> None:
        """Handle the end of the cast."""
        with self._lock:
            if self._ended:
                return
            self._ended = True
        more = self._acker._settle(self._worker, error)
        with self._lock:
            if not self._begun:
                self._more = more
                return
        if more:
            self._acker._cast(self._worker)

    def begun(self) -> bool:
        """Record that the call has returned.

        :returns: whether the cast has ended and the next message is ready; the caller has to cast it
        """
        with self._lock:
            self._begun = True
            return self._more


class Acker:
    """Collects results and sends them. Thread-safe. Only :meth:`flush` waits."""

    def __init__(
        self,
        client: AckClient,
        resolver_clock: clock.ResolverClock,
        *,
        run_soon: Callable[[Callable[[], None]], None] = lambda send: send(),
        max_results: int = 100_000,
    ) -> None:
        """Create an acker.

        :param run_soon: calls a function once, at once or soon on another thread, see
            ``transport.Transport``; it sends all results that are added until then
        :param max_results: maximum number of waiting results; beyond it the oldest are dropped, and
            the resolver treats them as not acknowledged
        """
        self._client = client
        self._clock = resolver_clock
        self._run_soon = run_soon
        self._max_results = max_results
        self._dropped = throttled_log.Bounded(
            LOG, lines=MESSAGES, rest='The results of %d more deliveries are not acknowledged'
        )
        self._numbers = itertools.count()
        # Not guarded. A call of send() is requested, and has not begun. send() first resets it, so
        # it finds the results that were added before.
        self._requested = False
        # Guards everything below. It is not held while a cast starts, because the client may report
        # the end of the cast immediately. A worker is removed when there is nothing to send to it,
        # so that flush() can see when everything is sent.
        self._lock = threading.Lock()
        self._all_sent = threading.Condition(self._lock)
        self._workers: dict[str, _Worker] = {}
        self._waiting = 0
        self._pause = FIRST_PAUSE
        self._timer: threading.Timer | None = None
        self._stopping = False

    def add(self, receipt: Receipt, results: Sequence[events.Result]) -> None:
        """Add results of a delivery. They are sent soon."""
        if not results:
            return
        with self._lock:
            worker = self._workers.get(receipt.reply_to)
            if worker is None:
                worker = self._workers[receipt.reply_to] = _Worker(receipt.reply_to)
            pending = worker.pending.get(receipt.delivery_id)
            if pending is None:
                worker.pending[receipt.delivery_id] = _Pending(next(self._numbers), receipt, list(results))
            else:
                pending.results += results
            self._waiting += len(results)
            if self._waiting > self._max_results:
                self._make_room()
            # NOTE: otherwise they are sent after the message in flight, or after the pause.
            is_free = not worker.on_its_way and self._timer is None
        if is_free and not self._requested:
            self._requested = True
            self._run_soon(self.send)

    def send(self) -> None:
        """Send the added results. If a message to a worker is in flight, its results follow after that."""
        self._requested = False
        if not self._waiting:
            return
        with self._lock:
            ready = [worker for worker in self._workers.values() if self._load(worker)]
        for worker in ready:
            self._cast(worker)

    def flush(self, timeout: float) -> bool:
        """Wait until all added results are sent.

        :returns: whether they were sent in time
        """
        self.send()
        with self._lock:
            return self._all_sent.wait_for(lambda: not self._workers, timeout)

    def stop(self, timeout: float) -> None:
        """Send waiting results until the timeout, then stop."""
        self.flush(timeout)
        with self._lock:
            self._stopping = True
            if self._timer is not None:
                self._timer.cancel()
            if self._waiting:
                LOG.warning(
                    'Stopping with %d results that were not acknowledged; their events are sent again',
                    self._waiting,
                )
        self._dropped.flush(now=True)

    def _cast(self, worker: _Worker) -> None:
        """Cast the prepared message, and messages with results that arrive meanwhile."""
        # NOTE: a client may report the end within the call. Then this loop continues, instead of a
        # nested call for each message.
        loaded = True
        while loaded:
            sent = _OnItsWay(self, worker)
            try:
                acknowledgements = [pending.acknowledgement() for pending in worker.on_its_way]
                self._client.acknowledge_all(worker.reply_to, acknowledgements, sent.done)
            except Exception as exc:
                # With any error, results for other workers and later results are still sent.
                sent.done(exc)
            loaded = sent.begun()

    def _settle(self, worker: _Worker, error: Exception | None) -> bool:
        """Handle the end of the cast in flight.

        :returns: whether the next message to the worker is ready to be cast
        """
        away = isinstance(error, exceptions.BrokerUnavailable)
        if error is not None and not away:
            # NOTE: an exception of this package needs no traceback: it describes the message.
            known = isinstance(error, exceptions.RouterError)
            LOG.error(
                '%d deliveries cannot be acknowledged to resolver worker %s; their events are sent '
                'again or expire: %s',
                len(worker.on_its_way),
                worker.reply_to,
                error,
                exc_info=None if known else error,
            )
        with self._lock:
            sent, worker.on_its_way = worker.on_its_way, ()
            if error is not None and away:
                self._put_back(worker, sent, error)
                self._rest()
            else:
                self._pause = FIRST_PAUSE
            self._forget(worker)
            return not away and self._load(worker)

    # The following methods, except _resume, are called with the lock held.

    def _load(self, worker: _Worker) -> bool:
        """Prepare the next message for a worker: all its waiting results, up to :data:`MAX_TOGETHER`.

        :returns: whether there is a message that can be cast now
        """
        if worker.on_its_way or not worker.pending or self._timer is not None or self._stopping:
            return False
        taken, results = [], 0
        while worker.pending and results < MAX_TOGETHER:
            pending = worker.pending.pop(next(iter(worker.pending)))
            taken.append(pending)
            results += len(pending.results)
        worker.on_its_way = tuple(taken)
        self._waiting -= results
        return True

    def _put_back(self, worker: _Worker, sent: Sequence[_Pending], error: Exception) -> None:
        """Put results in front of results that arrived meanwhile; drop results past their deadline."""
        later, worker.pending = worker.pending, {}
        for pending in sent:
            if self._clock.left(pending.receipt.deadline) <= 0:
                self._warn_dropped(pending, str(error))
                continue
            self._waiting += len(pending.results)
            if (more := later.pop(pending.receipt.delivery_id, None)) is not None:
                pending.results += more.results
            worker.pending[pending.receipt.delivery_id] = pending
        worker.pending.update(later)
        self._make_room()

    def _rest(self) -> None:
        """Pause sending: all workers use the same broker."""
        if self._timer is None and not self._stopping:
            timer = threading.Timer(self._pause, self._resume)
            timer.daemon = True
            try:
                timer.start()
            except RuntimeError as exc:
                LOG.error(
                    'Cannot start a timer (%s); acknowledgements are sent again only with the next result',
                    exc,
                )
                return
            self._timer = timer
            self._pause = min(self._pause * 2, LONGEST_PAUSE)

    def _resume(self) -> None:
        with self._lock:
            self._timer = None
        self.send()

    def _make_room(self) -> None:
        while self._waiting > self._max_results:
            worker = min(
                (each for each in self._workers.values() if each.pending),
                key=lambda each: next(iter(each.pending.values())).number,
            )
            dropped = worker.pending.pop(next(iter(worker.pending)))
            self._waiting -= len(dropped.results)
            self._warn_dropped(dropped, 'too many results wait to be sent')
            self._forget(worker)

    def _forget(self, worker: _Worker) -> None:
        """Remove a worker if there is nothing to send to it."""
        if not worker.pending and not worker.on_its_way:
            self._workers.pop(worker.reply_to, None)
            if not self._workers:
                self._all_sent.notify_all()

    def _warn_dropped(self, pending: _Pending, reason: str) -> None:
        self._dropped.write(
            logging.WARNING,
            'Delivery %s: %d results are not acknowledged (%s); their events are sent again or expire',
            pending.receipt.delivery_id,
            len(pending.results),
            reason,
        )
