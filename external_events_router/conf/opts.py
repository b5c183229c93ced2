"""What oslo-config-generator asks for: our options, and our defaults for others'."""

from __future__ import annotations

from collections.abc import Iterable
import itertools

from oslo_config import cfg
from oslo_log import log
from oslo_middleware import sizelimit

from external_events_router import conf as router_conf
from external_events_router import rabbit_driver
from external_events_router import rpc
from external_events_router.conf import database

#: Bytes. As many events as ``[api] max_events`` allows by default, each with a uuid as
#: its tag, have up to 1.7 MB. Nova's 114,688 bytes drop Neutron's larger batches whole.
MAX_REQUEST_BODY_SIZE = 2 * 1024 * 1024

#: Chatty libraries, quietened as their own services do it.
LOG_LEVELS = (
    'alembic=WARNING',
    'amqp=WARNING',
    'amqplib=WARNING',
    'kombu=WARNING',
    'oslo.messaging=INFO',
    'sqlalchemy=WARNING',
)


def list_opts() -> Iterable[tuple[str, list[cfg.Opt]]]:
    """Every option group of the service, in the order of the sample file."""
    return list(itertools.chain.from_iterable(group.list_opts() for group in router_conf.GROUPS))


def set_library_defaults() -> None:
    """Defaults of ours for options that belong to libraries."""
    rpc.set_defaults()
    rabbit_driver.set_defaults()
    database.set_defaults()
    cfg.set_defaults(sizelimit.OPTS, max_request_body_size=MAX_REQUEST_BODY_SIZE)
    log.set_defaults(default_log_levels=[*LOG_LEVELS, *log.get_default_log_levels()])
