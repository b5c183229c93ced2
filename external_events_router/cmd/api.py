"""``external-events-api``: the HTTP front on its bundled server, granian, in several processes.

It reads the configuration, proves that it can be used, and starts the workers;
each of them reads it again and builds its own application. What the application
does is in ``api``; for another WSGI server see ``external_events_router.wsgi``.

SIGTERM and SIGINT finish what is in hand and stop. SIGHUP replaces the workers,
one after the other, by some that have read the configuration anew; the address,
the port and the numbers of workers and threads stay as they are until a restart.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
import errno
import functools
import math
import multiprocessing
import os
import resource
import socket
import sys
from typing import Any

import granian
from granian import constants
from granian import http
from oslo_config import cfg
from oslo_log import log

from external_events_router import exceptions
from external_events_router import rpc
from external_events_router.api import auth
from external_events_router.api import connections
from external_events_router.api import intake
from external_events_router.api import router_client
from external_events_router.cmd import front
from external_events_router.cmd import startup
from external_events_router.cmd import tls

LOG = log.getLogger(__name__)

PROG = 'external-events-api'

#: File descriptors of a worker that are no connections of clients.
OTHER_FILES = 256

#: Connections that wait in each worker's queue of the kernel, if it allows so many.
BACKLOG = 2048

#: Seconds that a worker has to stop, beyond the longest that a request takes.
STOP_MARGIN = 5.0

#: granian's messages go where all others go, in their form.
LOGGERS: dict[str, Any] = {
    'version': 1,
    'disable_existing_loggers': False,
    'formatters': {},
    'handlers': {},
    'loggers': {
        '_granian': {'handlers': [], 'propagate': True},
        'granian.access': {'handlers': [], 'propagate': True},
    },
}


class Server(granian.Granian):  # type: ignore[misc,valid-type,unused-ignore]
    """granian, but for a SIGHUP on a configuration that no worker could start with."""

    usable: Callable[[], bool]

    def signal_handler_reload(self, *args: Any, **kwargs: Any) -> None:
        """Replace the workers if the configuration can be used; else keep them."""
        if self.usable():
            super().signal_handler_reload(*args, **kwargs)


def load_worker(argv: Sequence[str]) -> auth.WSGIApp:
    """The application of a worker process, which begins with nothing but the arguments."""
    try:
        conf = startup.load(PROG, argv)
        memory = intake.Memory(conf.api.max_body_memory)
        made = front.make_app(conf, memory=memory)
    except exceptions.RouterError as exc:
        problem = str(exc)
    else:
        connections.Watch.from_conf(conf, is_short=memory.is_short).start()
        return made
    LOG.error('%s', problem)
    raise SystemExit(1)


def usable(conf: cfg.ConfigOpts) -> bool:
    """Whether the configuration, read anew, could start a worker; the log says why not."""
    try:
        if not conf.reload_config_files():
            raise exceptions.ConfigurationError(option='configuration', reason='a file cannot be read')
        startup.check(conf)
        front.check(conf)
        tls.server_options(conf)
    except exceptions.RouterError as exc:
        problem = str(exc)
    else:
        return True
    LOG.error('configuration not reloaded: %s', problem)
    return False


def bind_address(host: str, port: int) -> str:
    """The numeric address to listen on.

    :raises ConfigurationError: there is no such address here, or the port is in use
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as exc:
        raise exceptions.ConfigurationError(option='[api] bind_host', reason=f'{host}: {exc}') from exc
    try:
        # NOTE: granian's own sockets share the port, with strangers too.
        socket.create_server((str(address[0]), port), family=family).close()
    except OSError as exc:
        # NOTE: not the error's own text, which says the address once more.
        problem = os.strerror(exc.errno) if exc.errno else str(exc)
        raise exceptions.ConfigurationError(
            option='[api] bind_host' if exc.errno == errno.EADDRNOTAVAIL else '[api] bind_port',
            reason=f'cannot listen on {address[0]} port {port}: {problem}',
        ) from exc
    return str(address[0])


def allow_files(count: int) -> None:
    """Let each process open so many files: at its limit, a server accepts in a busy loop.

    :raises ConfigurationError: the system does not allow as many
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if resource.RLIM_INFINITY not in (soft, hard) and hard < count:
        raise exceptions.ConfigurationError(
            option='[api] max_connections', reason=f'needs {count} open files, but only {hard} are allowed'
        )
    if soft != resource.RLIM_INFINITY and soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))


def make_server(conf: cfg.ConfigOpts, address: str) -> Server:
    """The server, with the workers and threads that ``[api]`` says."""
    server = Server(
        'external_events_router.wsgi:application',
        address=address,
        port=conf.api.bind_port,
        interface=constants.Interfaces.WSGI,
        http=constants.HTTPModes.http1,
        websockets=False,
        workers=conf.api.workers,
        # NOTE: granian reads a body on the thread that handles the request, and
        # nothing ends that read; so there is one for each connection. How many
        # requests are handled at a time is up to the intake.
        blocking_threads=conf.api.max_connections,
        backpressure=conf.api.max_connections,
        backlog=BACKLOG,
        http1_settings=http.HTTP1Settings(
            header_read_timeout=round(conf.api.idle_timeout * 1000),
            max_buffer_size=conf.api.max_header_bytes,
        ),
        respawn_failed_workers=True,
        workers_kill_timeout=math.ceil(conf.delivery.ack_timeout + router_client.GRACE + STOP_MARGIN),
        log_dictconfig=LOGGERS,
        **tls.server_options(conf),
    )
    server.usable = functools.partial(usable, conf)
    return server


def run(argv: Sequence[str]) -> int:
    """Serve until a signal says to stop.

    :raises ConfigurationError: the configuration cannot be used
    """
    conf = startup.load(PROG, argv)
    address = bind_address(conf.api.bind_host, conf.api.bind_port)
    allow_files(conf.api.max_connections + OTHER_FILES)
    tls.server_options(conf)
    rpc.check_broker(conf)
    front.check(conf)
    # NOTE: not forked: a worker must begin with nothing of this process, and
    # read the configuration as it is when it starts.
    multiprocessing.set_start_method('spawn', force=True)
    make_server(conf, address).serve(target_loader=functools.partial(load_worker, argv), wrap_loader=False)
    return 0


@startup.entry_point
def main() -> int:
    """The console script."""
    return run(sys.argv[1:])
