"""Configuration: one module per option group, which contains only the options of the group.

:func:`register_all` registers the options that all services share. The ``ConfigOpts`` object is
always an argument. The commands in ``cmd`` pass ``cfg.CONF`` itself, because oslo.messaging
registers some of its options only there.
"""

from __future__ import annotations

from oslo_config import cfg

from external_events_router.conf import admin
from external_events_router.conf import agent
from external_events_router.conf import api
from external_events_router.conf import broker
from external_events_router.conf import compute
from external_events_router.conf import database
from external_events_router.conf import default
from external_events_router.conf import delivery
from external_events_router.conf import exec_handler
from external_events_router.conf import health
from external_events_router.conf import host_map
from external_events_router.conf import journal
from external_events_router.conf import metrics
from external_events_router.conf import nova
from external_events_router.conf import resolver
from external_events_router.conf import upgrade_levels

GROUPS = (
    default,
    api,
    resolver,
    delivery,
    compute,
    broker,
    database,
    host_map,
    journal,
    agent,
    exec_handler,
    nova,
    metrics,
    health,
    admin,
    upgrade_levels,
)


def register_all(conf: cfg.ConfigOpts) -> None:
    """Register the options of all groups of this package. It may be called repeatedly."""
    for group in GROUPS:
        group.register_opts(conf)
