"""``external-events-agent``: the agents of one or more hosts in one process.

SIGTERM and SIGINT finish the current events and stop. SIGHUP reads the configuration again.
"""

from __future__ import annotations

import functools
import logging
import os
import signal

from oslo_config import cfg

from external_events_router.agent import fleet as agent_fleet
from external_events_router.agent import handlers as agent_handlers
from external_events_router.messaging import rpc
from external_events_router.metrics import setup
from external_events_router.process import certificates
from external_events_router.process import failures
from external_events_router.process import health_server
from external_events_router.process import monitoring
from external_events_router.process import notify
from external_events_router.process import report
from external_events_router.process import signals
from external_events_router.process import startup

LOG = logging.getLogger(__name__)

PROG = 'external-events-agent'

CLI_OPTS = (
    cfg.MultiStrOpt(
        'host',
        dest='agent_hosts',
        default=[],
        metavar='NAME',
        help='Host whose events the agent receives. This option may be repeated. Replaces ``[agent] hosts``.',
    ),
)


def run() -> int:
    """Read the configuration, and serve until a signal stops the process."""
    conf = startup.load(PROG, cli_opts=CLI_OPTS)
    startup.announce(conf, PROG)
    came = signals.catch()
    report.install(conf, PROG, startup.version())
    guard = failures.Guard(functools.partial(os.kill, os.getpid(), signal.SIGTERM))
    guard.install()
    service = monitoring.agent()
    setup.check(conf, service)
    setup.count(conf, service)
    metrics = monitoring.make_exporter(conf, service)
    transport = rpc.get_transport(conf)
    fleet = agent_fleet.Fleet.from_conf(conf, transport, hosts_of(conf))
    rpc.check_broker(conf)
    certificates.warn(conf)
    heartbeats = notify.Heartbeats([0.0], [0])
    health = health_server.from_conf(conf, lambda: guard.reason)
    if metrics is not None:
        metrics.start()
    if health is not None:
        health.start()
    fleet.start()
    heartbeats.begin(0, lambda: notify.is_responding(lambda: guard.reason))
    stopping = notify.start(heartbeats.are_recent)
    LOG.info('Serving %d hosts through the broker %s', len(fleet.agents), rpc.broker_address(conf))
    _serve(conf, fleet, came)
    stopping()
    fleet.stop(conf.agent.stop_timeout)
    # NOTE: the end of the process closes the transport. cleanup() would wait up to 5 s for a thread
    # that polls, and without limit if the broker is unavailable.
    return 1 if guard.reason else 0


def hosts_of(conf: cfg.ConfigOpts) -> list[str]:
    """Return the hosts of the command line, of ``[agent] hosts``, or this machine."""
    return list(conf.agent_hosts or conf.agent.hosts or [conf.host])


def _serve(conf: cfg.ConfigOpts, fleet: agent_fleet.Fleet, came: signals.Signals) -> None:
    while (number := came.get()) == signal.SIGHUP:
        LOG.info('SIGHUP received: reading the configuration again')
        if problem := startup.mutate(conf, PROG, cli_opts=CLI_OPTS, also=_try_handlers):
            LOG.error('Configuration not reloaded: %s; the previous handlers stay in effect', problem)
        else:
            fleet.reload(conf)
    LOG.info('%s received: finishing the current events, then stopping', signal.Signals(number).name)


def _try_handlers(conf: cfg.ConfigOpts) -> None:
    agent_handlers.Handlers(agent_handlers.load(conf)).close()


main = startup.entry_point(run)
