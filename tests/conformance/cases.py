"""Requests and the answers they must get, from data files, against any implementation of the API.

A file of ``cases/`` is a YAML list. Each case::

    id: a description, with <variables> of its table
    table:                      # optional: a case per combination
      name: [network-changed, volume-extended]
    request:
      method: POST              # the default, as for the following members
      path: /v2.1/os-server-external-events
      version: "2.93"           # OpenStack-API-Version: compute 2.93
      headers: [[Name, value]]  # more headers; Content-Type is JSON by default
      events: [...]             # or json: any document, body: text, base64: bytes
      repeat: 100               # the events, so many times over
      pad: 1048576              # spaces behind the body, up to so many bytes
      chunked: true             # without a length
      roles: [reader]           # of the client; an empty list: without authentication
    answer:
      status: 207
      codes: [200, 404]         # of each event
      fault: badRequest         # the error's name; its code must be the status
      message: [events[0].tag]  # parts of the error message
      headers: {name: value}    # lower case; null: must be absent
      json: {...}               # the whole body
      has: {...}                # some members of it

``<placed>``, ``<cohost>``, ``<elsewhere>``, ``<unplaced>``, ``<migrating>``, ``<unknown>``,
``<project>`` and ``<stranger>`` (another project) stand for ids, ``<base>`` for the
URL of the API; ``|upper`` and ``|nodash`` after the name select another form.
"""

from __future__ import annotations

import base64
import copy
import dataclasses
import itertools
import json
import pathlib
import re

import yaml

FOLDER = pathlib.Path(__file__).parent
PATH = '/v2.1/os-server-external-events'

IDS = {
    'placed': 'a1f0c9d7-6e1f-4c89-8a51-2b4b6f0a7d01',
    'cohost': 'a1f0c9d7-6e1f-4c89-8a51-2b4b6f0a7d02',
    'elsewhere': 'a1f0c9d7-6e1f-4c89-8a51-2b4b6f0a7d03',
    'unplaced': 'a1f0c9d7-6e1f-4c89-8a51-2b4b6f0a7d04',
    'migrating': 'a1f0c9d7-6e1f-4c89-8a51-2b4b6f0a7d05',
    'unknown': 'a1f0c9d7-6e1f-4c89-8a51-2b4b6f0a7d06',
    # Of the differences: the map knew it once.
    'deleted': 'a1f0c9d7-6e1f-4c89-8a51-2b4b6f0a7d07',
    'project': 'fedcba9876543210fedcba9876543210',
    'stranger': '0123456789abcdef0123456789abcdef',
}

#: The host map that the cases are about.
HOSTS_OF = {
    IDS['placed']: ['host-a'],
    IDS['cohost']: ['host-a'],
    IDS['elsewhere']: ['host-b'],
    IDS['unplaced']: [],
    IDS['migrating']: ['host-a', 'host-b'],
}

#: More brackets than any parser takes.
DEEP = '[' * 100_000

_HOLE = re.compile(r'<([a-z_]+)(?:\|(upper|nodash))?>')
_FORMS = {'upper': str.upper, 'nodash': lambda text: text.replace('-', ''), None: str}


@dataclasses.dataclass(frozen=True)
class Request:
    """A request. ``roles`` None: an authorized client; empty: without authentication."""

    method: str
    path: str
    headers: list
    body: bytes | None
    chunked: bool
    roles: list | None


@dataclasses.dataclass(frozen=True)
class Answer:
    """A response; the names of its headers are in lower case."""

    status: int
    headers: dict
    body: bytes


@dataclasses.dataclass(frozen=True)
class Case:
    """A request, and the requirements for the answer."""

    id: str
    request: Request
    answer: dict


def load(name, base):
    """The cases of one file.

    :param base: the URL of the API that gets them
    :raises ValueError: two have the same id
    """
    cases = [case for entry in read(f'cases/{name}.yaml') for case in expand(entry, base)]
    if len({case.id for case in cases}) < len(cases):
        raise ValueError(f'two cases of {name} have the same id')
    return cases


