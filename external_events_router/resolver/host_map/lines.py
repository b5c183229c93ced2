"""The host map as a file: one JSON object per line.

Reads, writes and checks lines, and keeps a whole file sorted and without
duplicates in bounded memory. It does not use the database of the service.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
import dataclasses
import itertools
import json
import sqlite3
from typing import Any
from typing import BinaryIO

from external_events_router import exceptions
from external_events_router.resolver.host_map import base

#: Bytes. A server with hundreds of hosts fits; a file without line ends does not.
MAX_LINE = 65536

_MEMBERS = frozenset({'server', 'hosts'})

#: Lines that are written to the spool, or read from it, at a time.
CHUNK = 1000


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """A server and the hosts that it is on, sorted."""

    server_uuid: str
    hosts: tuple[str, ...]

    def to_line(self) -> str:
        """Return the entry as a line, without the end of the line."""
        return json.dumps({'server': self.server_uuid, 'hosts': list(self.hosts)})


def read(file: BinaryIO) -> Iterator[bytes]:
    """Return the lines of a file; each has at most one byte more than :data:`MAX_LINE`."""
    return iter(lambda: file.readline(MAX_LINE + 1), b'')


def parse(number: int, line: bytes, *, longest_host: int = base.DEFAULT_LONGEST_HOST) -> Entry | None:
    """Return the entry of a line; None for a blank line.

    :param number: the number of the line, from 1
    :param longest_host: characters of a host name
    :raises BadLine: the line is not valid; with the reason
    """
    if len(line) > MAX_LINE:
        raise exceptions.BadLine(number=number, reason=f'longer than {MAX_LINE} bytes')
    if not line.strip():
        return None
    try:
        data = json.loads(line.decode('utf-8-sig' if number == 1 else 'utf-8'))
    except UnicodeDecodeError as exc:
        raise exceptions.BadLine(number=number, reason='not UTF-8') from exc
    except (ValueError, RecursionError) as exc:
        raise exceptions.BadLine(number=number, reason=f'not JSON ({exc})') from exc
    try:
        return _entry(data, longest_host)
    except (TypeError, exceptions.MalformedMessage) as exc:
        raise exceptions.BadLine(number=number, reason=str(exc)) from exc


def _entry(data: Any, longest_host: int) -> Entry:
    if not isinstance(data, dict) or not isinstance(data.get('server'), str):
        raise TypeError('not an object with a server\'s uuid as "server"')
    if not data.keys() <= _MEMBERS:
        raise TypeError(f'unknown member {min(data.keys() - _MEMBERS)!r}')
    hosts = data.get('hosts', [])
    if not isinstance(hosts, list) or not all(isinstance(host, str) for host in hosts):
        raise TypeError('"hosts" is not a list of names')
    if len(set(hosts)) < len(hosts):
        raise TypeError('"hosts" names a host twice')
    names = sorted(base.host_name(host, longest=longest_host) for host in hosts)
    return Entry(base.server_uuid(data['server']), tuple(names))


class Spool:
    """A whole file of entries, on disk until it is closed, one entry per server.

    It is private to this process and takes about 100 bytes of disk per server
    (in ``SQLITE_TMPDIR``, ``TMPDIR``, ``/var/tmp`` or ``/tmp``).
    """

    def __init__(self, *, longest_host: int = base.DEFAULT_LONGEST_HOST) -> None:
        """:param longest_host: characters of a host name"""
        self._longest_host = longest_host
        # NOTE: an empty name is SQLite's for a file that is deleted when closed.
        self._database = sqlite3.connect('', isolation_level=None)
        for pragma in ('journal_mode = OFF', 'synchronous = OFF', 'cache_size = -16384'):
            self._database.execute(f'PRAGMA {pragma}')
        self._database.execute(
            'CREATE TABLE entries (server TEXT PRIMARY KEY, line INTEGER, hosts TEXT) WITHOUT ROWID'
        )
        self._database.execute('BEGIN')

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._database.close()

    def fill(self, lines: Iterable[bytes], *, progress: Callable[[int], None] = lambda done: None) -> None:
        """Read, check and keep lines.

        :param progress: called at intervals with the number of lines read
        :raises BadLine: for the first line that cannot be used
        """
        numbered = enumerate(lines, start=1)
        while chunk := list(itertools.islice(numbered, CHUNK)):
            rows = []
            try:
                for number, line in chunk:
                    entry = parse(number, line, longest_host=self._longest_host)
                    if entry is not None:
                        rows.append((entry.server_uuid, number, ' '.join(entry.hosts)))
            finally:
                # Also the lines before a bad line: a line among them may be a duplicate.
                self._add(rows)
            progress(chunk[-1][0])

    def __len__(self) -> int:
        count: int = self._database.execute('SELECT count(*) FROM entries').fetchone()[0]
        return count

    def chunks(self) -> Iterator[dict[str, tuple[str, ...]]]:
        """Return the hosts of each server, ordered by server, up to :data:`CHUNK` at a time."""
        cursor = self._database.execute('SELECT server, hosts FROM entries ORDER BY server')
        while rows := cursor.fetchmany(CHUNK):
            # A host name contains no blanks.
            yield {server: tuple(hosts.split()) for server, hosts in rows}

    def _add(self, rows: list[tuple[str, int, str]]) -> None:
        try:
            added = self._database.executemany('INSERT OR IGNORE INTO entries VALUES (?, ?, ?)', rows)
        except sqlite3.Error as exc:
            raise exceptions.RouterError(f'cannot keep the file while it is read: {exc}') from exc
        if added.rowcount < len(rows):
            for server, number, _hosts in rows:
                query = self._database.execute('SELECT line FROM entries WHERE server = ?', (server,))
                first = query.fetchone()[0]
                if first != number:
                    raise exceptions.BadLine(number=number, reason=f'server {server} is in line {first} too')
