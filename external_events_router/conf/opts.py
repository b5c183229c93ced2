"""Functions for oslo-config-generator: the options of this package, and defaults for other libraries."""

from __future__ import annotations

from collections.abc import Iterable
import itertools

from oslo_config import cfg
from oslo_log import log
from oslo_middleware import sizelimit

from external_events_router import conf as router_conf
from external_events_router.conf import database
from external_events_router.messaging import rabbit_driver
from external_events_router.messaging import rpc

#: Bytes. The default ``[api] max_events``, with a uuid as the tag of each event, has up to 1.7 MB.
#: With the limit of Nova, 114,688 bytes, whole larger batches of Neutron would be lost.
MAX_REQUEST_BODY_SIZE = 2 * 1024 * 1024

#: Log levels for libraries that log a lot, as in the services of these libraries.
LOG_LEVELS = (
    'alembic=WARNING',
    'amqp=WARNING',
    'amqplib=WARNING',
    'kombu=WARNING',
    'oslo.messaging=INFO',
    'sqlalchemy=WARNING',
)


def list_opts() -> Iterable[tuple[str, list[cfg.Opt]]]:
    """Return all option groups of the service, in the order of the sample file."""
    return list(itertools.chain.from_iterable(group.list_opts() for group in router_conf.GROUPS))


def set_library_defaults() -> None:
    """Set the defaults of this service for options of libraries."""
    rpc.set_defaults()
    rabbit_driver.set_defaults()
    database.set_defaults()
    cfg.set_defaults(sizelimit.OPTS, max_request_body_size=MAX_REQUEST_BODY_SIZE)
    log.set_defaults(default_log_levels=[*LOG_LEVELS, *log.get_default_log_levels()])
