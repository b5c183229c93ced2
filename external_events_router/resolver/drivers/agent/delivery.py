"""One round of deliveries: cast to each host, await the acknowledgements, learn which hosts are there.

Batches and held events go out by the same round. Which events go to which host,
and what the answers amount to, is decided by who asks.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
import time
import types
from typing import Protocol

from external_events_router import context
from external_events_router import events
from external_events_router import exceptions
from external_events_router import ids
from external_events_router.resolver import answers
from external_events_router.resolver.drivers.agent import acks
from external_events_router.resolver.health import slow_host_limiter

#: Where nothing is known, and where all events came with one request.
NO_RECORDS: Mapping[str, object] = types.MappingProxyType({})
NO_CONTEXTS: Mapping[str, context.RequestContext] = types.MappingProxyType({})


class Casts(Protocol):
    """Sends deliveries to hosts: ``dispatch.Dispatcher`` or ``coalescing_sender.CoalescingSender``."""

    def cast(
        self,
        ctxt: context.RequestContext,
        deliveries: Mapping[str, events.Delivery],
        *,
        on_failure: Callable[[str, exceptions.RouterError], None],
        until: float,
    ) -> contextlib.AbstractContextManager[None]: ...

    def close(self) -> None: ...


class Deliverer(Protocol):
    """Delivers to hosts, whatever runs on them. Thread-safe; one per resolver worker."""

    def is_ready(self) -> bool:
        """Whether there is a point in trying: false while it is known that no host can be asked."""
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
        """Send each host its events, and wait for what they say.

        :param deadline: an instant of ``time.monotonic()`` after which nothing is waited for
        :param lifetime: seconds for which an event is still worth anything
        :param records: what the host map knows of the servers, see ``host_map.base.Lookup``
        :param contexts: event id to the context of the request that it came
            with, where that is not ``ctxt``
        """
        ...


class AgentDeliverer:
    """Delivers to our agents, in the order given."""

    def __init__(
        self,
        casts: Casts,
        collector: acks.Collector,
        *,
        reply_to: str,
        slow_hosts: slow_host_limiter.SlowHostLimiter | None = None,
        answered: Callable[[str], None] = lambda host: None,
        silent: Callable[[Mapping[str, str]], None] = lambda reasons: None,
    ) -> None:
        """:param casts: sends the deliveries
        :param reply_to: the server name under which this worker hears acknowledgements
        :param hosts_pace: is told who is waited for
        :param answered: called with a host that said something
        :param silent: called with the hosts that said nothing, and why; a host to which
            the broker did not take the message is not among them
        """
        self._casts = casts
        self._collector = collector
        self._reply_to = reply_to
        self._slow_hosts = slow_hosts or slow_host_limiter.SlowHostLimiter(1)
        self._answered = answered
        self._silent = silent

    def is_ready(self) -> bool:
        """Whether acknowledgements can arrive."""
        return self._collector.is_connected()

    def deliver(
        self,
        ctxt: context.RequestContext,
        by_host: Mapping[str, Sequence[events.Event]],
        *,
        deadline: float,
        lifetime: Callable[[events.Event], float],
        records: Mapping[str, object] = NO_RECORDS,
        contexts: Mapping[str, context.RequestContext] = NO_CONTEXTS,
    ) -> answers.Answers:
        """Send each host its events, in their order, and wait for what they say.

        :param deadline: an instant of ``time.monotonic()`` after which nothing is waited for
        :param lifetime: seconds for which an event is still worth anything; a
            host that finds its delivery later than that does not run it
        :param records: not needed
        :param contexts: not needed: a delivery has one context
        """
        if not by_host:
            return {}
        now = time.time()
        deliveries = {
            host: events.Delivery(
                # NOTE: an acknowledgement is accepted because of it, so nobody may guess it.
                id=ids.random_hex(),
                reply_to=self._reply_to,
                deadline=now + min(map(lifetime, sent)),
                events=tuple(sent),
            )
            for host, sent in by_host.items()
        }
        with self._collector.expect(deliveries) as waiting:
            if waiting.abandoned:
                # NOTE: nothing is sent. The events are held, and delivered once the
                # acknowledgements of that can arrive.
                told = waiting.wait(0.0)
                self._tell(by_host, told)
                return told
            with (
                self._casts.cast(ctxt, deliveries, on_failure=waiting.cast_failed, until=deadline),
                self._slow_hosts.wait(deliveries),
            ):
                told = waiting.wait(deadline)
        self._tell(by_host, told)
        return told

    def _tell(self, by_host: Mapping[str, Sequence[events.Event]], told: answers.Answers) -> None:
        silent = {}
        for host, sent in by_host.items():
            of_host = [told[host, event.id] for event in sent]
            if any(answer.verdict is not None for answer in of_host):
                self._answered(host)
            elif of_host[0].asked:
                silent[host] = of_host[0].reason or answers.NO_ACK
        if silent:
            self._silent(silent)
