"""``[database]``: oslo.db's options, with defaults of ours.

oslo.db lists them itself for the sample file, so :func:`list_opts` does not.
Not used are those for a second, read-only database, and ``max_retries``: a
service that cannot reach its database at start says so at once and ends.
"""

from __future__ import annotations

from oslo_config import cfg
from oslo_db import options

GROUP = 'database'

#: Seconds that a thread waits for a connection of the pool.
POOL_TIMEOUT = 5

#: Connections that a worker keeps. What is opened beyond them is closed again after its
#: one transaction, and opening one takes ten times what a transaction does.
POOL_SIZE = 20


def set_defaults() -> None:
    """Our defaults for oslo.db's options."""
    cfg.set_defaults(options.database_opts, pool_timeout=POOL_TIMEOUT, max_pool_size=POOL_SIZE)


def register_opts(conf: cfg.ConfigOpts) -> None:
    conf.register_opts(options.database_opts, group=GROUP)


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    return []


def library_opts() -> list[tuple[str, list[cfg.Opt]]]:
    """The options as :func:`list_opts` would have them, were they ours."""
    return [(GROUP, options.database_opts)]
