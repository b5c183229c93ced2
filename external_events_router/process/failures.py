"""Handles threads that end with an exception: logs one ERROR and marks the process as unhealthy.

No thread of the service should raise an exception: jobs store their errors in a future, and loops
catch the errors of their steps. If a thread raises an exception nevertheless, its work has stopped,
and the process has to be replaced.
"""

from __future__ import annotations

from collections.abc import Callable
import logging
import pathlib
import threading
import traceback

LOG = logging.getLogger(__name__)

#: Seconds from the failure to the end of the process. Until then the other threads continue. If each
#: start fails in the same way, this is also the minimum time between two starts.
PAUSE = 10.0


class Guard:
    """Records failed threads of a process. Thread-safe.

    :ivar reason: the first failure, without the text of the error, which may contain a password;
        None: no thread has failed
    """

    def __init__(self, end: Callable[[], object] | None = None, *, pause: float = PAUSE) -> None:
        """:param end: ends the process, so that its parent or the system replaces it; None: do not end it
        :param pause: seconds until ``end`` is called
        """
        self.reason: str | None = None
        self._end = end
        self._pause = pause
        # Guards the reason.
        self._lock = threading.Lock()

    def install(self) -> None:
        """Handle failures of all threads of this process from now on."""
        threading.excepthook = self.failed

    def failed(self, args: threading.ExceptHookArgs) -> None:
        """Handle a thread that has ended with an exception; see ``threading.excepthook``."""
        if issubclass(args.exc_type, SystemExit):
            return
        name = args.thread.name if args.thread else 'unknown'
        reason = f'thread {name} ended with {args.exc_type.__name__}'
        with self._lock:
            first, self.reason = self.reason is None, self.reason or reason
        LOG.error(
            'The %s%s; this process is unhealthy%s (the log has the traceback at DEBUG)',
            reason,
            _place(args),
            f' and ends in {self._pause:.0f} s' if self._end else ' until it is restarted',
        )
        if args.exc_value is not None:
            LOG.debug('%s', reason, exc_info=args.exc_value)
        if first and self._end is not None:
            timer = threading.Timer(self._pause, self._end)
            timer.daemon = True
            timer.start()


def _place(args: threading.ExceptHookArgs) -> str:
    """Return where the exception was raised, for the log message."""
    frames = traceback.extract_tb(args.exc_traceback)
    if not frames:
        return ''
    path = pathlib.PurePath(frames[-1].filename)
    return f' at {path.parent.name}/{path.name}:{frames[-1].lineno}'
