"""``external-events-resolver``: resolver workers under a supervisor.

SIGTERM finishes the current batches and stops. SIGHUP reads the configuration again: each worker
finishes its current batches and is replaced by a worker with the new values.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import signal

import cotyledon
from cotyledon import oslo_config_glue
from cotyledon import types
from oslo_config import cfg

from external_events_router.messaging import rpc
from external_events_router.metrics import setup
from external_events_router.process import certificates
from external_events_router.process import failures
from external_events_router.process import health_server
from external_events_router.process import memory
from external_events_router.process import monitoring
from external_events_router.process import notify
from external_events_router.process import report
from external_events_router.process import startup
from external_events_router.resolver import host_map
from external_events_router.resolver import service

PROG = 'external-events-resolver'


class ResolverWorker(cotyledon.Service):
    """A worker process. It connects to broker and database after the fork."""

    name = 'resolver'

    def __init__(self, worker_id: types.WorkerId, conf: cfg.ConfigOpts, beats: notify.Heartbeats) -> None:
        super().__init__(worker_id)
        # NOTE: after a SIGHUP the supervisor has read new values, but has not set up logging again.
        startup.set_up_log(conf)
        guard = failures.Guard(functools.partial(os.kill, os.getpid(), signal.SIGTERM))
        guard.install()
        self._beats, self._guard = beats, guard
        self._health = health_server.from_conf(conf, lambda: guard.reason, worker=int(worker_id))
        setup.count(conf, monitoring.resolver(conf))
        transport = rpc.get_transport(conf)
        self._transport = transport
        self._resolver = service.Resolver.from_conf(conf, transport, host_map.load_guarded(conf))

    def run(self) -> None:
        # NOTE: the start waits while the broker is unavailable. The watchdog must not end the service
        # then: this would not help. Before this line an error ends the worker, without a heartbeat.
        responds = functools.partial(notify.is_responding, lambda: self._guard.reason)
        self._beats.begin(int(self.worker_id), responds, is_started=False)
        if self._health is not None:
            self._health.start()
        self._resolver.start()
        self._beats.finish_start(int(self.worker_id))
        memory.freeze()

    def terminate(self) -> None:
        self._resolver.stop()
        self._transport.cleanup()
        if self._health is not None:
            self._health.stop()


class MetricsWorker(cotyledon.Service):
    """The process that serves the metrics of all processes."""

    name = 'metrics'

    def __init__(self, worker_id: types.WorkerId, conf: cfg.ConfigOpts) -> None:
        super().__init__(worker_id)
        startup.set_up_log(conf)
        failures.Guard(functools.partial(os.kill, os.getpid(), signal.SIGTERM)).install()
        # NOTE: after a SIGHUP its predecessor may not have ended yet.
        self._exporter = monitoring.make_exporter(conf, monitoring.resolver(conf), wait=True)

    def run(self) -> None:
        if self._exporter is not None:
            self._exporter.start()

    def terminate(self) -> None:
        if self._exporter is not None:
            self._exporter.stop()


def _main() -> None:
    conf = startup.load(PROG)
    startup.announce(conf, PROG)
    report.install(conf, PROG, startup.version())
    oslo_config_glue.register_opts(conf)
    service.check(conf)
    rpc.check_broker(conf)
    certificates.warn(conf)
    setup.check(conf, monitoring.resolver(conf))
    beats = notify.Heartbeats.shared(conf.resolver.workers, multiprocessing.get_context())
    # NOTE: before the supervisor, which would notify systemd before a worker runs.
    stopping = notify.start(beats.are_recent, is_started=beats.are_started)
    manager = cotyledon.ServiceManager()
    # NOTE: again, because the supervisor has replaced the wake-up descriptor, as each of its workers
    # does, and drops other signals. This handler needs no descriptor. The workers inherit it.
    report.install(conf, PROG, startup.version())
    manager.register_hooks(on_terminate=stopping)
    manager.add(ResolverWorker, workers=conf.resolver.workers, args=(conf, beats))
    if setup.is_enabled(conf):
        manager.add(MetricsWorker, workers=1, args=(conf,))
    oslo_config_glue.link(manager, conf)
    manager.run()


main = startup.entry_point(_main)
