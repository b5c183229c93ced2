"""``external-events-all-in-one``: API, resolver and agents in one process.

The defaults are SQLite, the ``fake://`` transport and no authentication; the configuration can
change them. Use it for a first try and for tests. A cloud runs the three services separately.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence
import contextlib
import functools
import os
import pathlib
import signal
import socket
import tempfile
import threading

from oslo_config import cfg
from oslo_log import log
import oslo_messaging as messaging

from external_events_router import checks
from external_events_router import exceptions
from external_events_router.admin import server as admin_server
from external_events_router.agent import fleet as agent_fleet
from external_events_router.agent import handlers as agent_handlers
from external_events_router.api import app as api_app
from external_events_router.api import auth
from external_events_router.api import connections
from external_events_router.api import embedded_server
from external_events_router.api import refusals
from external_events_router.cmd import demo
from external_events_router.db import migration
from external_events_router.db import session
from external_events_router.messaging import rpc
from external_events_router.metrics import setup
from external_events_router.process import certificates
from external_events_router.process import essential
from external_events_router.process import failures
from external_events_router.process import monitoring
from external_events_router.process import report
from external_events_router.process import signals
from external_events_router.process import startup
from external_events_router.resolver import host_map
from external_events_router.resolver import rpcapi
from external_events_router.resolver import service
from external_events_router.resolver.host_map import sql

LOG = log.getLogger(__name__)

PROG = 'external-events-all-in-one'

CLI_OPTS = (
    cfg.MultiStrOpt(
        'host',
        dest='agent_hosts',
        default=[],
        metavar='NAME',
        help='Host whose events the agent receives. This option may be repeated. Default: this machine.',
    ),
    cfg.StrOpt(
        'host-map',
        dest='host_map_file',
        metavar='FILE',
        help='File with servers and their hosts, see ``external-events-manage host-map import --help``.',
    ),
    cfg.BoolOpt(
        'demo',
        default=False,
        help='Add example hosts and servers, post an example batch, print its outcomes, and keep serving.',
    ),
    cfg.BoolOpt(
        'allow-insecure-noauth',
        default=False,
        help='Serve without authentication on an address that other machines can reach. Any client that '
        'reaches the port can then send events to every server. Without this option the command '
        'refuses ``[api] auth_strategy = noauth`` unless ``[api] bind_host`` is a loopback address.',
    ),
    cfg.PortOpt(
        'port',
        dest='api_port',
        metavar='PORT',
        help='Port of the API. Replaces ``[api] bind_port``; 0 selects a free port.',
    ),
    cfg.BoolOpt('exit', default=False, help='With --demo: stop after the outcomes are printed.'),
)

#: Maximum seconds for stopping each part.
STOP_TIMEOUT = 10.0


@contextlib.contextmanager
def state_dir(*, keep: bool) -> Iterator[pathlib.Path]:
    """Provide the folder of the embedded database: in the home of the user, or temporary."""
    if not keep:
        with tempfile.TemporaryDirectory(prefix='external-events-') as name:
            yield pathlib.Path(name)
        return
    home = os.environ.get('XDG_STATE_HOME') or pathlib.Path.home() / '.local' / 'state'
    path = pathlib.Path(home) / startup.PROJECT
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise exceptions.ConfigurationError(option='[database] connection', reason=str(exc)) from exc
    yield path


def embed(conf: cfg.ConfigOpts, state: pathlib.Path) -> None:
    """Set defaults that need no broker, no database server and no Keystone."""
    rpc.set_defaults()
    messaging.TransportURL.parse(conf, 'fake://')  # registers the option
    conf.set_default('transport_url', 'fake://')
    conf.set_default('connection', f'sqlite:///{state}/all-in-one.sqlite', group='database')
    conf.set_default('auth_strategy', 'noauth', group='api')
    if conf.api_port is not None:
        conf.set_override('bind_port', conf.api_port, group='api')
    conf.set_default('auth_strategy', 'noauth', group='admin')
    # NOTE: port 0 selects a free port.
    conf.set_default('bind_port', conf.api.bind_port and conf.api.bind_port + 1, group='admin')


def check_exposure(conf: cfg.ConfigOpts) -> None:
    """Refuse to serve other machines without authentication, unless the command line allows it.

    :raises ConfigurationError: ``noauth`` on an address that is not a loopback address
    """
    if not auth.is_open(conf):
        return
    if not conf.allow_insecure_noauth:
        raise exceptions.ConfigurationError(
            option='[api] bind_host',
            reason=f'{conf.api.bind_host} is not a loopback address, and [api] auth_strategy is noauth: any '
            'client that reaches the port could send events to every server. Set auth_strategy = keystone, '
            'bind to 127.0.0.1, or start with --allow-insecure-noauth',
        )
    LOG.warning('%s', auth.open_warning(conf))


@contextlib.contextmanager
def running_resolver(conf: cfg.ConfigOpts, transport: messaging.RPCTransport) -> Iterator[None]:
    """Run a resolver worker. At the end of the block it finishes its batches and stops."""
    resolver = service.Resolver.from_conf(conf, transport, host_map.load_guarded(conf))
    resolver.start()
    try:
        yield
    finally:
        resolver.stop()


@contextlib.contextmanager
def running_agents(
    conf: cfg.ConfigOpts,
    transport: messaging.RPCTransport,
    hosts: Sequence[str],
    handlers: agent_handlers.Handlers,
) -> Iterator[None]:
    """Run the agents of some hosts. At the end of the block they finish their events and stop."""
    fleet = agent_fleet.Fleet.from_conf(conf, transport, hosts, handlers=handlers)
    fleet.start()
    try:
        yield
    finally:
        fleet.stop(STOP_TIMEOUT)


@contextlib.contextmanager
def running_api(conf: cfg.ConfigOpts, app: auth.WSGIApp) -> Iterator[str]:
    """Run the HTTP server of the API on a thread. At the end of the block it finishes its requests.

    :returns: URL of the API
    :raises ConfigurationError: the server cannot listen on the port
    """
    server = embedded_server.make_server(conf, app, shutdown_timeout=int(STOP_TIMEOUT))
    # NOTE: the timeout of cheroot applies to each read separately.
    watch = connections.ConnectionReaper.from_conf(conf)
    try:
        server.prepare()
    except OSError as exc:
        raise exceptions.ConfigurationError(
            option='[api] bind_host, bind_port', reason=f'{exc}; select another port with --port'
        ) from exc
    stopped = threading.Event()
    thread = essential.EssentialThread(server.serve, name='api', is_stopped=stopped.is_set)
    thread.start()
    watch.start()
    host, port = server.bind_addr[:2]
    try:
        yield f'http://[{host}]:{port}' if _is_v6(host) else f'http://{host}:{port}'
    finally:
        watch.stop()
        stopped.set()
        server.stop()
        thread.join()


def _is_v6(host: str) -> bool:
    try:
        socket.inet_pton(socket.AF_INET6, host)
    except OSError:
        return False
    return True


def prepare_map(conf: cfg.ConfigOpts) -> None:
    """Upgrade the embedded database, and import the servers of the demo and of ``--host-map``.

    :raises ConfigurationError: the database is unavailable
    :raises BadLine: a line of the host map is not valid
    """
    database = session.Database.from_conf(conf)
    try:
        migration.upgrade(database)
        servers = sql.SqlHostMap(database, longest_host=checks.longest_host(conf.compute.topic))
        if conf.demo:
            servers.import_lines(demo.host_map_lines())
        if conf.host_map_file:
            with open(conf.host_map_file, 'rb') as lines:
                servers.import_lines(lines)
    except OSError as exc:
        raise exceptions.ConfigurationError(option='--host-map', reason=str(exc)) from exc
    except exceptions.DatabaseUnavailable as exc:
        raise exceptions.ConfigurationError(option='[database] connection', reason=str(exc)) from exc
    finally:
        database.close()


def _run() -> int:
    conf = startup.load(PROG, cli_opts=CLI_OPTS)
    startup.announce(conf, PROG)
    came = signals.catch()
    report.install(conf, PROG, startup.version())
    guard = failures.Guard(functools.partial(os.kill, os.getpid(), signal.SIGTERM))
    guard.install()
    with contextlib.ExitStack() as stack:
        embed(conf, stack.enter_context(state_dir(keep=not conf.demo)))
        check_exposure(conf)
        rpc.check_broker(conf)
        certificates.warn(conf)
        prepare_map(conf)
        setup.check(conf, monitoring.all_in_one())
        setup.count(conf, monitoring.all_in_one())
        if (metrics := monitoring.make_exporter(conf, monitoring.all_in_one())) is not None:
            metrics.start()
            stack.callback(metrics.stop)
        transport = rpc.get_transport(conf)
        stack.callback(transport.cleanup)
        stack.enter_context(running_resolver(conf, transport))
        handlers = agent_handlers.Handlers(agent_handlers.load(conf))
        hosts = [*(demo.HOSTS if conf.demo else ()), *conf.agent_hosts] or [conf.host]
        if conf.demo:
            handlers.on(agent_handlers.ANY, demo.refuse_the_unknown_port)
        stack.enter_context(running_agents(conf, transport, hosts, handlers))
        resolver_api = rpcapi.ResolverAPI.from_conf(conf, transport)
        app = api_app.make_app(
            conf,
            resolver_api,
            unhealthy=lambda: guard.reason,
            refused=None if conf.journal.record == 'none' else refusals.Forwarder(resolver_api.refused),
        )
        url = stack.enter_context(running_api(conf, app))
        admin = admin_server.AdminServer.from_conf(conf, unhealthy=lambda: guard.reason)
        admin.start()
        stack.callback(admin.stop)
        LOG.info('Serving %s for %s, and the admin API at %s', url, ', '.join(hosts), admin.url)
        if conf.demo:
            demo.announce(url, ack_timeout=conf.delivery.ack_timeout)
            as_expected = demo.show(url) and demo.explain(conf)
            if conf.exit:
                return 0 if as_expected else 1
            print(f'Serving {url} until you press Ctrl-C.', flush=True)
        while (number := came.get()) == signal.SIGHUP:
            LOG.info('SIGHUP received: reading the configuration again')
            if problem := startup.mutate(conf, PROG, cli_opts=CLI_OPTS):
                LOG.error('Configuration not reloaded: %s; the previous values stay in effect', problem)
        LOG.info('%s received: finishing the current work, then stopping', signal.Signals(number).name)
    return 1 if guard.reason else 0


main = startup.entry_point(_run)
