"""Interfaces between the resolver and the software on the hosts; ``factory`` chooses the driver."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
import types
from typing import Protocol

from external_events_router import context
from external_events_router import events
from external_events_router.concurrency import signal
from external_events_router.resolver import answers

#: Used if the host map has no data about the servers, and if all events are from one request.
NO_RECORDS: Mapping[str, object] = types.MappingProxyType({})
NO_CONTEXTS: Mapping[str, context.RequestContext] = types.MappingProxyType({})


class HostObserver(Protocol):
    """Receives information about hosts that deliveries show. Thread-safe; no call blocks."""

    def answered(self, host: str) -> None:
        """A host has answered at least one event of a delivery, in time."""
        ...

    def silent(self, reasons: Mapping[str, str]) -> None:
        """Hosts have answered no event of a delivery.

        Hosts for which the broker did not accept the message are not included.

        :param reasons: host to the reason
        """
        ...

    def late(self, host: str, results: Sequence[tuple[str, events.Result]] = ()) -> None:
        """A host has answered a delivery for which no batch waits any longer.

        :param results: its results, each with the server of the event, as far as these are known
        """
        ...

    def responded(self, host: str, began: float) -> None:
        """A host has answered a delivery.

        :param began: instant of ``time.monotonic()`` at which the wait for it began
        """
        ...

    def wait(self, hosts: Collection[str]) -> contextlib.AbstractContextManager[None]:
        """Record that a batch waits for hosts within the block."""
        ...


class Delivery(Protocol):
    """Events that are being delivered to their hosts."""

    def finish(self) -> answers.Answers:
        """Wait for the answers until the deadline; to be called once."""
        ...

    def cancel(self) -> None:
        """End the delivery without its answers, instead of :meth:`finish`. Does not wait."""
        ...


class DeferredDelivery:
    """A delivery that begins when it is finished, for deliverers whose begin may block."""

    def __init__(self, deliver: Callable[[], answers.Answers], settled: signal.Signal) -> None:
        """:param settled: the signal of :meth:`Deliverer.begin`; set at once, because the delivery blocks"""
        self._deliver = deliver
        settled.set()

    def finish(self) -> answers.Answers:
        """See :class:`Delivery`."""
        return self._deliver()

    def cancel(self) -> None:
        """See :class:`Delivery`. Nothing was begun."""


class Deliverer(Protocol):
    """Delivers to hosts with any software. Thread-safe; one per resolver worker."""

    def start(self) -> None:
        """Start to send, and to receive answers."""
        ...

    def stop(self) -> None:
        """Stop sending and receiving."""
        ...

    def is_ready(self) -> bool:
        """Return False if it is known that no host can be asked."""
        ...

    def begin(
        self,
        ctxt: context.RequestContext,
        by_host: Mapping[str, Sequence[events.Event]],
        *,
        deadline: float,
        lifetime: Callable[[events.Event], float],
        records: Mapping[str, object],
        settled: signal.Signal,
    ) -> Delivery:
        """Begin to send each host its events, without blocking. Parameters as for :meth:`deliver`.

        :param settled: set when all answers have arrived; before that, :meth:`Delivery.finish` may block
        """
        ...

    def deliver(
        self,
        ctxt: context.RequestContext,
        by_host: Mapping[str, Sequence[events.Event]],
        *,
        deadline: float,
        lifetime: Callable[[events.Event], float],
        records: Mapping[str, object],
        contexts: Mapping[str, context.RequestContext] = ...,
    ) -> answers.Answers:
        """Send each host its events, and wait for the answers.

        :param by_host: host to its events, in the order in which it gets them
        :param deadline: instant of ``time.monotonic()`` at which the wait ends
        :param lifetime: seconds for which an event may still be delivered
        :param records: data of the host map about the servers, see ``host_map.base.Lookup``
        :param contexts: event id to the context of its request, if that is not ``ctxt``
        """
        ...


class Rounds(Protocol):
    """The deliveries in flight; ``agent.acks.Collector`` is one."""

    def overdue(self, age: float) -> Sequence[str]:
        """Return the hosts that have not answered a delivery for this number of seconds."""
        ...

    def in_flight(self) -> Sequence[str]:
        """Return the hosts with a delivery in flight."""
        ...

    def fail(self, hosts: Collection[str], reason: str, *, age: float = 0.0) -> None:
        """End the waits for some hosts.

        :param age: only waits that started at least this number of seconds ago
        """
        ...


class Queues(Protocol):
    """The queues of the hosts. Only one thread uses it."""

    def consumers(self, hosts: Sequence[str], *, timeout: float) -> Mapping[str, int | None]:
        """Return the number of consumers for each host whose queue could be checked; None: it has no queue.

        :param timeout: seconds
        :raises BrokerUnavailable: they cannot be checked
        """
        ...

    def rest(self) -> None:
        """Close unused resources; called regularly."""
        ...

    def close(self) -> None:
        """Disconnect."""
        ...


class TokenSender(Protocol):
    """Sends hosts the tokens for their reports."""

    def take_token(self, host: str, token: str) -> bool:
        """Send a token to the queue of a host.

        :returns: False: the version cap of agents excludes this message
        :raises RouterError: it cannot be sent
        """
        ...


class Driver(Protocol):
    """The integration of one kind of software on the hosts.

    :ivar rounds: the deliveries in flight; None: their waits cannot be ended early
    :ivar queues: queues of the hosts; None: they cannot be checked
    :ivar tokens: None: the hosts do not report
    """

    rounds: Rounds | None
    queues: Queues | None
    tokens: TokenSender | None

    def deliverer(self, name: str, observer: HostObserver) -> Deliverer:
        """Return the deliverer for a worker.

        :param name: name of the worker
        """
        ...
