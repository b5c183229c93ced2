"""The hosts of one server in the host map of this service."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from oslo_config import cfg

from external_events_router import checks
from external_events_router import exceptions
from external_events_router.db import session
from external_events_router.resolver.host_map import base
from external_events_router.resolver.host_map import sql


def open_map(conf: cfg.ConfigOpts, database: session.Database) -> sql.SqlHostMap:
    """Return the host map in a database."""
    return sql.SqlHostMap(database, longest_host=checks.longest_host(conf.compute.topic))


def check_writable(conf: cfg.ConfigOpts) -> None:
    """Check that the router uses the host map of this service.

    :raises ReadOnlyHostMap: it uses another host map
    """
    if conf.host_map.backend != 'sql':
        raise exceptions.ReadOnlyHostMap(reason=f'[host_map] backend is {conf.host_map.backend}')


def show(servers: sql.SqlHostMap, server: str) -> dict[str, Any]:
    """Return the hosts of a server.

    :raises NoSuchServer: the map does not contain the server
    """
    return {'server': base.server_uuid(server), 'hosts': list(servers.show(server))}


def assign(
    servers: sql.SqlHostMap, server: str, host: str, *, expected: Collection[str] | None = None
) -> dict[str, Any]:
    """Add a host to a server, which becomes known, and return all its hosts.

    :param expected: the hosts of the server, as the caller knows them; None: any
    :raises Conflict: the server has other hosts; nothing was changed
    :raises MalformedMessage: the server or the host is not valid
    """
    servers.assign(server, host, expected=expected)
    return show(servers, server)


def unassign(
    servers: sql.SqlHostMap, server: str, host: str, *, expected: Collection[str] | None = None
) -> dict[str, Any]:
    """Remove a host from a server, which stays known, and return its other hosts. See :func:`assign`.

    :raises NoSuchServer: the map does not contain the server
    """
    servers.unassign(server, host, expected=expected)
    return show(servers, server)


def forget(servers: sql.SqlHostMap, server: str, *, expected: Collection[str] | None = None) -> None:
    """Delete a server from the map. See :func:`assign`.

    :raises NoSuchServer: the map does not contain the server
    """
    servers.forget(server, expected=expected)
