"""Host maps: where the resolver learns on which hosts a server is.

``base`` says what a host map is; beside it a module per source, and
``guarded``, which stands between any of them and the resolver.
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
    """The host map of ``[host_map] backend``. It connects at its first use.

    :raises ConfigurationError: there is none of this name, or its own options cannot be used
    """
    backend = plugins.load(NAMESPACE, conf.host_map.backend, option='[host_map] backend')
    return cast(base.HostMap, backend.from_conf(conf))


def load_guarded(conf: cfg.ConfigOpts) -> guarded.GuardedHostMap:
    """The host map of ``[host_map] backend`` as a resolver worker uses it.

    :raises ConfigurationError: as :func:`load`
    """
    return guarded.GuardedHostMap(
        load(conf), timeout=conf.host_map.timeout, remembered=conf.host_map.remembered_servers
    )


def check(conf: cfg.ConfigOpts) -> None:
    """Insist, before any worker is started, that the host map can be asked.

    :raises ConfigurationError: naming the option to look at
    """
    host_map = load(conf)
    try:
        host_map.check()
    finally:
        host_map.close()
