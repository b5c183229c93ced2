"""Worker processes that end with the process that started them, also where SIGKILL ended it.

For workers of ``multiprocessing``, whose parent holds one end of a pipe for each of
them. The end of the pipe is seen however the parent ended, and however early: so
there is no moment at which it could be missed, as with ``PR_SET_PDEATHSIG``, which in
addition goes by the thread that has started the worker.
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

    :param grace: seconds until the process is ended at once, if it is still there
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
