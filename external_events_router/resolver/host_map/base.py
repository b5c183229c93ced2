"""What a host map is: where the resolver learns on which hosts a server is.

One module per source beside this one; which is used says ``[host_map] backend``.
"""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Mapping
from typing import Protocol

#: Hosts of each known server: none, one, or two while it migrates. A server
#: that is not a key is unknown.
Hosts = Mapping[str, tuple[str, ...]]


class HostMap(Protocol):
    """Reading a map. Thread-safe."""

    def hosts_of(self, server_uuids: Collection[str]) -> Hosts:
        """Look up a batch's servers, in one query whatever their number.

        :param server_uuids: canonical uuids
        :raises DatabaseUnavailable: the source cannot be asked
        """
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...


class WritableHostMap(HostMap, Protocol):
    """A map that is the service's own: told by RPC and by the command line."""

    def assign(self, server_uuid: str, host: str) -> None:
        """Put a server on a host (too); an unknown server becomes known."""
        ...

    def unassign(self, server_uuid: str, host: str) -> None:
        """Take a server from a host.

        :raises NoSuchServer: the map does not know it
        """
        ...

    def forget(self, server_uuid: str) -> None:
        """Make a server unknown.

        :raises NoSuchServer: the map does not know it
        """
        ...

    def report(self, host: str, server_uuids: Collection[str]) -> None:
        """Make the servers of a host exactly these; unknown ones become known."""
        ...
