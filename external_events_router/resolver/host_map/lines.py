"""A whole file of the host map, sorted and without duplicates, in bounded memory.

``host_lines`` describes its lines. This module does not use the database of the service.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
import itertools
import sqlite3

from external_events_router import exceptions
from external_events_router import host_lines

#: Lines that are written to the spool, or read from it, at a time.
CHUNK = 1000


class Spool:
    """A whole file of entries, on disk until it is closed, one entry per server.

    It is private to this process and takes about 100 bytes of disk per server
    (in ``SQLITE_TMPDIR``, ``TMPDIR``, ``/var/tmp`` or ``/tmp``).
    """

    def __init__(self, *, longest_host: int = host_lines.DEFAULT_LONGEST_HOST) -> None:
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
                    entry = host_lines.parse(number, line, longest_host=self._longest_host)
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
