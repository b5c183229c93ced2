"""``external-events-admin``: the admin API, in one process.

SIGTERM and SIGINT finish the current requests and stop. SIGHUP reads the options again that can change
while the service runs, for example ``[DEFAULT] debug``.
"""

from __future__ import annotations

from collections.abc import Sequence
import functools
import os
import signal
import sys

from oslo_log import log

from external_events_router.admin import server
from external_events_router.process import certificates
from external_events_router.process import failures
from external_events_router.process import notify
from external_events_router.process import report
from external_events_router.process import signals
from external_events_router.process import startup

LOG = log.getLogger(__name__)

PROG = 'external-events-admin'


def run(argv: Sequence[str]) -> int:
    """Serve until a signal stops the process.

    :raises ConfigurationError: the configuration is not valid, or a database is unavailable
    """
    conf = startup.load(PROG, argv)
    startup.announce(conf, PROG)
    came = signals.catch()
    report.install(conf, PROG, startup.version())
    guard = failures.Guard(functools.partial(os.kill, os.getpid(), signal.SIGTERM))
    guard.install()
    certificates.warn(conf)
    admin = server.AdminServer.from_conf(conf, unhealthy=lambda: guard.reason)
    admin.start()
    stop_notifying = notify.start(lambda _age: notify.is_responding(lambda: guard.reason))
    LOG.info('Serving the admin API at %s', admin.url)
    while (number := came.get()) == signal.SIGHUP:
        LOG.info('SIGHUP: reading the configuration again')
        try:
            conf.mutate_config_files()
        except Exception as exc:  # any error in a file; the previous values stay in effect
            LOG.error('configuration not reloaded: %s', startup.reason_of(exc))
    LOG.info('%s received: finishing the current requests, then stopping', signal.Signals(number).name)
    stop_notifying()
    admin.stop()
    return 1 if guard.reason else 0


def _main() -> int:
    return run(sys.argv[1:])


main = startup.entry_point(_main)
