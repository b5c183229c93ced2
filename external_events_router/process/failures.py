"""Threads that end with an exception: one ERROR in the log, and an unhealthy process from then on.

No thread of the service is meant to raise: jobs keep their errors in a future, and
loops catch theirs. If a thread raises, its work stops, and
the process has to be replaced.
"""

from __future__ import annotations

from collections.abc import Callable
import logging
import pathlib
import threading
import traceback

LOG = logging.getLogger(__name__)

#: Seconds from the failure to the end of the process. Until then it does what it
#: still can; and where each start fails the same way, starts have this distance.
PAUSE = 10.0


class Guard:
    """What a process knows of its threads that failed. Thread-safe.

    :ivar reason: the first failure, without the error's text, which may hold a
        password; None: no thread has failed
    """

    def __init__(self, end: Callable[[], object] | None = None, *, pause: float = PAUSE) -> None:
        """:param end: ends the process, so that its parent or the system replaces it; None: it goes on
        :param pause: seconds until it is called
        """
        self.reason: str | None = None
        self._end = end
        self._pause = pause
        # Guards the reason.
        self._lock = threading.Lock()

    def install(self) -> None:
        """Watch every thread of this process from now on."""
        threading.excepthook = self.failed

    def failed(self, args: threading.ExceptHookArgs) -> None:
        """A thread has ended with an exception; see ``threading.excepthook``."""
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
    """Where the exception was raised, for the log."""
    frames = traceback.extract_tb(args.exc_traceback)
    if not frames:
        return ''
    path = pathlib.PurePath(frames[-1].filename)
    return f' at {path.parent.name}/{path.name}:{frames[-1].lineno}'
