"""The resolver within the process of its caller: routing without a call over the broker.

A front that has it saves two messages per batch, and can hold events while the
broker is away. It is a whole worker: it hears acknowledgements, serves the
resolver's topic beside other workers, and sees to what is held.
"""

from __future__ import annotations

from collections.abc import Sequence
import threading

from oslo_log import log

from external_events_router import context
from external_events_router import events
from external_events_router.resolver import service

LOG = log.getLogger(__name__)

#: Seconds that stopping may take beyond the acknowledgements that are waited for.
STOP_MARGIN = 10.0

#: Requests over the broker that such a worker handles at a time: the reports of
#: hosts, and what a front without a resolver of its own may send it. Each thread
#: is there for good once it was needed, and takes 70 KiB.
THREADS = 16


class EmbeddedResolver:
    """A worker of this process, with the face of ``rpcapi.ResolverAPI``. Thread-safe."""

    #: Every wait of a worker has its deadline: see ``router``.
    bounded = True

    def __init__(self, worker: service.Resolver, *, stop_timeout: float) -> None:
        """:param stop_timeout: seconds that :meth:`stop` may take"""
        self._worker = worker
        self._stop_timeout = stop_timeout
        self._started = threading.Event()

    def start(self) -> None:
        """Start the worker, in the background.

        NOTE: while the broker is away that takes until it is back. Batches are
        routed all the same: what nobody acknowledges is held. So this returns when
        events can be held.
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
        """As ``rpcapi.ResolverAPI.route``, but that it raises none of its errors."""
        return self._worker.route(ctxt, batch, ack_timeout=ack_timeout, timeout=timeout)

    def stop(self) -> None:
        """Finish what is in hand, within the timeout."""
        thread = threading.Thread(target=self._worker.stop, name='stop-resolver', daemon=True)
        if self._started.is_set():
            thread.start()
            thread.join(self._stop_timeout)

    def _start(self) -> None:
        self._worker.start()
        self._started.set()
