"""``external-events-resolver``: resolver workers under a supervisor.

SIGTERM and SIGINT finish the current batches and stop. SIGHUP reads the configuration again: each worker
finishes its current batches and is replaced by a worker with the new values. If the new values are
not valid, the workers stay, with the previous values.
"""

from __future__ import annotations

import functools
import logging
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
from external_events_router.process import trial
from external_events_router.resolver import host_map
from external_events_router.resolver import service

LOG = logging.getLogger(__name__)

PROG = 'external-events-resolver'

#: Maximum seconds for checking the configuration after SIGHUP.
CHECK_TIMEOUT = 30.0


class ResolverWorker(cotyledon.Service):
    """A worker process. It connects to broker and database after the fork."""

    name = 'resolver'

    def __init__(
        self, worker_id: types.WorkerId, conf: cfg.ConfigOpts, heartbeats: notify.Heartbeats
    ) -> None:
        super().__init__(worker_id)
        guard = _prepare_child(conf)
        self._heartbeats, self._guard = heartbeats, guard
        self._health = health_server.from_conf(conf, lambda: guard.reason, worker=int(worker_id))
        setup.count(conf, monitoring.resolver(conf))
        transport = rpc.get_transport(conf)
        self._transport = transport
        self._resolver = service.Resolver.from_conf(conf, transport, host_map.load_guarded(conf))

    def run(self) -> None:
        # NOTE: the start waits while the broker is unavailable. The watchdog must not end the service
        # then: this would not help. Before this line an error ends the worker, without a heartbeat.
        responds = functools.partial(notify.is_responding, lambda: self._guard.reason)
        self._heartbeats.begin(int(self.worker_id), responds, is_started=False)
        if self._health is not None:
            self._health.start()
        self._resolver.start()
        self._heartbeats.finish_start(int(self.worker_id))
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
        _prepare_child(conf)
        # NOTE: after a SIGHUP its predecessor may not have ended yet.
        self._exporter = monitoring.make_exporter(conf, monitoring.resolver(conf), wait=True)

    def run(self) -> None:
        if self._exporter is not None:
            self._exporter.start()

    def terminate(self) -> None:
        if self._exporter is not None:
            self._exporter.stop()


def _prepare_child(conf: cfg.ConfigOpts) -> failures.Guard:
    """Set up a process that the supervisor has forked."""
    # NOTE: after a SIGHUP the supervisor has read new values, but has not set up logging again.
    startup.set_up_log(conf)
    # NOTE: Ctrl-C sends SIGINT to all processes of the terminal. cotyledon would end each at once, without
    # finishing its batches. The parent sends SIGTERM to its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    guard = failures.Guard(functools.partial(os.kill, os.getpid(), signal.SIGTERM))
    guard.install()
    return guard


class Supervisor(cotyledon.ServiceManager):
    """The parent process: SIGHUP keeps the workers if the configuration is not valid; SIGINT is SIGTERM."""

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        super().__init__(graceful_shutdown_timeout=conf.graceful_shutdown_timeout)
        self._conf = conf

    def _on_signal_received(self, sig: int) -> None:
        if sig in (signal.SIGINT, signal.SIGTERM):
            name = signal.Signals(sig).name
            LOG.info('%s received: finishing the current batches, then stopping', name)
            sig = signal.SIGTERM
        super()._on_signal_received(sig)

    def _reload(self) -> None:
        LOG.info('SIGHUP received: reading the configuration again')
        # NOTE: in a fork, because oslo.config cannot return to the previous values.
        if problem := trial.run(functools.partial(_try_reload, self._conf), timeout=CHECK_TIMEOUT):
            LOG.error('Configuration not reloaded: %s; the workers keep the previous values', problem)
            return
        self._conf.reload_config_files()
        self._graceful_shutdown_timeout = self._conf.graceful_shutdown_timeout
        super()._reload()


def _try_reload(conf: cfg.ConfigOpts) -> None:
    used = health_server.addresses(conf, conf.resolver.workers)
    startup.read_again(PROG)
    conf.reload_config_files()
    startup.set_up_log(conf)
    _check(conf, used=used, is_serving=True)


def _check(
    conf: cfg.ConfigOpts, *, used: frozenset[tuple[str, int]] = frozenset(), is_serving: bool = False
) -> None:
    """Check everything that a worker needs.

    :param used: addresses of ``[health]`` that the running workers use
    :param is_serving: see :func:`setup.check`
    :raises ConfigurationError: no worker could start
    """
    service.check(conf)
    rpc.check_broker(conf)
    setup.check(conf, monitoring.resolver(conf), is_serving=is_serving)
    health_server.check(health_server.addresses(conf, conf.resolver.workers) - used)


def _log_options(conf: cfg.ConfigOpts, *_worker: object) -> None:
    if conf.log_options:
        conf.log_opt_values(LOG, logging.DEBUG)


def _main() -> None:
    conf = startup.load(PROG)
    startup.announce(conf, PROG)
    report.install(conf, PROG, startup.version())
    oslo_config_glue.register_opts(conf)
    _log_options(conf)
    _check(conf)
    certificates.warn(conf)
    heartbeats = notify.Heartbeats.shared(conf.resolver.workers, multiprocessing.get_context())
    # NOTE: before the supervisor, which would notify systemd before a worker runs.
    stopping = notify.start(heartbeats.are_recent, is_started=heartbeats.are_started)
    manager = Supervisor(conf)
    # NOTE: again, because the supervisor has replaced the wake-up descriptor, as each of its workers
    # does, and drops other signals. This handler needs no descriptor. The workers inherit it.
    report.install(conf, PROG, startup.version())
    manager.register_hooks(on_terminate=stopping, on_new_worker=functools.partial(_log_options, conf))
    manager.add(ResolverWorker, workers=conf.resolver.workers, args=(conf, heartbeats))
    if setup.is_enabled(conf):
        manager.add(MetricsWorker, workers=1, args=(conf,))
    manager.run()


main = startup.entry_point(_main)
