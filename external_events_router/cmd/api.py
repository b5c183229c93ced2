"""``external-events-api``: the HTTP API on its bundled server, granian, in several processes.

The command reads the configuration, checks it, and starts the workers. Each worker reads the
configuration again and builds its own application. The package ``api`` contains the application;
for another WSGI server see ``external_events_router.wsgi``.

SIGTERM and SIGINT finish the current requests and stop. SIGHUP replaces the workers one after the
other by workers that read the configuration again. A change of the address, the port, or the
numbers of workers and threads needs a restart.

All workers accept connections from one listening socket, which the parent process keeps open. If
each worker had its own socket, the kernel would reset the connections that wait at this socket when
the worker is replaced.
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
import signal
import socket
import sys
import time
from typing import Any

import granian
from granian import constants
from granian import http
from granian.net import SocketSpec  # type: ignore[attr-defined]
from oslo_config import cfg
from oslo_log import log

from external_events_router import exceptions
from external_events_router.api import auth
from external_events_router.api import connections
from external_events_router.api import request_buffer
from external_events_router.api import router_client
from external_events_router.messaging import rpc
from external_events_router.metrics import setup
from external_events_router.process import api_application
from external_events_router.process import certificates
from external_events_router.process import failures
from external_events_router.process import library_log
from external_events_router.process import memory
from external_events_router.process import monitoring
from external_events_router.process import notify
from external_events_router.process import parent
from external_events_router.process import report
from external_events_router.process import signals
from external_events_router.process import startup
from external_events_router.process import tls

LOG = log.getLogger(__name__)

PROG = 'external-events-api'

#: File descriptors of a worker that are not connections of clients.
OTHER_FILES = 256

#: Maximum number of connections that wait in the kernel's queue of each worker, if the kernel permits it.
BACKLOG = 2048

#: Seconds that a worker has for stopping, in addition to the longest time of a request.
STOP_MARGIN = 5.0

#: Seconds that workers have to finish their requests after their parent was killed, and seconds
#: that a new process waits for the port, which these workers still use.
END_GRACE = 4.0
BIND_WAIT = END_GRACE + 1.0
BIND_INTERVAL = 0.1

#: Signal for a worker that will be replaced soon. A worker that does not handle it yet ignores it:
#: this is the default action of this signal.
LAST_ANSWERS = signal.SIGURG

#: Send the log messages of granian through the same handlers as all others. The number of its threads is
#: the number of connections, most of which wait, so its warning about this number is not useful.
LOGGERS: dict[str, Any] = {
    'version': 1,
    'disable_existing_loggers': False,
    'formatters': {},
    'handlers': {},
    'filters': {
        'normal': {
            '()': functools.partial(
                library_log.Without,
                'Configuration allows spawning up to',
                'Granian shutdown completed, see ya',
            )
        },
    },
    'loggers': {
        '_granian': {'handlers': [], 'propagate': True, 'filters': ['normal']},
        'granian.access': {'handlers': [], 'propagate': True},
    },
}


class Server(granian.Granian):  # type: ignore[misc,valid-type,unused-ignore]
    """granian with two changes: SIGHUP keeps the workers if the configuration is not valid; one socket."""

    usable: Callable[[], bool]
    heartbeats: notify.Heartbeats

    def signal_handler_interrupt(self, number: int = signal.SIGTERM, *args: Any, **kwargs: Any) -> None:
        """Log the signal, and stop."""
        LOG.info('%s received: finishing the current requests, then stopping', signal.Signals(number).name)
        super().signal_handler_interrupt()

    def signal_handler_reload(self, *args: Any, **kwargs: Any) -> None:
        """Replace the workers if the configuration is valid; otherwise keep them."""
        if self.usable():
            super().signal_handler_reload(*args, **kwargs)

    def _init_shared_socket(self) -> None:
        # NOTE: this is the method of granian on systems other than Linux. On Linux each of its
        # workers would have a separate socket.
        self._ssp = None
        self._shd = SocketSpec(self.bind_addr, self.bind_port, self.backlog).build()
        self._sfd = self._shd.get_fd()
        self._sso = socket.socket(fileno=self._sfd)
        self._sso.set_inheritable(True)

    def _spawn_worker(self, idx: int, target: Any, callback_loader: Any) -> Any:
        loader = functools.partial(callback_loader, worker=idx, heartbeats=self.heartbeats)
        return super()._spawn_worker(idx=idx, target=target, callback_loader=loader)

    def _respawn_workers(
        self, workers: Sequence[int], spawn_target: Any, target_loader: Any, delay: float = 0
    ) -> None:
        for index in workers:
            # NOTE: the delay is the time from the start of the new worker to the end of the old
            # worker. During this time the old worker closes each connection with its next response.
            old = self.wrks[index]
            if not old.is_alive():
                how = signals.ending(old.inner.exitcode)
                LOG.error('API worker %d (pid %d) %s; starting another one', index + 1, old.inner.pid, how)
            if delay and old.is_alive():
                os.kill(old.inner.pid, LAST_ANSWERS)
            super()._respawn_workers([index], spawn_target, target_loader, delay)


def load_worker(argv: Sequence[str], *, worker: int, heartbeats: notify.Heartbeats) -> auth.WSGIApp:
    """Build the application of a worker process, which knows only the command-line arguments."""
    parent.end_with_parent(grace=END_GRACE)
    try:
        conf = startup.load(PROG, argv)
        report.install(conf, PROG, startup.version())
        setup.count(conf, monitoring.api(conf))
        guard = failures.Guard(functools.partial(os.kill, os.getpid(), signal.SIGTERM))
        guard.install()
        body_memory = request_buffer.Memory(conf.api.max_body_memory)
        made = api_application.make_app(conf, memory=body_memory, unhealthy=lambda: guard.reason)
    except exceptions.RouterError as exc:
        problem = str(exc)
    else:
        connections.ConnectionReaper.from_conf(conf, is_short=body_memory.is_short).start()
        answers = connections.LastAnswers(made)
        signal.signal(LAST_ANSWERS, lambda _number, _frame: answers.begin())
        memory.freeze()
        heartbeats.begin(worker, lambda: notify.is_responding(lambda: guard.reason))
        return answers
    LOG.error('%s', problem)
    raise SystemExit(1)


def usable(conf: cfg.ConfigOpts) -> bool:
    """Read the configuration again and return whether a worker can start with it; log the reason if not."""
    try:
        startup.read_again(PROG)
        conf.reload_config_files()
        api_application.check(conf)
        tls.server_options(conf)
    except exceptions.RouterError as exc:
        problem = str(exc)
    else:
        return True
    LOG.error('configuration not reloaded: %s', problem)
    return False


def bind_address(host: str, port: int, *, wait: float = 0.0) -> str:
    """Return the numeric address to listen on.

    :param wait: seconds to wait for a port that is in use
    :raises ConfigurationError: this machine does not have the address, or the port is in use
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError) as exc:
        raise exceptions.ConfigurationError(option='[api] bind_host', reason=f'{host}: {exc}') from exc
    deadline = time.monotonic() + wait
    while (error := _listen_error((str(address[0]), port), family)) is not None:
        if error.errno != errno.EADDRINUSE or time.monotonic() > deadline:
            # NOTE: the text of the error would repeat the address.
            problem = os.strerror(error.errno) if error.errno else str(error)
            raise exceptions.ConfigurationError(
                option='[api] bind_host' if error.errno == errno.EADDRNOTAVAIL else '[api] bind_port',
                reason=f'cannot listen on {address[0]} port {port}: {problem}',
            ) from error
        time.sleep(BIND_INTERVAL)
    return str(address[0])


