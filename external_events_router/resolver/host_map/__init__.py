"""Host maps: where the resolver learns on which hosts a server is.

``base`` says what a host map is; beside it a module per source, and
``guarded``, which stands between any of them and the resolver.
"""

from __future__ import annotations

from typing import Any
from typing import cast

from oslo_config import cfg
import stevedore
from stevedore import exception as stevedore_exception

from external_events_router import exceptions
from external_events_router.resolver.host_map import base
from external_events_router.resolver.host_map import guarded

#: Entry points whose ``from_conf(conf)`` makes a :class:`base.HostMap`.
NAMESPACE = 'external_events_router.host_map'


def load(conf: cfg.ConfigOpts) -> base.HostMap:
    """The host map of ``[host_map] backend``. It connects at its first use.

    :raises ConfigurationError: there is none of this name, or its own options cannot be used
    """
    name = conf.host_map.backend
    try:
        manager: stevedore.DriverManager[Any] = stevedore.DriverManager(
            NAMESPACE, name, warn_on_missing_entrypoint=False
        )
    except stevedore_exception.NoMatches as exc:
        names: stevedore.ExtensionManager[Any] = stevedore.ExtensionManager(NAMESPACE)
        known = ', '.join(sorted(names.entry_points_names()))
        raise exceptions.ConfigurationError(
            option='[host_map] backend', reason=f'there is no {name!r}, only: {known}'
        ) from exc
    backend: Any = manager.driver
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