def names():
    """The files."""
    return sorted(file.stem for file in (FOLDER / 'cases').glob('*.yaml'))


def read(path):
    """A YAML file of this folder."""
    return yaml.safe_load((FOLDER / path).read_text(encoding='utf-8'))


def expand(entry, base):
    """The cases of one entry: one, or one for each combination of its table."""
    words = {**IDS, 'base': base, 'deep': DEEP}
    table = fill(entry.get('table', {}), words)
    case = {key: value for key, value in entry.items() if key != 'table'}
    for values in itertools.product(*table.values()):
        filled = fill(case, {**words, **dict(zip(table, values, strict=True))})
        yield Case(filled['id'], _request(filled.get('request', {})), filled['answer'])


def fill(value, words):
    """A copy of a document with its holes filled."""
    if isinstance(value, dict):
        return {fill(key, words): fill(inner, words) for key, inner in value.items()}
    if isinstance(value, list):
        return [fill(inner, words) for inner in value]
    if not isinstance(value, str):
        return copy.deepcopy(value)
    whole = _HOLE.fullmatch(value)
    if whole and not whole[2] and not isinstance(words[whole[1]], str):
        return words[whole[1]]
    return _HOLE.sub(lambda hole: _FORMS[hole[2]](str(words[hole[1]])), value)


def _request(described):
    headers = [tuple(header) for header in described.get('headers', ())]
    if 'version' in described:
        headers.append(('OpenStack-API-Version', f'compute {described["version"]}'))
    if 'content-type' not in {name.lower() for name, _ in headers}:
        headers.append(('Content-Type', 'application/json'))
    return Request(
        described.get('method', 'POST'),
        described.get('path', PATH),
        headers,
        _body(described),
        described.get('chunked', False),
        described.get('roles'),
    )


def _body(described):
    if 'base64' in described:
        return base64.b64decode(described['base64'])
    if 'body' in described:
        body = described['body'].encode()
    elif 'json' in described:
        body = json.dumps(described['json']).encode()
    elif 'events' in described:
        body = json.dumps({'events': described['events'] * described.get('repeat', 1)}).encode()
    else:
        return None
    return body.ljust(described.get('pad', 0))


def problems(case, answer):
    """The violated requirements of an answer, as sentences; or an empty list."""
    want, found = case.answer, []

    def same(what, wanted, got):
        if wanted != got:
            found.append(f'{case.id}: {what} is {str(got)[:300]}, not {str(wanted)[:300]}')

    same('status', want['status'], answer.status)
    for name, value in want.get('headers', {}).items():
        same(f'header {name}', value, answer.headers.get(name))
    document = _document(answer.body)
    if 'codes' in want:
        events = document.get('events', ()) if isinstance(document, dict) else ()
        same('codes', want['codes'], [event['code'] for event in events])
        same('statuses', _statuses(want['codes']), [event['status'] for event in events])
    if 'fault' in want:
        name, inner = next(iter(document.items())) if isinstance(document, dict) else (None, {})
        same('fault', (want['fault'], want['status']), (name, inner.get('code')))
        for text in want.get('message', ()):
            if text not in inner.get('message', ''):
                found.append(f'{case.id}: no {text!r} in {inner.get("message")!r}')
    if 'json' in want:
        same('body', want['json'], document)
    if 'has' in want:
        same('body', document | want['has'], document)
    if 'text' in want:
        same('body', want['text'].encode(), answer.body)
    return found


def all_problems(cases, send):
    """The problems of the answers to all these cases, one line each.

    :param send: takes a :class:`Request`, gives an :class:`Answer`
    """
    return [problem for case in cases for problem in problems(case, send(case.request))]


def _statuses(codes):
    return ['completed' if code == 200 else 'failed' for code in codes]


def _document(body):
    try:
        return json.loads(body)
    except ValueError:
        return None