def _listen_error(address: tuple[str, int], family: socket.AddressFamily) -> OSError | None:
    try:
        # NOTE: granian shares the port with any other process, so test the port without sharing it.
        socket.create_server(address, family=family).close()
    except OSError as exc:
        return exc
    return None


def allow_files(count: int) -> None:
    """Raise the limit of open files of each process: at its limit, a server accepts in a busy loop.

    :raises ConfigurationError: the system does not permit this number
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if resource.RLIM_INFINITY not in (soft, hard) and hard < count:
        raise exceptions.ConfigurationError(
            option='[api] max_connections', reason=f'needs {count} open files, but only {hard} are allowed'
        )
    if soft != resource.RLIM_INFINITY and soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))


def make_server(conf: cfg.ConfigOpts, address: str) -> Server:
    """Build the server, with the number of workers and threads in ``[api]``."""
    server = Server(
        'external_events_router.wsgi:application',
        address=address,
        port=conf.api.bind_port,
        interface=constants.Interfaces.WSGI,
        http=constants.HTTPModes.http1,
        websockets=False,
        workers=conf.api.workers,
        # NOTE: granian reads a body on the thread that handles the request, and nothing limits the
        # time of this read, so each connection needs a thread. The intake limits the number of
        # requests that are handled at the same time.
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
    server.heartbeats = notify.Heartbeats.shared(conf.api.workers, multiprocessing.get_context('spawn'))
    return server


def run(argv: Sequence[str]) -> int:
    """Serve until a signal stops the process.

    :raises ConfigurationError: the configuration is not valid
    """
    conf = startup.load(PROG, argv)
    startup.announce(conf, PROG)
    report.install(conf, PROG, startup.version())
    address = bind_address(conf.api.bind_host, conf.api.bind_port, wait=BIND_WAIT)
    allow_files(conf.api.max_connections + OTHER_FILES)
    tls.server_options(conf)
    rpc.check_broker(conf)
    certificates.warn(conf)
    api_application.check(conf)
    auth.check_service_user(conf)
    metrics = monitoring.make_exporter(conf, monitoring.api(conf))
    if auth.is_open(conf):
        LOG.warning('%s', auth.open_warning(conf))
    # NOTE: do not fork. A worker must not inherit state of this process, and must read the
    # configuration as it is when the worker starts.
    multiprocessing.set_start_method('spawn', force=True)
    if metrics is not None:
        setup.check(conf, monitoring.api(conf))
        metrics.start()
    server = make_server(conf, address)
    server.on_shutdown(notify.start(server.heartbeats.are_recent))
    server.serve(target_loader=functools.partial(load_worker, argv), wrap_loader=False)
    return 0


@startup.entry_point
def main() -> int:
    """Run the console script."""
    return run(sys.argv[1:])
