"""The resolver in the process of its caller: routing without a call over the broker.

It saves an API process two messages per batch, and can hold events while the broker is unavailable.
It is a complete worker: it receives acknowledgements, serves the topic of the resolver together with
other workers, and redelivers held events.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
import threading
from typing import Any

from oslo_log import log

from external_events_router import context
from external_events_router import events
from external_events_router.resolver import service

LOG = log.getLogger(__name__)

#: Maximum seconds for stopping, in addition to the time for waiting for acknowledgements.
STOP_MARGIN = 10.0

#: Requests over the broker that such a worker handles at the same time: reports of hosts, and calls
#: of an API process without its own resolver. A thread is never ended, and takes 70 KiB.
THREADS = 16


class EmbeddedResolver:
    """A worker in this process, with the interface of ``rpcapi.ResolverAPI``. Thread-safe."""

    #: Every wait of a worker has a deadline: see ``router``.
    bounded = True

    def __init__(self, worker: service.Resolver, *, stop_timeout: float) -> None:
        """:param stop_timeout: maximum seconds of :meth:`stop`"""
        self._worker = worker
        self._stop_timeout = stop_timeout
        self._started = threading.Event()

    def start(self) -> None:
        """Start the worker in the background.

        NOTE: while the broker is unavailable, the start does not complete. Batches are routed
        nevertheless: events without an acknowledgement are held. This method returns when events
        can be held.
        """
        threading.Thread(target=self._start, name='start-resolver', daemon=True).start()
        self._worker.wait_until_warm()

    def route(
        self,
        ctxt: context.RequestContext,
        batch: Sequence[events.Event],
        *,
        ack_timeout: float,
        timeout: float,
    ) -> list[events.Outcome]:
        """Route a batch as ``rpcapi.ResolverAPI.route``, but without its exceptions."""
        return self._worker.route(ctxt, batch, ack_timeout=ack_timeout, timeout=timeout)

    def refused(self, refusals: Sequence[Mapping[str, Any]]) -> None:
        """Record requests that the API refused."""
        self._worker.refused(refusals)

    def stop(self) -> None:
        """Finish the current batches, within the timeout."""
        thread = threading.Thread(target=self._worker.stop, name='stop-resolver', daemon=True)
        if self._started.is_set():
            thread.start()
            thread.join(self._stop_timeout)

    def _start(self) -> None:
        self._worker.start()
        self._started.set()
