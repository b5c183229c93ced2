"""What a host map is: where the resolver learns on which hosts a server is.

One module per source beside this one; which is used says ``[host_map] backend``.
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

#: Servers that have held events, each with the hosts that have acknowledged all of these
#: events. A later event is sent to those hosts at once, and is held for the other hosts.
HeldServers = Mapping[str, frozenset[str]]

#: Hosts of each known server: none, one, or two while it migrates. A server
#: that is not a key is unknown.
Hosts = Mapping[str, tuple[str, ...]]

#: Characters of a host name, with the default of ``[compute] topic``.
DEFAULT_LONGEST_HOST = checks.longest_host('compute')


@dataclasses.dataclass(frozen=True, slots=True)
class Lookup:
    """What one look-up of a batch's servers found.

    :ivar hosts: hosts of each known server
    :ivar unavailable: servers of which nothing could be learned
    :ivar reason: why, where some are unavailable
    :ivar reasons: why, for servers that have a reason of their own
    :ivar records: what else the source knows of a server that has hosts, for
        the deliverer that goes with it; nobody else looks into it
    :ivar held_servers: the known servers that have held events; None: the source does not
        know
    :ivar remembered: the source was not asked, or has not answered: the hosts are those
        that it told before
    """

    hosts: Hosts
    unavailable: frozenset[str] = frozenset()
    reason: str | None = None
    reasons: Mapping[str, str] = dataclasses.field(default_factory=dict)
    records: Mapping[str, object] = dataclasses.field(default_factory=dict)
    held_servers: HeldServers | None = None
    remembered: bool = False

    def only(self, server_uuids: frozenset[str]) -> Lookup:
        """What of it is about some of the servers."""
        if self.hosts.keys() <= server_uuids and self.unavailable <= server_uuids:
            return self
        return dataclasses.replace(
            self,
            hosts={server: self.hosts[server] for server in server_uuids if server in self.hosts},
            unavailable=self.unavailable & server_uuids,
            records={server: self.records[server] for server in server_uuids if server in self.records},
            held_servers=None
            if self.held_servers is None
            else {server: free for server, free in self.held_servers.items() if server in server_uuids},
        )

    def why(self, server_uuid: str) -> str:
        """Why a server is unavailable."""
        return self.reasons.get(server_uuid) or self.reason or 'the host map cannot be asked'


@dataclasses.dataclass(frozen=True, slots=True)
class Change:
    """What a report changed.

    :ivar gained: servers that are now on the host and were not
    :ivar lost: servers that were on the host and no longer are
    """

    gained: frozenset[str] = frozenset()
    lost: frozenset[str] = frozenset()


class HostMap(Protocol):
    """Reading a map. Thread-safe."""

    def hosts_of(self, server_uuids: Collection[str]) -> Hosts:
        """Look up a batch's servers, in one query whatever their number.

        :param server_uuids: canonical uuids
        :raises DatabaseUnavailable: the source cannot be asked
        """
        ...

    def check(self) -> None:
        """Insist, at start, that the source can be asked.

        :raises ConfigurationError: naming the option to look at
        """
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...


@runtime_checkable
class DetailedHostMap(HostMap, Protocol):
    """A map whose look-up returns more than hosts: see :class:`Lookup`.

    :ivar includes_held_servers: whether the look-up returns the servers that have held events
    """

    includes_held_servers: bool

    def look_up(self, server_uuids: Collection[str], *, timeout: float) -> Lookup:
        """As :meth:`hosts_of`, with the details.

        :param timeout: seconds after which a map of several sources waits for none of them
        :raises DatabaseUnavailable: nothing can be learned of any server
        """
        ...


@runtime_checkable
class PartialHostMap(DetailedHostMap, Protocol):
    """A map of several sources, some of which may fail while the others answer.

    A source that fails makes only its own servers unavailable.
    """

    def warm(self) -> None:
        """Find the sources and connect to them, so that the first batch does not have to wait for that.

        What cannot be reached now is only logged.
        """
        ...


@runtime_checkable
class WritableHostMap(HostMap, Protocol):
    """A map that is the service's own: told by RPC and by the command line.

    Every method raises ``DatabaseUnavailable`` where it cannot write, and
    ``MalformedMessage`` for what is no server uuid or no host's name.
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
    """The canonical form of a server's uuid, from any usual one.

    :raises MalformedMessage: it is no uuid
    """
    canonical = events.canonical_uuid(text) if isinstance(text, str) else None
    if canonical is None:
        raise exceptions.MalformedMessage(what='server uuid', value=text)
    return canonical


def host_name(text: str, *, longest: int = DEFAULT_LONGEST_HOST) -> str:
    """The name of a host as it is: letters, digits, and any of ``.-_:@``.

    :param longest: characters, see ``checks.longest_host``
    :raises MalformedMessage: it is none
    """
    if not checks.is_host(text, longest):
        raise exceptions.MalformedMessage(what='host name', value=text)
    return text


def stored_host_name(text: str) -> str:
    """A name that the map may have from an older release, which allowed more characters.

    :raises MalformedMessage: it is none
    """
    if not isinstance(text, str) or not _STORED.fullmatch(text):
        raise exceptions.MalformedMessage(what='host name', value=text)
    return text


_STORED = re.compile('[!-~]{1,255}')
