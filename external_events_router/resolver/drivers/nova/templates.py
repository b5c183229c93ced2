"""URLs of cell mappings that are templates: filled from the URLs that nova-api itself uses."""

from __future__ import annotations

import re
import urllib.parse

from external_events_router import exceptions

_HOLE = re.compile(r'\{\{|\}\}|\{(\w+)\}')


def fill(template: str, source: str | None, *, option: str) -> str:
    """The URL that a cell mapping means.

    A hole is a part of the source in braces: ``scheme``, ``username``,
    ``password``, ``hostname``, ``port``, ``path``, ``query`` or ``fragment``; where
    the source names several hosts, the first four of those but the scheme also with
    the number of the host behind, from 1. Anything else stays as it is.

    :param source: the URL that the holes refer to
    :param option: where the source is from, for the error
    :raises ConfigurationError: the source has not what a hole asks for, or is no URL
    """
    if '{' not in template:
        return template
    if not source:
        raise exceptions.ConfigurationError(
            option=option, reason='is not set, and a cell mapping refers to it'
        )
    try:
        parts = _parts(source)
    except ValueError as exc:
        # NOTE: not the error's own text, which may hold a part of the URL.
        raise exceptions.ConfigurationError(
            option=option, reason='is not a URL, and a cell mapping refers to it'
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
                option=option, reason=f'has no {name}, which a cell mapping refers to'
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
    # NOTE: not urlsplit's own attributes, which lower the host's case and refuse
    # a netloc of several hosts.
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
