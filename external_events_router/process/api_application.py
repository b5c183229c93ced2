"""Builds the WSGI application of the API and its resolver: in the same process, or called over the broker.

``[api] resolver`` selects this. All servers of the API (``cmd.api``, ``wsgi``) use this module.
"""

from __future__ import annotations

import atexit
from collections.abc import Callable
import dataclasses
from multiprocessing import util

from oslo_config import cfg

from external_events_router.api import app
from external_events_router.api import auth
from external_events_router.api import presence
from external_events_router.api import refusals
from external_events_router.api import request_buffer
from external_events_router.api import router_client
from external_events_router.messaging import rpc
from external_events_router.resolver import embedded
from external_events_router.resolver import host_map
from external_events_router.resolver import rpcapi
from external_events_router.resolver import service


def make_app(
    conf: cfg.ConfigOpts,
    *,
    memory: request_buffer.Memory | None = None,
    unhealthy: Callable[[], str | None] = lambda: None,
) -> auth.WSGIApp:
    """Build the application of this process. Call it after the fork, if the server forks.

    :param memory: memory for the bodies of requests; None: a new one for this application
    :param unhealthy: returns for ``/healthcheck`` why this process should be replaced; None: it is healthy
    :raises ConfigurationError: a value is not valid
    """
    transport = rpc.get_transport(conf)
    records = conf.journal.record != 'none'
    if conf.api.resolver == 'rpc':
        resolver_api = rpcapi.ResolverAPI.from_conf(conf, transport)
        forwarder = refusals.Forwarder(
            resolver_api.refused,
            state=presence.Presence.from_conf(conf),
            longest=conf.delivery.ack_timeout + router_client.GRACE,
        )
        recorded = forwarder if records else None
        made = app.make_app(conf, resolver_api, memory=memory, unhealthy=unhealthy, refused=recorded)
        forwarder.start()
        _stop_at_end(forwarder.stop)
        return made
    settings = dataclasses.replace(
        service.Settings.from_conf(conf), threads=embedded.THREADS, batches=conf.api.threads
    )
    worker = service.Resolver.from_conf(conf, transport, host_map.load_guarded(conf), settings=settings)
    resolver = embedded.EmbeddedResolver(
        worker, stop_timeout=conf.delivery.ack_timeout + embedded.STOP_MARGIN
    )
    made = app.make_app(
        conf,
        resolver,
        memory=memory,
        unhealthy=unhealthy,
        refused=resolver.refused if records else None,
    )
    resolver.start()
    _stop_at_end(resolver.stop)
    return made


def _stop_at_end(stop: Callable[[], None]) -> None:
    """Call a function at the end of the process."""
    # NOTE: a child process of multiprocessing, as the workers of granian, does not run the
    # functions of atexit at its end. Other processes do not run those of multiprocessing.
    util.Finalize(None, stop, exitpriority=10)
    atexit.register(stop)


def check(conf: cfg.ConfigOpts) -> None:
    """Check the configuration before a worker is started.

    :raises ConfigurationError: with the name of the option that is not valid
    """
    app.make_app(conf, rpcapi.ResolverAPI.from_conf(conf, rpc.get_transport(conf)))
    if conf.api.resolver == 'local':
        service.check(conf)
