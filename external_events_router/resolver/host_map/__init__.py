"""Host maps: the sources from which the resolver learns the hosts of a server.

``base`` defines the interface. Each source has a module. ``guarded`` adds time limits and a cache to a
source, for the resolver.
"""

from __future__ import annotations

from typing import cast

from oslo_config import cfg

from external_events_router import plugins
from external_events_router.resolver.host_map import base
from external_events_router.resolver.host_map import guarded

#: Entry points whose ``from_conf(conf)`` makes a :class:`base.HostMap`.
NAMESPACE = 'external_events_router.host_map'


def load(conf: cfg.ConfigOpts) -> base.HostMap:
    """Return the host map of ``[host_map] backend``. It connects at its first use.

    :raises ConfigurationError: the name is unknown, or the options of the host map are not valid
    """
    backend = plugins.load(NAMESPACE, conf.host_map.backend, option='[host_map] backend')
    return cast(base.HostMap, backend.from_conf(conf))


def load_guarded(conf: cfg.ConfigOpts) -> guarded.GuardedHostMap:
    """Return the host map of ``[host_map] backend`` with time limits and a cache, for a resolver worker.

    :raises ConfigurationError: see :func:`load`
    """
    return guarded.GuardedHostMap(
        load(conf), timeout=conf.host_map.timeout, remembered=conf.host_map.remembered_servers
    )


def check(conf: cfg.ConfigOpts) -> None:
    """Check before a worker is started that the host map can be used.

    :raises ConfigurationError: with the name of the option that is not valid
    """
    host_map = load(conf)
    try:
        host_map.check()
    finally:
        host_map.close()
