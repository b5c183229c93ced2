"""Configuration: a module per option group, each with its options and nothing else.

:func:`register_all` registers what every service shares. The ``ConfigOpts`` is
always an argument; ``cmd`` hands down ``cfg.CONF`` itself, because
oslo.messaging registers some of its options there and nowhere else.
"""

from __future__ import annotations

from oslo_config import cfg

from external_events_router.conf import agent
from external_events_router.conf import api
from external_events_router.conf import broker
from external_events_router.conf import compute
from external_events_router.conf import database
from external_events_router.conf import default
from external_events_router.conf import delivery
from external_events_router.conf import exec_handler
from external_events_router.conf import host_map
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
    agent,
    exec_handler,
    nova,
    upgrade_levels,
)


def register_all(conf: cfg.ConfigOpts) -> None:
    """Register the options of every group of ours; may be called again."""
    for group in GROUPS:
        group.register_opts(conf)
