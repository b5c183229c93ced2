"""Ends worker processes when the process that started them has ended, also if SIGKILL ended it.

For workers of ``multiprocessing``. The parent holds one end of a pipe for each worker. The worker
detects that this end is closed, for whatever reason and at whatever time the parent ended. With
``PR_SET_PDEATHSIG`` a parent that ends very early would be missed; in addition, that signal depends on the
thread that started the worker.
"""

from __future__ import annotations

import logging
import multiprocessing
from multiprocessing import connection
import os
import signal
import threading
import time

LOG = logging.getLogger(__name__)


def end_with_parent(*, grace: float) -> None:
    """Send this process SIGTERM when its parent has ended; without effect if it has no parent.

    :param grace: seconds from SIGTERM until the process ends in any case
    """
    parent = multiprocessing.parent_process()
    if parent is not None:
        arguments = (parent.sentinel, grace)
        threading.Thread(target=_watch, args=arguments, name='parent-watch', daemon=True).start()


def _watch(sentinel: int, grace: float) -> None:
    connection.wait([sentinel])
    LOG.error('The parent process has ended; this worker finishes its requests and ends')
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(grace)
    os._exit(1)
