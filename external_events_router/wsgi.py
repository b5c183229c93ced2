"""``application``, for uWSGI, gunicorn, mod_wsgi, or any other WSGI server.

The configuration is read at import: from the files that the environment
variable ``OS_EXTERNAL_EVENTS_ROUTER_CONFIG_FILES`` names, separated by colons,
or where it is not set from the usual places. The server's own command line is
not looked at. For ``external-events-api`` see ``cmd.api``.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
import os
import threading
from typing import Any

from oslo_config import cfg

from external_events_router.api import auth
from external_events_router.cmd import front
from external_events_router.cmd import startup

CONFIG_FILES = 'OS_EXTERNAL_EVENTS_ROUTER_CONFIG_FILES'


class Application:
    """Becomes the application at its first request.

    A server that imports first and forks then must not share the transport's
    connections and threads between its workers.
    """

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        self._conf = conf
        # Guards the making of _app.
        self._lock = threading.Lock()
        self._app: auth.WSGIApp | None = None

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if self._app is None:
            with self._lock:
                if self._app is None:
                    self._app = front.make_app(self._conf)
        return self._app(environ, start_response)


def arguments() -> list[str]:
    """What ``--config-file`` would have said on a command line."""
    files = os.environ.get(CONFIG_FILES, '').split(os.pathsep)
    return [argument for file in files if file for argument in ('--config-file', file)]


application = Application(startup.load('external-events-api', arguments()))
