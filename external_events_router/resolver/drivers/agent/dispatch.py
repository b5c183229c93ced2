"""Casting deliveries to hosts, with a bound of ours on every publish.

oslo.messaging blocks without one while the broker is in memory alarm or does
not answer (measured: 32 s with ``retry=0``, until the alarm ended), so the
casts run on threads that nobody waits for past the deadline. What becomes of a
cast is told to the one who waits for the acknowledgements.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from concurrent import futures
import contextlib
import functools
import time
from typing import Protocol

from oslo_log import log

from external_events_router import context
from external_events_router import events
from external_events_router import exceptions
from external_events_router.concurrency import bounded_pool
from external_events_router.resolver.health import gate

LOG = log.getLogger(__name__)


class Sender(Protocol):
    """The part of ``agent.rpcapi.AgentAPI`` that is used here."""

    def deliver(self, ctxt: context.RequestContext, host: str, delivery: events.Delivery) -> None: ...


class Dispatcher:
    """Publishes on a few threads of its own. Thread-safe."""

    def __init__(self, sender: Sender, *, publishers: int) -> None:
        """:param publishers: how many casts may be on their way at the same time"""
        self._sender = sender
        self._pool = bounded_pool.BoundedPool(publishers, 'publisher')
        self._gate = gate.BrokerGate('The message broker')

    @contextlib.contextmanager
    def cast(
        self,
        ctxt: context.RequestContext,
        deliveries: Mapping[str, events.Delivery],
        *,
        on_failure: Callable[[str, exceptions.RouterError], None],
        until: float,
    ) -> Iterator[None]:
        """Start a cast to each host; at the end of the block, withdraw those not begun.

        Does not wait: one host's failure is told at once and touches no other.

        :param deliveries: host to its delivery
        :param on_failure: called with the host and the error, from another thread
        :param until: an instant of ``time.monotonic()`` until which the block may last
        """
        begun = []
        try:
            for host, delivery in deliveries.items():
                job = functools.partial(self._cast_one, ctxt, host, delivery, on_failure)
                if (future := self._submit(job)) is None:
                    _fail(on_failure, host, exceptions.BrokerUnavailable(reason='no thread is left for it'))
                else:
                    begun.append(future)
            yield
        finally:
            for future in begun:
                future.cancel()

    def close(self) -> None:
        """Publish no more. A cast that hangs in the broker is not waited for."""
        self._pool.close()

    def _cast_one(
        self,
        ctxt: context.RequestContext,
        host: str,
        delivery: events.Delivery,
        on_failure: Callable[[str, exceptions.RouterError], None],
    ) -> None:
        began = time.monotonic()
        try:
            ctxt.update_store()
            with self._gate.cast():
                self._sender.deliver(ctxt, host, delivery)
        except exceptions.RouterError as exc:
            LOG.debug('Cast to %s failed after %.3f s: %s', host, time.monotonic() - began, exc)
            _fail(on_failure, host, exc)
        except Exception as exc:  # the outermost frame of this thread's work
            LOG.exception('Cast to %s failed', host)
            _fail(on_failure, host, exceptions.BrokerUnavailable(reason=f'unexpected {type(exc).__name__}'))

    def _submit(self, job: Callable[[], None]) -> futures.Future[None] | None:
        try:
            future = self._pool.submit(job)
        except RuntimeError as exc:
            LOG.error('A thread that publishes cannot be started: %s', exc)
            return None
        return None if future.cancelled() else future


def _fail(
    on_failure: Callable[[str, exceptions.RouterError], None], host: str, error: exceptions.RouterError
) -> None:
    try:
        on_failure(host, error)
    except Exception:  # whose it is must not prevent the others
        LOG.exception('A batch could not be told that host %s cannot be reached', host)
