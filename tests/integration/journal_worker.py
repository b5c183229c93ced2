"""A process that records a batch every few milliseconds, for tests that kill it or its database.

Run as::

    python -m tests.integration.journal_worker URL NAME QUEUE_SIZE

It writes the tag of each event, and its instant of ``time.monotonic()``, to its output before it
records the event, and ends after SIGTERM.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

from external_events_router import context
from external_events_router import events
from external_events_router.journal import entries
from external_events_router.journal import reasons
from external_events_router.journal import store
from external_events_router.journal import writer
from tests.unit.db import databases
from tests.unit.journal import rows

#: Seconds between two batches.
INTERVAL = 0.02


def main(url, name, queue_size):
    """Record batches until SIGTERM."""
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    identity = store.Identity(name, 'test', 'host', 1, 'all')
    worker = writer.Writer(
        store.Store(databases.database(url)), identity, queue_size=int(queue_size), longest=0.0
    )
    worker.start()
    ctxt = context.RequestContext(request_id='req-1', overwrite=False)
    number = 0
    while not stopped.wait(INTERVAL):
        number += 1
        tag, now = f'{name}-{os.getpid()}-{number}', time.monotonic()
        event = events.Event('network-changed', rows.SERVER, tag, id=tag)
        print(tag, now, flush=True)
        outcome = events.Outcome(event, events.Code.DELIVERED)
        worker.add(entries.Batch(ctxt, now, now, [outcome], {}, lambda *_: reasons.Reason.ACKNOWLEDGED))
    worker.stop(5.0)


if __name__ == '__main__':
    main(*sys.argv[1:])
