"""Sources of the servers on a host, which the agent reports to the resolver.

A source is called for every event, so it answers from memory. If a source does not know the servers,
the agent accepts every event. ``reporter`` sends the reports.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Iterable
import logging
import os
import threading
from typing import Protocol

from oslo_config import cfg

from external_events_router import checks
from external_events_router import exceptions
from external_events_router import host_lines
from external_events_router import plugins
from external_events_router.process import essential

LOG = logging.getLogger(__name__)

#: Entry points of sources that ``[agent] source`` can name. Each is a class with a class method
#: ``from_conf(conf, hosts)`` that returns a source for some hosts.
NAMESPACE = 'external_events_router.agent.sources'

#: Seconds between two checks of the file of a :class:`FileSource`.
LOOK_INTERVAL = 1.0

#: Log message about a file with invalid lines.
SKIPPED = '%s contains invalid lines, which are ignored; correct them. The first: %s'


class Source(Protocol):
    """Knows the servers of one or more hosts. Thread-safe."""

    def servers(self, host: str) -> Collection[str] | None:
        """Return the uuids of all servers on a host in canonical form, or None if they are unknown.

        Called for every event. Return a set from memory.
        """
        ...

    def watch(self, changed: Callable[[], None]) -> None:
        """Register a function that is called, on any thread, when a result may have changed."""
        ...

    def close(self) -> None:
        """Call no more functions, and release resources."""
        ...


class NoSource:
    """A source that does not know the servers."""

    @classmethod
    def from_conf(cls, conf: cfg.ConfigOpts, hosts: Iterable[str]) -> NoSource:
        """Build the source from the configuration."""
        return cls()

    def servers(self, host: str) -> None:
        """Return None."""

    def watch(self, changed: Callable[[], None]) -> None:
        """Do nothing: the result never changes."""

    def close(self) -> None:
        """Do nothing: there are no resources."""


class FileSource:
    """Lines of JSON in a file, ``{"server": "<uuid>", "hosts": ["<host>"]}``; see ``host_lines``.

    The file is read again when it changes. Write a new file and rename it to this path, so that a
    half-written file is never read. While a changed file cannot be read, the last content stays in
    effect. An invalid line is skipped with a warning. It may be the line of any server, so while the
    file contains one, servers of the last content keep their hosts.
    """

    def __init__(
        self,
        path: str,
        hosts: Iterable[str],
        *,
        longest_host: int = host_lines.DEFAULT_LONGEST_HOST,
        look_interval: float = LOOK_INTERVAL,
    ) -> None:
        """Read the file.

        :param hosts: hosts of this agent; servers of other hosts are ignored
        :param longest_host: characters of a host name, see ``checks.longest_host``
        :raises OSError: the file cannot be read
        :raises BadLine: no line is valid
        """
        self._path = path
        self._longest_host = longest_host
        self._look_interval = look_interval
        # Guards the attributes below; held while the file is read.
        self._lock = threading.Lock()
        self._hosts = frozenset(hosts)
        self._stamp = _stamp(path)
        self._servers, problem = _read(path, self._hosts, longest_host)
        if problem is not None:
            LOG.warning(SKIPPED, path, problem)
        self._watchers: list[Callable[[], None]] = []
        self._closed = threading.Event()

    @classmethod
    def from_conf(cls, conf: cfg.ConfigOpts, hosts: Iterable[str]) -> FileSource:
        """Build the source from the configuration.

        :raises ConfigurationError: no file is configured, or it cannot be used
        """
        option = '[agent] source_file'
        if not conf.agent.source_file:
            raise exceptions.ConfigurationError(
                option=option, reason='is not set, but source = file needs it'
            )
        try:
            longest = checks.longest_host(conf.compute.topic)
            return cls(conf.agent.source_file, hosts, longest_host=longest)
        except (OSError, exceptions.BadLine) as exc:
            reason = f'{conf.agent.source_file}: {getattr(exc, "strerror", None) or exc}'
            raise exceptions.ConfigurationError(option=option, reason=reason) from exc

    def servers(self, host: str) -> Collection[str] | None:
        """Return the servers of lines that name the host."""
        self._refresh()
        with self._lock:
            return self._servers.get(host, frozenset())

    def watch(self, changed: Callable[[], None]) -> None:
        """Call a function after the file was read again."""
        with self._lock:
            self._watchers.append(changed)
            first = len(self._watchers) == 1
        if first:
            essential.EssentialThread(self._look, name='source-file', is_stopped=self._closed.is_set).start()

    def close(self) -> None:
        """Stop checking the file."""
        self._closed.set()

    def _look(self) -> None:
        while not self._closed.wait(self._look_interval):
            self._refresh()

    def _refresh(self) -> None:
        with self._lock:
            if (stamp := _stamp(self._path)) == self._stamp:
                return
            self._stamp = stamp
            problem = self._read_again()
            watchers = tuple(self._watchers)
        if problem:
            LOG.warning('%s cannot be used: %s; its last content stays in effect', self._path, problem)
            return
        for changed in watchers:
            changed()

    def _read_again(self) -> str | None:
        try:
            servers, problem = _read(self._path, self._hosts, self._longest_host)
        except (OSError, exceptions.BadLine) as exc:
            return str(exc)
        if problem is not None:
            LOG.warning(SKIPPED, self._path, problem)
            servers = {host: found | self._servers[host] for host, found in servers.items()}
        self._servers = servers
        return None


def load(conf: cfg.ConfigOpts, hosts: Iterable[str]) -> Source:
    """Create the source that ``[agent] source`` names.

    :raises ConfigurationError: the name is unknown, or the source cannot be created
    """
    plugin = plugins.load(NAMESPACE, conf.agent.source, option='[agent] source')
    source: Source = plugin.from_conf(conf, hosts)
    return source


def _stamp(path: str) -> tuple[int, int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def _read(
    path: str, hosts: frozenset[str], longest_host: int
) -> tuple[dict[str, frozenset[str]], exceptions.BadLine | None]:
    """Return the servers of each host, and the first invalid line.

    :raises OSError: the file cannot be read
    :raises BadLine: no line is valid
    """
    servers: dict[str, set[str]] = {host: set() for host in hosts}
    problem: exceptions.BadLine | None = None
    used = 0
    with open(path, 'rb') as file:
        for number, line in enumerate(host_lines.read(file), 1):
            try:
                entry = host_lines.parse(number, line, longest_host=longest_host)
            except exceptions.BadLine as exc:
                problem = problem or exc
                continue
            if entry is None:
                continue
            used += 1
            for host in hosts.intersection(entry.hosts):
                servers[host].add(entry.server_uuid)
    if problem is not None and not used:
        raise problem
    return {host: frozenset(found) for host, found in servers.items()}, problem
