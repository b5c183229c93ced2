"""``application``, for uWSGI, gunicorn, mod_wsgi, or any other WSGI server.

The configuration is read during the import. The environment variable
``OS_EXTERNAL_EVENTS_ROUTER_CONFIG_FILES`` names the files, separated by colons. If it is not set, the
files are in the usual places. The command line of the server is ignored. For ``external-events-api``
see ``cmd.api``.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
import os
import sys
import threading
import traceback
from typing import Any

from oslo_config import cfg
from oslo_log import log

from external_events_router import exceptions
from external_events_router.api import auth
from external_events_router.metrics import setup
from external_events_router.process import api_application
from external_events_router.process import failures
from external_events_router.process import memory
from external_events_router.process import monitoring
from external_events_router.process import startup

LOG = log.getLogger(__name__)

CONFIG_FILES = 'OS_EXTERNAL_EVENTS_ROUTER_CONFIG_FILES'


class Application:
    """Builds the WSGI application in each process that serves requests.

    A server may import this module first and fork then. Its workers must not share connections
    and threads of the transport, so nothing starts in the process that forks. If this module cannot know
    whether a process serves requests, the application starts with the first request: see
    :func:`start_with_process`.
    """

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        self._conf = conf
        # Guards what follows. _guard, _counts: the parts of the process that a start that failed has left.
        self._lock = threading.Lock()
        self._app: auth.WSGIApp | None = None
        self._guard: failures.Guard | None = None
        self._counts = False

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        uwsgi = sys.modules.get('uwsgi')
        if uwsgi is not None and 'HTTP_TRANSFER_ENCODING' in environ:
            environ['wsgi.input'] = UWSGIChunks(uwsgi)
            environ['wsgi.input_terminated'] = True
        return (self._app or self.start())(environ, start_response)

    def start(self) -> auth.WSGIApp:
        """Start the application and its background threads, for example redelivery, unless they run.

        :raises ConfigurationError: a value is not valid
        """
        with self._lock:
            if self._app is None:
                guard = self._prepare()
                self._app = api_application.make_app(self._conf, unhealthy=lambda: guard.reason)
                memory.freeze()
            return self._app

    def _prepare(self) -> failures.Guard:
        """Do once what belongs to the process, and not to the application, whose start may be repeated."""
        if self._guard is None:
            startup.announce(self._conf, 'external-events-api')
            self._guard = failures.Guard()
            self._guard.install()
        if not self._counts:
            # NOTE: the WSGI server starts the workers; one of them serves the metrics of all.
            metrics = monitoring.make_exporter(self._conf, monitoring.wsgi(self._conf), wait=True)
            setup.count(self._conf, monitoring.wsgi(self._conf))
            self._counts = True
            if metrics is not None:
                metrics.start()
        return self._guard

    def start_in_background(self) -> None:
        """Call :meth:`start` on a thread, for a process that was just forked."""
        threading.Thread(target=self._try_to_start, name='start-application', daemon=True).start()

    def _try_to_start(self) -> None:
        try:
            self.start()
        except exceptions.RouterError as exc:
            LOG.error('%s; all requests get 500 until this is corrected', exc)


class UWSGIChunks:
    """Reads a request body without a length under uWSGI, because ``wsgi.input`` of uWSGI is empty for it.

    uWSGI treats a chunk size that is not a number as the end of the body.

    :param uwsgi: module of the server; it reads the request of the current thread
    """

    def __init__(self, uwsgi: Any) -> None:
        self._uwsgi = uwsgi
        self._left = b''
        self._ended = False

    def read(self, size: int) -> bytes:
        """Return at most ``size`` bytes, and no bytes at the end.

        :raises OSError: the body ends early
        """
        if not self._left and not self._ended:
            self._left = self._uwsgi.chunked_read()
            self._ended = not self._left
        part, self._left = self._left[:size], self._left[size:]
        return part


def start_with_process(app: Application) -> None:
    """Start the application with each process that serves it, if the server shows which processes do."""
    if (uwsgi := sys.modules.get('uwsgi')) is not None:
        _start_under_uwsgi(app, uwsgi)
    elif 'gunicorn.arbiter' in sys.modules:
        if _is_imported_by('gunicorn.workers'):
            app.start_in_background()
        else:
            # NOTE: --preload: the arbiter has imported this module, and forks its workers.
            os.register_at_fork(after_in_child=app.start_in_background)
    elif 'mod_wsgi' in sys.modules:
        app.start_in_background()


def _start_under_uwsgi(app: Application, uwsgi: Any) -> None:
    if uwsgi.worker_id() > 0:
        # lazy-apps: each worker imports this module after the fork.
        app.start_in_background()
        return
    earlier = getattr(uwsgi, 'post_fork_hook', None)

    def forked() -> None:
        if earlier is not None:
            earlier()
        # NOTE: mules and spoolers have no worker number.
        if uwsgi.worker_id() > 0:
            app.start_in_background()

    uwsgi.post_fork_hook = forked


def _is_imported_by(package: str) -> bool:
    names = (str(frame.f_globals.get('__name__')) for frame, _line in traceback.walk_stack(None))
    return any(name.startswith(package) for name in names)


def arguments() -> list[str]:
    """Return the command-line arguments that name the configuration files."""
    files = os.environ.get(CONFIG_FILES, '').split(os.pathsep)
    return [argument for file in files if file for argument in ('--config-file', file)]


application = Application(startup.load('external-events-api', arguments()))
start_with_process(application)
