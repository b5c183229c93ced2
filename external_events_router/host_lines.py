"""The lines of a file that lists servers and their hosts: one JSON object per line.

The host map is exported and imported in this form, and agents can read their servers from such a file.
"""

from __future__ import annotations

from collections.abc import Iterator
import dataclasses
import json
from typing import Any
from typing import BinaryIO

from external_events_router import checks
from external_events_router import events
from external_events_router import exceptions

#: Bytes. A server with hundreds of hosts fits; a file without line ends does not.
MAX_LINE = 65536

#: Characters of a host name, with the default of ``[compute] topic``.
DEFAULT_LONGEST_HOST = checks.longest_host('compute')

_MEMBERS = frozenset({'server', 'hosts'})


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """A server and the hosts that it is on, sorted.

    :ivar server_uuid: canonical
    """

    server_uuid: str
    hosts: tuple[str, ...]

    def to_line(self) -> str:
        """Return the entry as a line, without the end of the line."""
        return json.dumps({'server': self.server_uuid, 'hosts': list(self.hosts)})


def read(file: BinaryIO) -> Iterator[bytes]:
    """Return the lines of a file; each has at most one byte more than :data:`MAX_LINE`."""
    return iter(lambda: file.readline(MAX_LINE + 1), b'')


def parse(number: int, line: bytes, *, longest_host: int = DEFAULT_LONGEST_HOST) -> Entry | None:
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
    for host in hosts:
        if not checks.is_host(host, longest_host):
            raise exceptions.MalformedMessage(what='host name', value=host)
    server_uuid = events.canonical_uuid(data['server'])
    if server_uuid is None:
        raise exceptions.MalformedMessage(what='server uuid', value=data['server'])
    return Entry(server_uuid, tuple(sorted(hosts)))
