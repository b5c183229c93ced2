"""The front with its resolver: over the broker, or in the same process, as ``[api] resolver`` says.

Every server of the front (``cmd.api``, ``wsgi``) gets its application here.
"""

from __future__ import annotations

import atexit
from collections.abc import Callable
import dataclasses
from multiprocessing import util

from oslo_config import cfg

from external_events_router import rpc
from external_events_router.api import app
from external_events_router.api import auth
from external_events_router.api import intake
from external_events_router.resolver import host_map
from external_events_router.resolver import local
from external_events_router.resolver import rpcapi
from external_events_router.resolver import service


def make_app(
    conf: cfg.ConfigOpts,
    *,
    memory: intake.Memory | None = None,
    unhealthy: Callable[[], str | None] = lambda: None,
) -> auth.WSGIApp:
    """The application of this process; after the fork, where there is one.

    :param memory: for the bodies of requests, in place of the application's own
    :param unhealthy: why this process should be replaced, for ``/healthcheck``; None: it should not
    :raises ConfigurationError: a value cannot be used
    """
    transport = rpc.get_transport(conf)
    if conf.api.resolver == 'rpc':
        return app.make_app(
            conf, rpcapi.ResolverAPI.from_conf(conf, transport), memory=memory, unhealthy=unhealthy
        )
    settings = dataclasses.replace(
        service.Settings.from_conf(conf), threads=local.THREADS, batches=conf.api.threads
    )
    worker = service.Resolver.from_conf(conf, transport, host_map.load_guarded(conf), settings=settings)
    resolver = local.LocalResolver(worker, stop_timeout=conf.delivery.ack_timeout + local.STOP_MARGIN)
    made = app.make_app(conf, resolver, memory=memory, unhealthy=unhealthy)
    resolver.start()
    # NOTE: a child of multiprocessing, as granian's workers are, ends without
    # what atexit has; any other process without what multiprocessing has.
    util.Finalize(None, resolver.stop, exitpriority=10)
    atexit.register(resolver.stop)
    return made


def check(conf: cfg.ConfigOpts) -> None:
    """Insist, before any worker is started, that one could be.

    :raises ConfigurationError: naming the option to look at
    """
    app.make_app(conf, rpcapi.ResolverAPI.from_conf(conf, rpc.get_transport(conf)))
    if conf.api.resolver == 'local':
        service.check(conf)
