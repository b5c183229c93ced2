"""URLs of cell mappings that are templates. They are filled from the URLs that nova-api uses."""

from __future__ import annotations

import re
import urllib.parse

from external_events_router import exceptions

_HOLE = re.compile(r'\{\{|\}\}|\{(\w+)\}')


def fill(template: str, source: str | None, *, option: str) -> str:
    """Return the URL of a cell mapping.

    A variable is the name of a part of the source in braces: ``scheme``, ``username``, ``password``,
    ``hostname``, ``port``, ``path``, ``query`` or ``fragment``. If the source contains several hosts,
    ``username``, ``password``, ``hostname`` and ``port`` can be followed by the number of a host, from 1.
    Other text is not changed.

    :param source: the URL that contains the values
    :param option: option that contains the source, for the error
    :raises ConfigurationError: the source does not contain a value, or is not a URL
    """
    if '{' not in template:
        return template
    if not source:
        raise exceptions.ConfigurationError(
            option=option, reason='is not set, but a cell mapping refers to it'
        )
    try:
        parts = _parts(source)
    except ValueError as exc:
        # NOTE: without the text of the error, which may contain part of the URL.
        raise exceptions.ConfigurationError(
            option=option, reason='is not a URL, but a cell mapping refers to it'
        ) from exc

    def replaced(hole: re.Match[str]) -> str:
        name = hole[1]
        if name is None:
            return hole[0][0]
        if name not in parts:
            return hole[0]
        value = parts[name]
        if value is None:
            raise exceptions.ConfigurationError(
                option=option, reason=f'has no {name}, but a cell mapping refers to it'
            )
        return value

    return _HOLE.sub(replaced, template)


def _parts(source: str) -> dict[str, str | None]:
    url = urllib.parse.urlsplit(source)
    parts: dict[str, str | None] = {
        'scheme': url.scheme,
        'path': url.path.lstrip('/'),
        'query': url.query,
        'fragment': url.fragment,
        **_of_netloc(url.netloc),
    }
    if ',' in url.netloc:
        for number, netloc in enumerate(url.netloc.split(','), start=1):
            parts |= {f'{name}{number}': value for name, value in _of_netloc(netloc).items()}
    return parts


def _of_netloc(netloc: str) -> dict[str, str | None]:
    # NOTE: without the attributes of urlsplit, which change the host to lower case and refuse a URL with
    # several hosts.
    login, _, address = netloc.rpartition('@')
    username, colon, password = login.partition(':')
    found = re.fullmatch(r'(\[[^\]]*\]|[^:]*)(?::(\d+))?', address)
    hostname, port = found.groups() if found else (address, None)
    return {
        'username': username or None,
        'password': password if colon else None,
        'hostname': hostname.strip('[]') or None,
        'port': port,
    }
