"""The interface of host maps, from which the resolver learns the hosts of a server.

``[host_map] backend`` selects one of the modules of this package.
"""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Mapping
import dataclasses
import re
from typing import Protocol
from typing import runtime_checkable

from external_events_router import checks
from external_events_router import events
from external_events_router import exceptions
from external_events_router import host_lines

#: Servers that have held events, each with the hosts that have acknowledged all of these
#: events. A later event is sent to those hosts immediately, and is held for the other hosts.
HeldServers = Mapping[str, frozenset[str]]

#: Hosts of each known server: none, one, or two while it migrates. A server
#: that is not a key is unknown.
Hosts = Mapping[str, tuple[str, ...]]

#: Maximum characters of a host name, with the default of ``[compute] topic``.
DEFAULT_LONGEST_HOST = host_lines.DEFAULT_LONGEST_HOST


@dataclasses.dataclass(frozen=True, slots=True)
class Lookup:
    """The result of a look-up for the servers of a batch.

    :ivar hosts: hosts of each known server
    :ivar unavailable: servers that could not be looked up
    :ivar reason: the reason, if some servers are unavailable
    :ivar reasons: reasons for single servers, if they differ
    :ivar records: further data of a server with hosts, only for the driver that belongs to the source
    :ivar held_servers: the known servers that have held events; None: the source does not contain this
    :ivar remembered: servers whose hosts are from the cache, because their source was not asked or has not
        answered
    """

    hosts: Hosts
    unavailable: frozenset[str] = frozenset()
    reason: str | None = None
    reasons: Mapping[str, str] = dataclasses.field(default_factory=dict)
    records: Mapping[str, object] = dataclasses.field(default_factory=dict)
    held_servers: HeldServers | None = None
    remembered: frozenset[str] = frozenset()

    def only(self, server_uuids: frozenset[str]) -> Lookup:
        """Return the part for some of the servers."""
        if self.hosts.keys() <= server_uuids and self.unavailable <= server_uuids:
            return self
        return dataclasses.replace(
            self,
            hosts={server: self.hosts[server] for server in server_uuids if server in self.hosts},
            unavailable=self.unavailable & server_uuids,
            remembered=self.remembered & server_uuids,
            records={server: self.records[server] for server in server_uuids if server in self.records},
            held_servers=None
            if self.held_servers is None
            else {server: free for server, free in self.held_servers.items() if server in server_uuids},
        )

    def why(self, server_uuid: str) -> str:
        """Return why a server is unavailable."""
        return self.reasons.get(server_uuid) or self.reason or 'the host map cannot be asked'


@dataclasses.dataclass(frozen=True, slots=True)
class Change:
    """The changes by a report.

    :ivar gained: servers that are now on the host and were not
    :ivar lost: servers that were on the host before the report
    """

    gained: frozenset[str] = frozenset()
    lost: frozenset[str] = frozenset()


class HostMap(Protocol):
    """The read access to a map. Thread-safe."""

    def hosts_of(self, server_uuids: Collection[str]) -> Hosts:
        """Look up the servers of a batch with one query, for any number of servers.

        :param server_uuids: canonical uuids
        :raises DatabaseUnavailable: the source is unavailable
        """
        ...

    def check(self) -> None:
        """Check at start that the source can be used.

        :raises ConfigurationError: with the name of the option that is not valid
        """
        ...

    def close(self) -> None:
        """Close the connections."""
        ...


@runtime_checkable
class DetailedHostMap(HostMap, Protocol):
    """A map whose look-up returns more than hosts: see :class:`Lookup`.

    :ivar includes_held_servers: whether the look-up returns the servers that have held events
    """

    includes_held_servers: bool

    def look_up(self, server_uuids: Collection[str], *, timeout: float) -> Lookup:
        """Look up servers as :meth:`hosts_of`, with the details.

        :param timeout: maximum seconds to wait for the sources
        :raises DatabaseUnavailable: no server could be looked up
        """
        ...


@runtime_checkable
class PartialHostMap(DetailedHostMap, Protocol):
    """A map with several sources, of which some may fail while other sources answer.

    A source that fails makes only its own servers unavailable.
    """

    def warm(self) -> None:
        """Find the sources and connect to them, so that the first batch does not have to wait.

        An unavailable source is only logged.
        """
        ...


@runtime_checkable
class WritableHostMap(HostMap, Protocol):
    """A map that this service owns. It is changed by RPC and by commands.

    All methods raise ``DatabaseUnavailable`` if they cannot write, and ``MalformedMessage`` for an invalid
    server uuid or host name.
    """

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

    def report(self, host: str, server_uuids: Collection[str]) -> Change:
        """Make the servers of a host exactly these; unknown ones become known.

        A server that the host no longer has stays known.
        """
        ...


def server_uuid(text: str) -> str:
    """Return the canonical form of the uuid of a server, from any usual form.

    :raises MalformedMessage: it is not a uuid
    """
    canonical = events.canonical_uuid(text) if isinstance(text, str) else None
    if canonical is None:
        raise exceptions.MalformedMessage(what='server uuid', value=text)
    return canonical


def host_name(text: str, *, longest: int = DEFAULT_LONGEST_HOST) -> str:
    """Return the name of a host unchanged: letters, digits, and any of ``.-_:@``.

    :param longest: characters, see ``checks.longest_host``
    :raises MalformedMessage: it is none
    """
    if not checks.is_host(text, longest):
        raise exceptions.MalformedMessage(what='host name', value=text)
    return text


def stored_host_name(text: str) -> str:
    """Check a name that an older release may have stored; it allowed more characters.

    :raises MalformedMessage: it is none
    """
    if not isinstance(text, str) or not _STORED.fullmatch(text):
        raise exceptions.MalformedMessage(what='host name', value=text)
    return text


_STORED = re.compile('[!-~]{1,255}')
