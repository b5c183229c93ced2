"""Sends what became of events back to the resolver that waits for it.

One message at a time is on its way to a resolver worker; what comes up meanwhile
for the same one goes together in the next, which is sent by whoever tells that the
one before is through. So there is no thread here, and nothing waits where nothing
is on its way. While the broker takes nothing, a timer runs until the next attempt.
What a result says is not decided here.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
import dataclasses
import functools
import itertools
import logging
import threading
from typing import Protocol

from external_events_router import context
from external_events_router import events
from external_events_router import exceptions
from external_events_router import throttled_log
from external_events_router.agent import clock
from external_events_router.concurrency import keyed_pool

LOG = logging.getLogger(__name__)

#: Seconds between attempts while the broker takes nothing: the first, the longest.
FIRST_PAUSE = 0.05
LONGEST_PAUSE = 2.0

#: Results after which a message takes no further delivery: resolvers drop one that is too
#: large, see ``frames.MAX_BODY``.
MAX_TOGETHER = 10_000

#: Messages about single deliveries in a minute.
MESSAGES = 20

#: Of one cast: why it is not with the broker, or None. After ``BrokerUnavailable``
#: it is tried again.
Done = Callable[[Exception | None], None]


@dataclasses.dataclass(slots=True)
class Receipt:
    """Where the results of a delivery's events have to go.

    Nobody changes one; a frozen one takes four times as long to make.

    :ivar host: whose results they are
    :ivar deadline: of the delivery: seconds since the epoch by the resolver's clock
    """

    ctxt: context.RequestContext
    host: str
    delivery_id: str
    reply_to: str
    deadline: float


class AckClient(Protocol):
    """What casts without waiting, as ``resolver.rpcapi.FastAckAPI`` does."""

    def begin(self, reply_to: str, acknowledgements: Sequence[events.Acknowledgement], done: Done) -> None:
        """Cast what hosts say of deliveries.

        :param done: called once, from any thread, and perhaps before this returns
        """
        ...


class BlockingClient(Protocol):
    """What waits for the broker, as ``resolver.rpcapi.AckAPI`` does."""

    def acknowledge_all(self, reply_to: str, acknowledgements: Sequence[events.Acknowledgement]) -> None:
        """Cast what hosts say of deliveries."""
        ...


class OnThread:
    """Makes an :class:`AckClient` of one that waits: a thread, while there is something to cast."""

    def __init__(self, client: BlockingClient) -> None:
        self._client = client
        self._pool = keyed_pool.KeyedPool(1, name='acks')

    def begin(self, reply_to: str, acknowledgements: Sequence[events.Acknowledgement], done: Done) -> None:
        """See :class:`AckClient`."""
        task = functools.partial(self._cast, reply_to, acknowledgements, done)
        if not self._pool.submit(reply_to, task):
            done(exceptions.BrokerUnavailable(reason='too much waits to be sent'))

    def _cast(self, reply_to: str, acknowledgements: Sequence[events.Acknowledgement], done: Done) -> None:
        error: Exception | None = None
        try:
            self._client.acknowledge_all(reply_to, acknowledgements)
        except Exception as exc:
            # Whatever it is, the acker has to hear it.
            error = exc
        done(error)


@dataclasses.dataclass(slots=True, eq=False)
class _Pending:
    """Results of one delivery; ``number``: the lower, the longer they wait."""

    number: int
    receipt: Receipt
    results: list[events.Result]

    def said(self) -> events.Acknowledgement:
        return events.Acknowledgement(self.receipt.delivery_id, self.receipt.host, tuple(self.results))


@dataclasses.dataclass(slots=True, eq=False)
class _Worker:
    """What is for one resolver worker: by delivery, and what is on its way."""

    reply_to: str
    pending: dict[str, _Pending] = dataclasses.field(default_factory=dict)
    on_its_way: Sequence[_Pending] = ()


class _OnItsWay:
    """One cast: its end is taken once, whoever tells it, and how often."""

    def __init__(self, acker: Acker, worker: _Worker) -> None:
        self._acker = acker
        self._worker = worker
        # Guards the rest. _begun: the call that began it has returned.
        self._lock = threading.Lock()
        self._ended = False
        self._begun = False
        self._more = False

    def done(self, error: Exception | None) -> None:
        """Take the end of the cast."""
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
        """Note that the call has returned.

        :returns: whether it has ended, and the next is loaded, which the caller has to cast
        """
        with self._lock:
            self._begun = True
            return self._more


class Acker:
    """What has yet to be sent, and what is on its way. Thread-safe; nothing but :meth:`flush` waits."""

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
        self._dropped = throttled_log.Bounded(
            LOG, lines=MESSAGES, rest='The results of %d more deliveries are not acknowledged'
        )
        self._numbers = itertools.count()
        # Guards everything below. No cast is begun while it is held, because
        # its end may be told at once. Workers are there while there is
        # something for them, so that flush() sees when all is sent.
        self._lock = threading.Lock()
        self._all_sent = threading.Condition(self._lock)
        self._workers: dict[str, _Worker] = {}
        self._waiting = 0
        self._pause = FIRST_PAUSE
        self._timer: threading.Timer | None = None
        self._stopping = False

    def add(self, receipt: Receipt, result: events.Result) -> None:
        """Have a result sent, with the next :meth:`send`, which has to follow soon."""
        with self._lock:
            worker = self._workers.get(receipt.reply_to)
            if worker is None:
                worker = self._workers[receipt.reply_to] = _Worker(receipt.reply_to)
            pending = worker.pending.get(receipt.delivery_id)
            if pending is None:
                worker.pending[receipt.delivery_id] = _Pending(next(self._numbers), receipt, [result])
            else:
                pending.results.append(result)
            self._waiting += 1
            if self._waiting > self._max_results:
                self._make_room()

    def send(self) -> None:
        """Send what was added, except to who has something on its way: that goes when this is through."""
        if not self._waiting:
            return
        with self._lock:
            ready = [worker for worker in self._workers.values() if self._load(worker)]
        for worker in ready:
            self._cast(worker)

    def flush(self, timeout: float) -> bool:
        """Wait until all is sent that was added.

        :returns: whether it was, in time
        """
        self.send()
        with self._lock:
            return self._all_sent.wait_for(lambda: not self._workers, timeout)

    def stop(self, timeout: float) -> None:
        """Send what there is as far as the time allows, and end."""
        self.flush(timeout)
        with self._lock:
            self._stopping = True
            if self._timer is not None:
                self._timer.cancel()
            if self._waiting:
                LOG.warning('%d results were not acknowledged before the end', self._waiting)
        self._dropped.flush(now=True)

    def _cast(self, worker: _Worker) -> None:
        """Cast what is loaded, and what gathers meanwhile."""
        # NOTE: a client may tell at once, within the call: then this loop goes on, instead
        # of a call within a call for each message.
        loaded = True
        while loaded:
            sent = _OnItsWay(self, worker)
            try:
                said = [pending.said() for pending in worker.on_its_way]
                self._client.begin(worker.reply_to, said, sent.done)
            except Exception as exc:
                # Whatever it is, what is for other workers and what comes goes on.
                sent.done(exc)
            loaded = sent.begun()

    def _settle(self, worker: _Worker, error: Exception | None) -> bool:
        """What was on its way is through, or not.

        :returns: whether there is more to cast to the worker, which is loaded now
        """
        away = isinstance(error, exceptions.BrokerUnavailable)
        if error is not None and not away:
            # NOTE: an error of ours needs no traceback: it is about what is sent.
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

    # The following, but for _resume, are called with the lock held.

    def _load(self, worker: _Worker) -> bool:
        """Take what gathered for a worker as the next on its way: all there is goes together, up
        to :data:`MAX_TOGETHER` results.

        :returns: whether there is any, and it may go now
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
        """In front of what came meanwhile; but what is late by now is dropped."""
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
        """Send nothing for a while: the broker is one for all workers."""
        if self._timer is None and not self._stopping:
            timer = threading.Timer(self._pause, self._resume)
            timer.daemon = True
            try:
                timer.start()
            except RuntimeError as exc:
                LOG.error('Acknowledgements are sent again with the next result, not sooner: %s', exc)
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
            self._warn_dropped(dropped, 'too many wait')
            self._forget(worker)

    def _forget(self, worker: _Worker) -> None:
        """Unless there is something for it."""
        if not worker.pending and not worker.on_its_way:
            self._workers.pop(worker.reply_to, None)
            if not self._workers:
                self._all_sent.notify_all()

    def _warn_dropped(self, pending: _Pending, reason: str) -> None:
        self._dropped.write(
            logging.WARNING,
            'Delivery %s: %d results are not acknowledged: %s',
            pending.receipt.delivery_id,
            len(pending.results),
            reason,
        )
