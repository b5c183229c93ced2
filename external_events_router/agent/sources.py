"""Which servers are on a host: what the agent reports to the resolver.

A source is asked for every event, so it answers from memory. It may also not
know, and then every event is taken as the host's own. Reporting is the
reporter's.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Iterable
import json
import logging
import os
import threading
from typing import Protocol
import uuid

from oslo_config import cfg

from external_events_router import checks
from external_events_router import exceptions
from external_events_router import plugins
from external_events_router.process import essential

LOG = logging.getLogger(__name__)

#: Entry points of sources that ``[agent] source`` can name. Each is a class with
#: a class method ``from_conf(conf, hosts)`` that makes a source for some hosts.
NAMESPACE = 'external_events_router.agent.sources'

#: Seconds between two looks at the file of a :class:`FileSource`.
LOOK_INTERVAL = 1.0

#: What is logged about a file with lines that cannot be used.
SKIPPED = '%s has lines that cannot be used, the others are: %s'


class Source(Protocol):
    """Knows the servers of one host or more. Thread-safe."""

    def servers(self, host: str) -> Collection[str] | None:
        """Every server on a host, as canonical uuids, or None: it does not know.

        Asked for every event; an answer from memory is expected, and a set.
        """
        ...

    def watch(self, changed: Callable[[], None]) -> None:
        """Have a function called, on any thread, when an answer may be another."""
        ...

    def close(self) -> None:
        """Call no more functions, let go of resources."""
        ...


class NoSource:
    """Does not know."""

    @classmethod
    def from_conf(cls, conf: cfg.ConfigOpts, hosts: Iterable[str]) -> NoSource:
        """The source that the configuration asks for."""
        return cls()

    def servers(self, host: str) -> None:
        """None."""

    def watch(self, changed: Callable[[], None]) -> None:
        """There is nothing to watch."""

    def close(self) -> None:
        """There is nothing to close."""


class FileSource:
    """JSON lines in a file, ``{"server": "<uuid>", "hosts": ["<host>"]}``.

    The file is read again when it has changed; write it beside and rename it
    into its place, so that it is never found half written. As long as a changed
    file cannot be read, the last answer stands. A line that cannot be used is skipped
    with a warning; because it may be the line of any server, servers of the last content
    stay on their hosts as long as the file has one.
    """

    def __init__(self, path: str, hosts: Iterable[str], *, look_interval: float = LOOK_INTERVAL) -> None:
        """Read the file.

        :param hosts: the hosts it will be asked for; the others' lines are skipped
        :raises OSError: it cannot be read
        :raises BadLine: none of its lines can be used
        """
        self._path = path
        self._look_interval = look_interval
        # Guards what follows; held while the file is read.
        self._lock = threading.Lock()
        self._hosts = frozenset(hosts)
        self._stamp = _stamp(path)
        self._servers, problem = _read(path, self._hosts)
        if problem is not None:
            LOG.warning(SKIPPED, path, problem)
        self._watchers: list[Callable[[], None]] = []
        self._closed = threading.Event()

    @classmethod
    def from_conf(cls, conf: cfg.ConfigOpts, hosts: Iterable[str]) -> FileSource:
        """The source that the configuration asks for.

        :raises ConfigurationError: no file, or one that cannot be used
        """
        option = '[agent] source_file'
        if not conf.agent.source_file:
            raise exceptions.ConfigurationError(option=option, reason='the file source needs a file')
        try:
            return cls(conf.agent.source_file, hosts)
        except (OSError, exceptions.BadLine) as exc:
            reason = f'{conf.agent.source_file}: {getattr(exc, "strerror", None) or exc}'
            raise exceptions.ConfigurationError(option=option, reason=reason) from exc

    def servers(self, host: str) -> Collection[str] | None:
        """The servers whose lines name the host."""
        self._refresh()
        with self._lock:
            return self._servers.get(host, frozenset())

    def watch(self, changed: Callable[[], None]) -> None:
        """Have a function called after the file was read again."""
        with self._lock:
            self._watchers.append(changed)
            first = len(self._watchers) == 1
        if first:
            essential.EssentialThread(self._look, name='source-file', is_stopped=self._closed.is_set).start()

    def close(self) -> None:
        """Stop to look at the file."""
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
            LOG.warning('%s cannot be used, its last content stands: %s', self._path, problem)
            return
        for changed in watchers:
            changed()

    def _read_again(self) -> str | None:
        try:
            servers, problem = _read(self._path, self._hosts)
        except (OSError, exceptions.BadLine) as exc:
            return str(exc)
        if problem is not None:
            LOG.warning(SKIPPED, self._path, problem)
            servers = {host: found | self._servers[host] for host, found in servers.items()}
        self._servers = servers
        return None


def load(conf: cfg.ConfigOpts, hosts: Iterable[str]) -> Source:
    """The source that ``[agent] source`` names.

    :raises ConfigurationError: there is none of this name, or it lacks something
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


def _read(path: str, hosts: frozenset[str]) -> tuple[dict[str, frozenset[str]], exceptions.BadLine | None]:
    """The servers of each host, and the first line that cannot be used.

    :raises OSError: the file cannot be read
    :raises BadLine: none of its lines can be used
    """
    servers: dict[str, set[str]] = {host: set() for host in hosts}
    problem: exceptions.BadLine | None = None
    used = 0
    with open(path, encoding='utf-8', errors='surrogateescape') as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                server, on = _parse(line, number)
            except exceptions.BadLine as exc:
                problem = problem or exc
                continue
            used += 1
            for host in hosts.intersection(on):
                servers[host].add(server)
    if problem is not None and not used:
        raise problem
    return {host: frozenset(found) for host, found in servers.items()}, problem


def _parse(line: str, number: int) -> tuple[str, list[str]]:
    try:
        entry = json.loads(line)
        server, hosts = str(uuid.UUID(entry['server'])), entry['hosts']
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
        raise exceptions.BadLine(
            number=number, reason=f'not a server and its hosts: {checks.shown(exc)}'
        ) from exc
    if not isinstance(hosts, list) or not all(isinstance(host, str) for host in hosts):
        raise exceptions.BadLine(number=number, reason='"hosts" is not a list of names')
    return server, hosts
