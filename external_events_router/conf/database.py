"""``[database]``: the options of oslo.db, with other defaults.

oslo.db lists its options for the sample file itself, so :func:`list_opts` returns none.
The service does not use the options for a second, read-only database, nor ``max_retries``: a
service that cannot reach its database at start logs an error and ends.
"""

from __future__ import annotations

from oslo_config import cfg
from oslo_db import options

GROUP = 'database'

#: Seconds that a thread waits for a connection from the pool.
POOL_TIMEOUT = 5

#: Connections that the pool of a worker keeps. Connections beyond this number are closed after
#: one transaction, and opening a connection takes ten times as long as a transaction.
POOL_SIZE = 20


def set_defaults() -> None:
    """Set the defaults of this service for options of oslo.db."""
    cfg.set_defaults(options.database_opts, pool_timeout=POOL_TIMEOUT, max_pool_size=POOL_SIZE)


def register_opts(conf: cfg.ConfigOpts) -> None:
    conf.register_opts(options.database_opts, group=GROUP)


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    return []


def library_opts() -> list[tuple[str, list[cfg.Opt]]]:
    """Return the options of oslo.db in the format of :func:`list_opts`."""
    return [(GROUP, options.database_opts)]
