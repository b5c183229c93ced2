"""``application``: the admin API for uWSGI, gunicorn, mod_wsgi, or any other WSGI server.

The configuration is read during the import, from the files in the environment variable
``OS_EXTERNAL_EVENTS_ROUTER_CONFIG_FILES`` or from the usual places. The databases are opened with the first
request of each process, because a server may import this module and fork then.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
import os
import threading
from typing import Any

from oslo_config import cfg

from external_events_router.admin import app
from external_events_router.admin import services
from external_events_router.api import auth
from external_events_router.process import startup

CONFIG_FILES = 'OS_EXTERNAL_EVENTS_ROUTER_CONFIG_FILES'

PROG = 'external-events-admin'


class Application:
    """Builds the application in each process that serves requests."""

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        self._conf = conf
        # Guards _app.
        self._lock = threading.Lock()
        self._app: auth.WSGIApp | None = None

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        return (self._app or self.start())(environ, start_response)

    def start(self) -> auth.WSGIApp:
        """Open the databases, unless this process has opened them.

        :raises ConfigurationError: a value is not valid, or a database is unavailable
        """
        with self._lock:
            if self._app is None:
                startup.announce(self._conf, PROG)
                self._app = app.make_app(self._conf, services.Services.from_conf(self._conf))
            return self._app


def arguments() -> list[str]:
    """Return the command-line arguments that name the configuration files."""
    files = os.environ.get(CONFIG_FILES, '').split(os.pathsep)
    return [argument for file in files if file for argument in ('--config-file', file)]


application = Application(startup.load(PROG, arguments()))
